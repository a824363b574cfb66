// Package brokertest is a front desk for tests: the broker and the rooms beside it over a real store, with the real
// revoker, policies and signers, and a target in memory.
//
// Nothing of ours is replaced but two things at the edges: tokens are the names of workloads that the desk knows, and
// places of addresses are what a test says. A desk promises to have come to rest before its test ends.
//
// It is for tests of those rooms. It must not import the edge or the server.
package brokertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/identity/device"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/enrolment"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/issuer/issuertest"
	"github.com/daypass/daypass/internal/kind"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/posture"
	"github.com/daypass/daypass/internal/review"
	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

// URL is what the desk's server calls itself.
const URL = issuertest.URL

// Desk is a broker with the rooms beside it. Its tokens are the names of [Workloads].
type Desk struct {
	*admission.Guard
	*broker.Broker
	Devices   *enrolment.Register
	Posture   *posture.Records
	Reviews   *review.Reviews
	Store     *store.Store
	Revoker   *revoker.Revoker
	Issuer    *issuer.Issuer
	Target    *targettest.Memory
	System    *targettest.System // what the target's credentials open
	Workloads *Workloads
	Places    *Places
	Stop      func() // ends everything; the test's end does it otherwise

	t     testing.TB
	path  string
	clock *revoker.Clock
	log   bytes.Buffer // guarded by logging
	fleet *revoker.Fleet

	logging  sync.Mutex
	deployed sync.Mutex // guards member
	member   *revoker.Member
}

// Options change a desk before it starts.
type Options struct {
	Limits     broker.Limits
	Conditions string  // as of [admission.Config]
	Reports    float64 // as of [posture.Config]
	Renewals   float64 // as of [enrolment.Config]
	Former     *Desk   // one that has stopped, whose store and system this one takes over
}

// Start opens a desk on which [Configuration] serves.
func Start(t testing.TB, opt Options) *Desk {
	t.Helper()
	d := Open(t, opt)
	d.Configure(Configuration())
	return d
}

// StartWith opens a desk on which a configuration serves.
func StartWith(t testing.TB, files access.Files) *Desk {
	t.Helper()
	d := Open(t, Options{})
	d.Configure(files)
	return d
}

