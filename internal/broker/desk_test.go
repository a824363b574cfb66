package broker_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/posture"
	"github.com/daypass/daypass/internal/review"
	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target/targettest"
)

const (
	files = `
kind: Issuer
name: ci
oidc: {url: "https://ci.example.com"}
claims: {team: string, level: long?}
---
kind: Issuer
name: ops
oidc: {url: "https://ops.example.com"}
claims: {team: string}
---
kind: Target
name: vault
memory: {}
---
kind: Role
name: reader
target: vault
ttl: {default: 10m, max: 30m}
limits: {live: 100, per_principal: 20}
renew: handle
memory: {}
---
kind: Role
name: writer
target: vault
ttl: {default: 10m, max: 30m, over: refuse}
memory: {}
`
	policies = `
@id("payments-read")
permit (principal is Workload, action in [Action::"acquire", Action::"renew"], resource == Role::"reader")
when { principal.claims.team == "payments" };

@id("payments-write")
permit (principal is Workload, action == Action::"acquire", resource == Role::"writer")
when { principal.claims.team == "payments" };

permit (principal in Issuer::"ops", action in [Action::"read", Action::"lock", Action::"configure", Action::"revoke"], resource);
`
)

// desk is a broker with its real store, revoker and policies, over a target in memory. Tokens are the names of
// workloads that it knows.
type desk struct {
	*admission.Guard
	*broker.Broker
	posture  *posture.Records
	reviews  *review.Reviews
	t        testing.TB
	store    *store.Store
	revoker  *revoker.Revoker
	fleet    *revoker.Fleet
	member   *revoker.Member
	target   *targettest.Memory
	system   *targettest.System
	verifier *workloads
	path     string
	stop     func()
	places   places
}

// options change a desk before it starts.
type options struct {
	limits broker.Limits
	path   string
	system *targettest.System
}

func open(t testing.TB, opt options) *desk {
	t.Helper()
	if opt.path == "" {
		opt.path = filepath.Join(t.TempDir(), "daypass.db")
	}
	if opt.system == nil {
		opt.system = targettest.NewSystem(time.Now)
	}
	seed := sha256.Sum256([]byte("desk"))
	signer, err := ledger.NewSigner("desk.example.com/ledger", seed[:])
	must(t, err)
	stored := sqlite.Options{Options: store.Options{Signer: signer}, Ballast: -1}
	if _, err := filepath.Glob(opt.path); err == nil {
		_ = sqlite.Create(t.Context(), opt.path, stored) // reopened desks have one already
	}
	s, err := sqlite.Open(t.Context(), opt.path, stored)
	must(t, err)

	d := &desk{t: t, store: s, path: opt.path, system: opt.system, fleet: revoker.NewFleet()}
	d.target = targettest.NewMemory(opt.system)
	d.member = revoker.NewMember("vault", "memory", d.target)
	d.verifier = &workloads{known: map[string]identity.Principal{
		"alice":    workload("ci", "alice", map[string]any{"team": "payments"}),
		"bob":      workload("ci", "bob", map[string]any{"team": "payments"}),
		"mallory":  workload("ci", "mallory", map[string]any{"team": "visitors"}),
		"operator": workload("ops", "operator", map[string]any{"team": "platform"}),
	}}
	clock := revoker.NewClock()
	log := slog.New(slog.DiscardHandler)
	d.revoker = revoker.New(revoker.Config{Store: s, Fleet: d.fleet, Clock: clock, Log: log})
	d.Guard = admission.New(admission.Config{
		Store: s, Ender: d.revoker, Builder: d, Admins: []string{"ops"}, Now: clock.Now, Log: log,
		Locate: func(address netip.Addr) (country, subdivision string) { return d.places.of(address), "" },
	})
	d.Broker = broker.New(broker.Config{
		Guard: d.Guard, Store: s, Fleet: d.fleet, Revoker: d.revoker, Clock: clock, NewKey: newKey, Limits: opt.limits, Log: log,
	})
	d.posture = posture.New(posture.Config{Guard: d.Guard, Store: s, Now: clock.Now})
	d.reviews = review.New(review.Config{
		Guard: d.Guard, Store: s, Activated: d.Activated(), Posture: d.posture.Changed(), Wake: d.revoker.Wake, Now: clock.Now, Log: log,
	})
	d.run()
	must(t, d.Load(t.Context()))
	return d
}

// places are the countries of addresses.
type places struct{ known sync.Map }

func (p *places) of(address netip.Addr) string {
	country, _ := p.known.Load(address.String())
	code, _ := country.(string)
	return code
}

// start opens a desk whose access configuration is active.
func start(t testing.TB, opt options) *desk {
	t.Helper()
	d := open(t, opt)
	_, err := d.Apply(t.Context(), local, configuration(), "")
	must(t, err)
	return d
}

func configuration() access.Files {
	return access.Files{"access.yaml": files, "policies.cedar": policies}
}

