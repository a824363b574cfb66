package storetest

import (
	"errors"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

// story is one update that touches most tables.
func story(l store.Lease) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		if _, err := tx.Live(store.Scope{Role: l.Role}); err != nil {
			return err
		}
		if _, _, err := tx.MatchingLock(l, Start()); err != nil {
			return err
		}
		if _, err := tx.PutDecision(store.Decision{ID: l.Decision, At: Start(), Outcome: "allow"}); err != nil {
			return err
		}
		if _, err := tx.InsertLease(&l); err != nil {
			return err
		}
		stored, err := tx.Lease(l.ID)
		if err != nil {
			return err
		}
		_, err = tx.Move(&stored, lease.Granted, store.Why{Now: Start()})
		return err
	}
}

func testFaults(t *testing.T, db Database) {
	faults := &Faults{}
	for at, hit := 0, true; hit; at++ {
		for _, fate := range []Fault{NotDone, DoneLost} {
			faults.Decide(nil)
			s := Serve(t, db, faults.Wrap)
			l := NewLease("reader", "db")
			count := 0
			hit = false
			failedAt := ""
			faults.Decide(func(text string) Fault {
				if count++; count-1 == at {
					hit, failedAt = true, text
					return fate
				}
				return None
			})
			err := s.Update(t.Context(), story(l))
			faults.Decide(nil)
			if (err == nil) != (!hit || mends(db, failedAt, fate)) {
				t.Errorf("%q, fault %d: the update returned %v", failedAt, fate, err)
			}
			stopped := s.Stop()
			if stopped != nil && (failedAt != "commit" || db.Settles()) {
				t.Errorf("%q, fault %d: Run returned %v", failedAt, fate, stopped)
			}
			s = Serve(t, db, nil)
			View(t, s.Store, func(tx *store.Tx) error {
				_, err := tx.Lease(l.ID)
				want := !hit || mends(db, failedAt, fate) || failedAt == "commit" && fate == DoneLost
				if (err == nil) != want {
					t.Errorf("%q, fault %d: the lease is there: %v", failedAt, fate, err)
				}
				return nil
			})
			audit(t, db, s.Store)
			check(t, s.Stop())
		}
	}
}

// mends reports whether the store does what was asked of it in spite of a fault: it begins again on another
// connection, and may find out that a commit was done.
func mends(db Database, text string, fate Fault) bool {
	return strings.HasPrefix(text, "begin") || text == "commit" && fate == DoneLost && db.Settles()
}

func testUnknown(t *testing.T, db Database) {
	if db.Settles() {
		testSettled(t, db)
		return
	}
	for _, fate := range []Fault{NotDone, DoneLost} {
		faults := &Faults{}
		s := Serve(t, db, faults.Wrap)
		l := NewLease("reader", "db")
		faults.Decide(func(text string) Fault {
			if text == "commit" {
				return fate
			}
			return None
		})
		wantKind(t, s.Update(t.Context(), story(l)), fault.StoreUnavailable)
		wantKind(t, s.Update(t.Context(), story(NewLease("reader", "db"))), fault.StoreUnavailable)
		if err := s.Stop(); !errors.Is(err, store.ErrUnknown) {
			t.Errorf("Run returned %v", err)
		}
		s = Serve(t, db, nil)
		audit(t, db, s.Store)
		check(t, s.Stop())
	}
}

// testLostView: a connection breaks in the middle of a read. To try again is right, and works.
func testLostView(t *testing.T, db Database) {
	faults := &Faults{}
	s := Serve(t, db, faults.Wrap)
	l := Insert(t, s.Store, NewLease("reader", "db"))[0]
	for name, read := range map[string]func(*store.Tx) error{
		"of one row":     func(tx *store.Tx) error { _, err := tx.Lease(l.ID); return err },
		"of many rows":   func(tx *store.Tx) error { _, _, err := tx.Leases(store.Filter{}, "", 10); return err },
		"of another's":   func(tx *store.Tx) error { _, err := tx.LedgerSize(); return err },
		"passed on bare": func(tx *store.Tx) error { _, err := tx.Checkpoint(); return errors.Unwrap(err) },
	} {
		for _, fate := range []Fault{NotDone, DoneLost} {
			faults.Decide(func(text string) Fault {
				if strings.HasPrefix(text, "select") {
					return fate
				}
				return None
			})
			if err := s.View(t.Context(), read); !fault.Is(err, fault.StoreUnavailable) || !errors.Is(err, ErrInjected) {
				t.Errorf("a read %s, fault %d: %v", name, fate, err)
			}
			faults.Decide(nil)
			if err := s.View(t.Context(), read); err != nil {
				t.Errorf("a read %s after fault %d: %v", name, fate, err)
			}
		}
	}
	// What fn itself has to say stays what it is.
	boom := fault.New(fault.Denied, "read", "no")
	faults.Decide(func(text string) Fault { return map[bool]Fault{true: NotDone}[strings.HasPrefix(text, "select")] })
	wantKind(t, s.View(t.Context(), func(tx *store.Tx) error { _, _ = tx.Lease(l.ID); return boom }), fault.Denied)
	faults.Decide(nil)
	wantKind(t, s.View(t.Context(), func(tx *store.Tx) error { _, err := tx.Lease("none"); return err }), fault.NotFound)
}

// testSettled: whoever can be asked is asked, and nobody stops.
func testSettled(t *testing.T, db Database) {
	faults := &Faults{}
	s := Serve(t, db, faults.Wrap)
	for _, fate := range []Fault{NotDone, DoneLost} {
		once := false
		faults.Decide(func(text string) Fault {
			if text == "commit" && !once {
				once = true
				return fate
			}
			return None
		})
		l := NewLease("reader", "db")
		err := s.Update(t.Context(), story(l))
		if (err == nil) != (fate == DoneLost) {
			t.Errorf("fault %d: the update returned %v", fate, err)
		}
		View(t, s.Store, func(tx *store.Tx) error {
			_, found := tx.Lease(l.ID)
			if (found == nil) != (err == nil) {
				t.Errorf("fault %d: the answer was %v, and the lease is there: %v", fate, err, found)
			}
			return nil
		})
		check(t, s.Update(t.Context(), story(NewLease("reader", "db"))))
	}
	audit(t, db, s.Store)
	check(t, s.Stop())
}
