package revoker_test

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

// world is a revoker with its real store over targets in memory.
type world struct {
	t       *testing.T
	path    string
	store   *store.Store
	fleet   *revoker.Fleet
	clock   *revoker.Clock
	revoker *revoker.Revoker
	stop    func()
}

// newWorld makes a store at path, or opens the one that is there, and runs its writer. The revoker does not run yet.
func newWorld(t *testing.T, path string) *world {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "daypass.db")
	}
	seed := sha256.Sum256([]byte("world"))
	signer, err := ledger.NewSigner("world.example.com/ledger", seed[:])
	must(t, err)
	opt := sqlite.Options{Options: store.Options{Signer: signer}, Ballast: -1}
	_ = sqlite.Create(t.Context(), path, opt) // a reopened world has one already
	s, err := sqlite.Open(t.Context(), path, opt)
	must(t, err)
	return worldOf(t, path, s)
}

// worldOf runs the writer of an open store.
func worldOf(t *testing.T, path string, s *store.Store) *world {
	t.Helper()
	w := &world{t: t, path: path, store: s, fleet: revoker.NewFleet(), clock: revoker.NewClock()}
	w.revoker = revoker.New(revoker.Config{Store: s, Fleet: w.fleet, Clock: w.clock, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("the store stopped: %v", err)
		}
	})
	w.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		must(t, s.Close())
	})
	t.Cleanup(w.stop)
	return w
}

// run starts the revoker.
func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = w.revoker.Run(ctx) })
	storeStop := w.stop
	w.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		storeStop()
	})
	w.t.Cleanup(w.stop)
}

// target adds a target in memory to the fleet.
func (w *world) target(name string, system *targettest.System) (*revoker.Member, *targettest.Memory) {
	m := targettest.NewMemory(system)
	member := revoker.NewMember(name, "memory", m)
	w.fleet.Put(member)
	return member, m
}

// insert records a pending lease.
func (w *world) insert(targetName string, ttl time.Duration) store.Lease {
	w.t.Helper()
	now := w.clock.Now()
	l := store.Lease{
		ID: lease.NewID(time.Now().Unix()), State: lease.Pending, Role: "reader", Target: targetName,
		Issuer: "ci", IssuerURL: "https://ci.example.com", Subject: "alice", Claims: []byte("{}"),
		Revision: "r1", Decision: "d1", CreatedAt: now, ExpiresAt: now.Add(ttl), NativeUntil: now.Add(ttl),
		RenewableUntil: now.Add(time.Hour), TokenHash: []byte(lease.NewID(time.Now().Unix())),
	}
	must(w.t, w.store.Update(w.t.Context(), func(tx *store.Tx) error {
		_, err := tx.InsertLease(&l)
		return err
	}))
	return w.read(l.ID)
}

// grant records an active lease and makes its credential.
func (w *world) grant(m target.Target, targetName string, ttl time.Duration) (store.Lease, target.Credential) {
	w.t.Helper()
	l := w.insert(targetName, ttl)
	credential, err := m.Grant(w.t.Context(), target.Grant{Lease: string(l.ID), Rights: targettest.MemoryRights(), TTL: time.Hour})
	must(w.t, err)
	w.move(&l, lease.Granted, "")
	return l, credential
}

func (w *world) move(l *store.Lease, e lease.Event, reason lease.Reason) {
	w.t.Helper()
	must(w.t, w.store.Update(w.t.Context(), func(tx *store.Tx) error {
		_, err := tx.Move(l, e, store.Why{Reason: reason, Now: w.clock.Now()})
		return err
	}))
}

// end moves a lease to revoking and wakes its queue.
func (w *world) end(l store.Lease) {
	w.t.Helper()
	w.move(&l, lease.Ended, lease.Released)
	w.revoker.Wake(l.Target)
}

func (w *world) read(id lease.ID) (l store.Lease) {
	w.t.Helper()
	must(w.t, w.store.View(context.Background(), func(tx *store.Tx) (err error) {
		l, err = tx.Lease(id)
		return err
	}))
	return l
}

func (w *world) awaitState(id lease.ID, state lease.State) store.Lease {
	w.t.Helper()
	var last store.Lease
	w.await("lease "+string(id)+" to be "+string(state), func() bool {
		last = w.read(id)
		return last.State == state
	})
	return last
}

func (w *world) await(what string, so func() bool) {
	w.t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-deadline:
			w.t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

// entries counts the ledger's entries of an event.
func (w *world) entries(event ledger.Event) (n int) {
	w.t.Helper()
	must(w.t, w.store.View(context.Background(), func(tx *store.Tx) error {
		n = 0
		leaves, err := tx.Leaves(0, 1000)
		for _, leaf := range leaves {
			entry, err := ledger.ParseLeaf(leaf)
			if err != nil {
				return err
			}
			if entry.Event == event {
				n++
			}
		}
		return err
	}))
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