// run starts the store's writer and the revoker, and arranges that they end before the test does.
func (d *desk) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	writing, stopWriting := context.WithCancel(context.Background())
	var writer sync.WaitGroup
	writer.Go(func() {
		if err := d.store.Run(writing); err != nil {
			d.t.Errorf("the store stopped: %v", err)
		}
	})
	running.Go(func() { _ = d.revoker.Run(ctx) })
	running.Go(func() { _ = d.Guard.Run(ctx) })
	running.Go(func() { _ = d.reviews.Run(ctx) })
	d.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		stopWriting()
		writer.Wait()
		if err := d.store.Close(); err != nil {
			d.t.Errorf("close the store: %v", err)
		}
	})
	d.t.Cleanup(d.stop)
}

// Build implements [admission.Builder].
func (d *desk) Build(_ context.Context, revision string, f access.Files) (*admission.View, error) {
	kind := access.Kind{Settings: empty, Rights: func(access.Section) (any, error) { return map[string]bool{"read": true}, nil }}
	cfg, err := access.Parse(f, access.Kinds{Targets: map[string]access.Kind{"memory": kind}})
	if err != nil {
		return nil, err
	}
	engine, err := policy.Compile(cfg, nil)
	if err != nil {
		return nil, err
	}
	return &admission.View{Revision: cfg.Hash, Access: cfg, Policy: engine, Verifier: d.verifier}, nil
}

func empty(s access.Section) (any, error) {
	var none struct{}
	return none, s.Decode(&none)
}

// Deploy implements [admission.Builder].
func (d *desk) Deploy(context.Context, *admission.View) ([]string, error) {
	d.fleet.Put(d.member)
	return nil, nil
}

// workloads verifies tokens that are names.
type workloads struct {
	mu    sync.Mutex
	known map[string]identity.Principal
	err   error
}

// shown is a token as evidence.
func shown(token secret.Text) admission.Evidence { return admission.Evidence{Token: token} }

// Relied implements [admission.Verifier].
func (w *workloads) Relied(string) time.Duration { return 0 }

// VerifyCertificate implements [identity.CertificateVerifier].
func (w *workloads) VerifyCertificate(context.Context, []*x509.Certificate) (identity.Principal, error) {
	return identity.Principal{}, identity.ErrRejected
}

// Verify implements [identity.Verifier].
func (w *workloads) Verify(_ context.Context, evidence secret.Text) (identity.Principal, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return identity.Principal{}, w.err
	}
	p, ok := w.known[evidence.Reveal()]
	if !ok {
		return identity.Principal{}, fmt.Errorf("unknown workload: %w", identity.ErrRejected)
	}
	p.Claims = maps.Clone(p.Claims)
	return p, nil
}

func workload(issuer, subject string, claims map[string]any) identity.Principal {
	return identity.Principal{Issuer: issuer, IssuerURL: "https://" + issuer + ".example.com", Subject: subject, Claims: claims}
}

var (
	local  = admission.Caller{Local: true, UID: 0}
	origin = admission.Origin{Request: "r", SourceIP: netip.MustParseAddr("192.0.2.7")}
)

// as is a caller with a token.
func as(token string) admission.Caller {
	return admission.Caller{Evidence: shown(secret.New(token)), Origin: origin}
}

// ask is a request for a role.
func ask(token, role string) broker.AcquireRequest {
	return broker.AcquireRequest{Evidence: shown(secret.New(token)), Role: role, Origin: origin}
}

// acquire gets a lease or fails the test.
func (d *desk) acquire(token, role string) broker.Acquired {
	d.t.Helper()
	acquired, err := d.Acquire(d.t.Context(), ask(token, role))
	must(d.t, err)
	return acquired
}

// awaitState waits for a lease to reach a state.
func (d *desk) awaitState(id lease.ID, state lease.State) store.Lease {
	d.t.Helper()
	var last store.Lease
	d.await(fmt.Sprintf("lease %s to be %s", id, state), func() bool {
		last = d.read(id)
		return last.State == state
	})
	return last
}

func (d *desk) read(id lease.ID) (l store.Lease) {
	d.t.Helper()
	must(d.t, d.store.View(context.Background(), func(tx *store.Tx) (err error) {
		l, err = tx.Lease(id)
		return err
	}))
	return l
}

// await polls until something is so. It gives up after what is long even on a busy machine.
func (d *desk) await(what string, so func() bool) {
	d.t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-deadline:
			d.t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

// live lists the leases that the store says may live.
func (d *desk) live() map[string]lease.State {
	d.t.Helper()
	found := map[string]lease.State{}
	must(d.t, d.store.View(context.Background(), func(tx *store.Tx) error {
		page, _, err := tx.Leases(store.Filter{Live: true}, "", 1000)
		for _, l := range page {
			found[string(l.ID)] = l.State
		}
		return err
	}))
	return found
}

// audit holds promise 1: what lives at the target is covered by a lease that will end it.
func (d *desk) audit() {
	d.t.Helper()
	live := d.live()
	for _, id := range d.system.Leases() {
		if _, covered := live[id]; !covered {
			d.t.Errorf("credential %s lives at the target and no live lease covers it", id)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func decode(t testing.TB, data []byte) (v any) {
	t.Helper()
	must(t, json.Unmarshal(data, &v))
	return v
}
