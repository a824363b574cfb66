// Package storetest holds every database of the store to the same promises, and has what their tests and
// benchmarks need: faults at the driver, an audit of the invariants, and a million leases quickly.
//
// It imports the store and below, and is imported by tests only.
package storetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// Database is one database that belongs to a test: empty until Create.
type Database interface {
	// Create makes the store.
	Create(ctx context.Context, opt store.Options) error
	// Open opens the store; wrap, unless nil, goes around every connection.
	Open(ctx context.Context, opt store.Options, wrap func(driver.Connector) driver.Connector) (*store.Store, error)
	// Settles reports whether a store finds out what became of a commit whose answer was lost.
	Settles() bool
	// SQL opens the database beside the store, to look behind its back. The caller closes it.
	SQL() (*sql.DB, error)
}

// Origin is the ledger's name in these tests.
const Origin = "daypass.test/ledger"

// FixedSigner returns the ledger key of these tests: always the same, so that a store can be opened again.
func FixedSigner() (*ledger.Signer, error) {
	return ledger.NewSigner(Origin, []byte("an ed25519 seed only for testing"))
}

// Signer is FixedSigner where there is a test.
func Signer(t testing.TB) *ledger.Signer {
	t.Helper()
	signer, err := FixedSigner()
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// Start is the time of these tests: [NewLease] makes leases then.
func Start() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// Create makes the database's store.
func Create(t testing.TB, db Database) {
	t.Helper()
	if err := db.Create(t.Context(), store.Options{Signer: Signer(t)}); err != nil {
		t.Fatal(err)
	}
}

// Running is an open store whose writer runs.
type Running struct {
	*store.Store
	stop func() error
}

// Stop ends the writer and closes the store, and returns what Run returned. More calls do nothing.
func (r *Running) Stop() error { return r.stop() }

// Serve opens the database's store and runs it until Stop or the end of the test.
func Serve(t testing.TB, db Database, wrap func(driver.Connector) driver.Connector) *Running {
	t.Helper()
	return ServeWith(t, db, Signer(t), wrap)
}

// ServeWith is Serve with another ledger key.
func ServeWith(t testing.TB, db Database, signer *ledger.Signer, wrap func(driver.Connector) driver.Connector) *Running {
	t.Helper()
	s, err := db.Open(t.Context(), store.Options{Signer: signer}, wrap)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		err := <-ended
		if closed := s.Close(); err == nil {
			err = closed
		}
		return err
	})
	t.Cleanup(func() { _ = stop() }) // a test that cares has called it
	return &Running{s, stop}
}

// NewLease returns a pending lease of a role at a target, held by a principal of its own.
func NewLease(role, target string) store.Lease {
	id := lease.NewID(Start().Unix())
	token := make([]byte, 32)
	rand.Read(token)
	return store.Lease{
		ID: id, State: lease.Pending, Role: role, Target: target,
		Issuer: "github", IssuerURL: "https://token.actions.githubusercontent.com", Subject: "repo:acme/" + string(id[10:]),
		Claims: []byte(`{"repository":"acme/orders","ref":"refs/heads/main","run_id":"16442133"}`), Run: "16442133",
		Decision: "d" + string(id), Revision: "r1",
		CreatedAt: Start(), ExpiresAt: Start().Add(15 * time.Minute), RenewableUntil: Start().Add(time.Hour),
		NativeUntil: Start().Add(16 * time.Minute), Revocation: "instant", TokenHash: token,
	}
}

// Insert records leases and returns them as they stand.
func Insert(t testing.TB, s *store.Store, leases ...store.Lease) []store.Lease {
	t.Helper()
	stored := make([]store.Lease, len(leases))
	err := s.Update(t.Context(), func(tx *store.Tx) (err error) {
		for i, l := range leases {
			if _, err := tx.InsertLease(&l); err != nil {
				return err
			}
			if stored[i], err = tx.Lease(l.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// Move moves a lease by several events, one update each, and returns it as it stands.
func Move(t testing.TB, s *store.Store, l store.Lease, now time.Time, events ...lease.Event) store.Lease {
	t.Helper()
	for _, e := range events {
		var moved store.Lease
		err := s.Update(t.Context(), func(tx *store.Tx) error {
			moved = l
			_, err := tx.Move(&moved, e, store.Why{Reason: lease.Released, Now: now})
			return err
		})
		if err != nil {
			t.Fatal(fmt.Errorf("%s: %w", e, err))
		}
		l = moved
	}
	return l
}

// View runs fn on a snapshot and ends the test when it fails.
func View(t testing.TB, s *store.Store, fn func(tx *store.Tx) error) {
	t.Helper()
	if err := s.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}
