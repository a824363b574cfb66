package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/store"
)

func testSpent(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	now := Start()
	spend := func(kind, id string, at, until time.Time) (first bool) {
		t.Helper()
		check(t, s.Update(t.Context(), func(tx *store.Tx) (err error) {
			first, err = tx.Spend(kind, id, at, until)
			return err
		}))
		return first
	}
	soon := now.Add(time.Minute)
	if !spend("proof", "a", now, soon) || spend("proof", "a", now, soon) || spend("proof", "a", now, soon.Add(time.Hour)) {
		t.Error("an ID is good once")
	}
	if !spend("token", "a", now, soon) || !spend("proof", "b", now, soon) {
		t.Error("another kind, and another ID, are others")
	}
	if spend("proof", "c", soon, soon) {
		t.Error("what nobody takes any more cannot be used")
	}
	known := func(kind, id string, at time.Time) (spent bool) {
		View(t, s.Store, func(tx *store.Tx) (err error) {
			spent, err = tx.Spent(kind, id, at)
			return err
		})
		return spent
	}
	if !known("proof", "a", now) || known("proof", "a", soon) || known("proof", "z", now) {
		t.Error("what is told of used IDs is wrong")
	}
	if !spend("proof", "a", soon, soon.Add(time.Minute)) {
		t.Error("when its time is over an ID may come again")
	}
	// An update that fails uses nothing up.
	failed := errors.New("no")
	if err := s.Update(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Spend("proof", "undone", soon, soon.Add(time.Minute)); err != nil {
			return err
		}
		return failed
	}); !errors.Is(err, failed) {
		t.Errorf("an update that fails: %v", err)
	}
	if !spend("proof", "undone", soon, soon.Add(time.Minute)) {
		t.Error("an update that failed has used the ID up")
	}
}

func testSpentRace(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	var firsts atomic.Int64
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			var first bool // a group that is run again sets it again
			err := s.Update(t.Context(), func(tx *store.Tx) (err error) {
				first, err = tx.Spend("proof", "one", Start(), Start().Add(time.Minute))
				return err
			})
			if err != nil {
				t.Error(err)
			}
			if first {
				firsts.Add(1)
			}
		})
	}
	all.Wait()
	View(t, s.Store, func(tx *store.Tx) error {
		n, err := tx.SpentRows()
		if n != 1 || firsts.Load() != 1 {
			t.Errorf("%d rows, %d were the first", n, firsts.Load())
		}
		return err
	})
}

func testSpentSweeps(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	now := Start()
	for i := range 50 {
		check(t, s.Update(t.Context(), func(tx *store.Tx) error {
			for j := range 20 {
				now = now.Add(time.Second)
				if first, err := tx.Spend("proof", fmt.Sprint(i, j), now, now.Add(time.Minute)); !first || err != nil {
					return fmt.Errorf("%v, %w", first, err)
				}
			}
			return nil
		}))
	}
	View(t, s.Store, func(tx *store.Tx) error {
		n, err := tx.SpentRows()
		if n < 60 || n > 62 {
			t.Errorf("%d IDs are kept of a thousand that live a minute, one each second", n)
		}
		return err
	})
}