// Open opens a desk without an access configuration, or that of the one before it.
func Open(t testing.TB, opt Options) *Desk {
	t.Helper()
	d := &Desk{t: t, clock: revoker.NewClock(), fleet: revoker.NewFleet(), Workloads: newWorkloads(), Places: &Places{}}
	if opt.Former != nil {
		d.path, d.System = opt.Former.path, opt.Former.System
	} else {
		d.path, d.System = filepath.Join(t.TempDir(), "daypass.db"), targettest.NewSystem(d.clock.Now)
	}
	d.openStore()
	d.Target = targettest.NewMemory(d.System)
	d.member = revoker.NewMember("vault", "memory", d.Target)
	log := slog.New(slog.NewTextHandler(d, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d.Revoker = revoker.New(revoker.Config{Store: d.Store, Fleet: d.fleet, Clock: d.clock, Log: log})
	d.Issuer = issuertest.NewKeys(t).Open(issuer.Config{Now: d.clock.Now})
	seed := sha256.Sum256([]byte("nonces"))
	tokens := accesstoken.New(accesstoken.Config{
		Issuer: d.Issuer, Audience: URL, TTL: time.Hour, Proofs: dpop.NewVerifier(dpop.Config{Key: seed[:], Now: d.clock.Now}), Now: d.clock.Now,
	})
	d.Guard = admission.New(admission.Config{
		Store: d.Store, Ender: d.Revoker, Builder: d, Tokens: tokens, Admins: []string{"ops"}, Locate: d.Places.of,
		Conditions: opt.Conditions, Now: d.clock.Now, Log: log,
	})
	d.Broker = broker.New(broker.Config{
		Guard: d.Guard, Store: d.Store, Fleet: d.fleet, Revoker: d.Revoker, Clock: d.clock, NewKey: newKey,
		Issuer: d.Issuer, Tokens: tokens, Limits: opt.Limits, Log: log,
	})
	d.Devices = enrolment.New(enrolment.Config{
		Guard: d.Guard, Signer: d.Issuer, Store: d.Store, Ender: d.Revoker, Key: device.CheckKey, Rate: opt.Renewals, Now: d.clock.Now, Log: log,
	})
	d.Posture = posture.New(posture.Config{Guard: d.Guard, Store: d.Store, Rate: opt.Reports, Now: d.clock.Now})
	d.Reviews = review.New(review.Config{
		Guard: d.Guard, Store: d.Store, Activated: d.Activated(), Posture: d.Posture.Changed(), Wake: d.Revoker.Wake, Now: d.clock.Now, Log: log,
	})
	d.run()
	Must(t, d.Load(t.Context()))
	return d
}

// openStore opens the file, and makes it where there is none.
func (d *Desk) openStore() {
	d.t.Helper()
	seed := sha256.Sum256([]byte("desk"))
	signer, err := ledger.NewSigner("desk.example.com/ledger", seed[:])
	Must(d.t, err)
	stored := sqlite.Options{Options: store.Options{Signer: signer}, Ballast: -1}
	if _, err := os.Stat(d.path); err != nil {
		Must(d.t, sqlite.Create(d.t.Context(), d.path, stored))
	}
	d.Store, err = sqlite.Open(d.t.Context(), d.path, stored)
	Must(d.t, err)
}

// newKey makes keys that nobody seals: no desk starts again after a rotation.
func newKey(origin string) (store.Rotation, error) {
	signer, _, err := ledger.GenerateSigner(origin)
	return store.Rotation{Signer: signer, Name: "ledger-key", Sealed: []byte("sealed")}, err
}

// run starts what a server runs, and arranges that it ends before the test does: the store last.
func (d *Desk) run() {
	ctx, cancel := context.WithCancel(context.Background())
	writing, stopWriting := context.WithCancel(context.Background())
	var running, writer sync.WaitGroup
	writer.Go(func() {
		if err := d.Store.Run(writing); err != nil {
			d.t.Errorf("the store stopped: %v", err)
		}
	})
	for _, part := range []func(context.Context) error{d.Revoker.Run, d.Guard.Run, d.Devices.Run, d.Reviews.Run} {
		running.Go(func() { _ = part(ctx) })
	}
	d.Stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		stopWriting()
		writer.Wait()
		if err := d.Store.Close(); err != nil {
			d.t.Errorf("close the store: %v", err)
		}
	})
	d.t.Cleanup(d.Stop)
}

// Build implements [admission.Builder].
func (d *Desk) Build(_ context.Context, revision string, f access.Files) (*admission.View, error) {
	kinds := kind.All(kind.Allowed{}).With(map[string]target.Target{"memory": d.Target})
	cfg, err := access.Parse(f, kinds.Access())
	if err != nil {
		return nil, err
	}
	engine, err := policy.Compile(cfg, nil)
	if err != nil {
		return nil, err
	}
	return &admission.View{Revision: cfg.Hash, Access: cfg, Policy: engine, Verifier: d.Workloads}, nil
}

// Deploy implements [admission.Builder].
func (d *Desk) Deploy(context.Context, *admission.View) ([]string, error) {
	d.deployed.Lock()
	defer d.deployed.Unlock()
	d.fleet.Put(d.member)
	return nil, nil
}

// Aim puts another target in the place of the one in memory.
func (d *Desk) Aim(at target.Target) {
	d.deployed.Lock()
	defer d.deployed.Unlock()
	d.member = revoker.NewMember("vault", "memory", at)
	d.fleet.Put(d.member)
}

// Write adds to the log.
func (d *Desk) Write(p []byte) (int, error) {
	d.logging.Lock()
	defer d.logging.Unlock()
	return d.log.Write(p)
}

// Log is all that was logged until now.
func (d *Desk) Log() string {
	d.logging.Lock()
	defer d.logging.Unlock()
	return d.log.String()
}

// Now is the time by the desk's clock.
func (d *Desk) Now() time.Time { return d.clock.Now() }
