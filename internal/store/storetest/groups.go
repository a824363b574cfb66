package storetest

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

// together sends updates so that they meet in one group: the first holds the writer until the rest are queued.
func together(t testing.TB, s *store.Store, fns ...func(*store.Tx) error) []error {
	t.Helper()
	entered, queued := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.Update(t.Context(), func(*store.Tx) error {
			once.Do(func() { close(entered); <-queued })
			return nil
		})
	})
	<-entered
	errs := make([]error, len(fns))
	before := s.Waiting()
	for i, fn := range fns {
		wg.Go(func() { errs[i] = s.Update(t.Context(), fn) })
		for s.Waiting() < before+i+1 { // in the order of fns
			runtime.Gosched()
		}
	}
	close(queued)
	wg.Wait()
	return errs
}

func testIsolation(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	good, bad, after := NewLease("reader", "db"), NewLease("reader", "db"), NewLease("writer", "db")
	boom := errors.New("boom")
	insert := func(l store.Lease, err error) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			_, insertErr := tx.InsertLease(&l)
			return errors.Join(insertErr, err)
		}
	}
	errs := together(t, s.Store, insert(good, nil), insert(bad, boom), insert(good, nil), insert(after, nil),
		func(*store.Tx) error { return boom })
	if errs[0] != nil || !errors.Is(errs[1], boom) || errs[2] == nil || errs[3] != nil || !errors.Is(errs[4], boom) {
		t.Fatalf("got %v", errs)
	}
	View(t, s.Store, func(tx *store.Tx) error {
		_, err := tx.Lease(bad.ID)
		wantKind(t, err, fault.NotFound)
		live, err := tx.Live(store.Scope{Target: "db"})
		if live != 2 {
			t.Errorf("%d leases live", live)
		}
		return err
	})
	audit(t, db, s.Store)
}

func testPanic(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	good, bad := NewLease("reader", "db"), NewLease("reader", "db")
	errs := together(t, s.Store,
		func(tx *store.Tx) error { _, err := tx.InsertLease(&good); return err },
		func(tx *store.Tx) error {
			if _, err := tx.InsertLease(&bad); err != nil {
				return err
			}
			panic("out of cheese")
		})
	if errs[0] != nil || !fault.Is(errs[1], fault.Internal) {
		t.Fatalf("got %v", errs)
	}
	Insert(t, s.Store, NewLease("reader", "db"))
	audit(t, db, s.Store)
}

func testTalliesInGroup(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	const limit = 3
	insert := func(l store.Lease) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			if live, err := tx.Live(store.Scope{Role: l.Role}); err != nil || live >= limit {
				return errors.Join(err, fault.New(fault.TooMany, "acquire", "enough"))
			}
			_, err := tx.InsertLease(&l)
			return err
		}
	}
	var fns []func(*store.Tx) error
	for range 2 * limit {
		fns = append(fns, insert(NewLease("reader", "db")))
	}
	for i, err := range together(t, s.Store, fns...) {
		if (err == nil) != (i < limit) {
			t.Errorf("insert %d: %v", i, err)
		}
	}
	audit(t, db, s.Store)
}

func testConcurrent(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 12 {
				l := NewLease("role-"+strconv.Itoa(worker%3), "db-"+strconv.Itoa(i%2))
				l.Subject = "repo:" + strconv.Itoa(worker%4)
				if err := oneLife(t.Context(), s.Store, l, i%5); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	audit(t, db, s.Store)
	check(t, s.Stop())
	again := Serve(t, db, nil)
	audit(t, db, again.Store)
}

// oneLife records a lease and moves it by some steps; one of them fails after it wrote.
func oneLife(ctx context.Context, s *store.Store, l store.Lease, steps int) error {
	if err := s.Update(ctx, func(tx *store.Tx) error { _, err := tx.InsertLease(&l); return err }); err != nil {
		return err
	}
	for _, e := range lease.Events()[:min(steps, 3)] {
		spoil := errors.New("spoilt")
		for _, fail := range []error{spoil, nil} {
			err := s.Update(ctx, func(tx *store.Tx) error {
				moved, err := tx.Lease(l.ID)
				if err != nil {
					return err
				}
				if _, err := tx.Move(&moved, e, store.Why{Reason: lease.Expired, Now: l.CreatedAt}); err != nil {
					return err
				}
				return fail
			})
			if !errors.Is(err, fail) {
				return err
			}
		}
	}
	return nil
}

// testLater: of very many changes that can wait, few come before one that cannot, and all come in the end.
func testLater(t *testing.T, db Database) {
	const many = 300
	s := Serve(t, db, nil)
	entered, queued := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.Update(t.Context(), func(*store.Tx) error {
			once.Do(func() { close(entered); <-queued })
			return nil
		})
	})
	<-entered
	done, before := 0, -1 // of the writer
	for range many {
		wg.Go(func() {
			if err := s.UpdateLater(t.Context(), func(tx *store.Tx) error { done++; return tx.Probe() }); err != nil {
				t.Error(err)
			}
		})
	}
	waiting := 0
	for s.Waiting() > waiting || s.Waiting() == 0 { // until there is no room
		waiting = s.Waiting()
		runtime.Gosched()
	}
	wg.Go(func() {
		if err := s.Update(t.Context(), func(tx *store.Tx) error { before = done; return tx.Probe() }); err != nil {
			t.Error(err)
		}
	})
	for s.Waiting() < waiting+1 {
		runtime.Gosched()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantKind(t, s.UpdateLater(ctx, func(*store.Tx) error { t.Error("it ran"); return nil }), fault.StoreUnavailable)
	close(queued)
	wg.Wait()
	if before < 0 || before > 64 || done != many {
		t.Errorf("%d came before the one that could not wait, and %d in all", before, done)
	}
	check(t, s.Stop())
	wantKind(t, s.UpdateLater(t.Context(), func(*store.Tx) error { return nil }), fault.StoreUnavailable)
}
