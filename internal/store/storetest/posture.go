package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

func healthy(id string, at time.Time) store.PostureRecord {
	return store.PostureRecord{Source: "device", ID: id, Fields: []byte(`{"healthy":true}`), ReportedAt: at, ReportedBy: "fleet:reporter"}
}

// changes lists the records whose leases were not looked at.
func changes(t *testing.T, s *store.Store) (ids []string, last int64) {
	t.Helper()
	View(t, s, func(tx *store.Tx) error {
		sources, err := tx.PostureTurns()
		if err != nil || len(sources) == 0 {
			return err
		}
		found, err := tx.PostureChanged("device", 100)
		for _, r := range found {
			ids, last = append(ids, r.ID), r.Turn
		}
		return err
	})
	return ids, last
}

func testPosture(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	put := func(r store.PostureRecord) (got store.PostureRecord, err error) {
		return got, s.Update(t.Context(), func(tx *store.Tx) (err error) {
			got, err = tx.PutPosture(r, 3)
			return err
		})
	}
	for _, id := range []string{"a", "b", "c"} {
		_, err := put(healthy(id, Start()))
		check(t, err)
	}
	if _, err := put(healthy("d", Start())); !fault.Is(err, fault.TooMany) {
		t.Errorf("a fourth of three: %v", err)
	}
	ids, last := changes(t, s.Store)
	if !slices.Equal(ids, []string{"a", "b", "c"}) {
		t.Errorf("changed: %v", ids)
	}
	reviewed := func(turn int64) {
		check(t, s.Update(t.Context(), func(tx *store.Tx) error { return tx.PostureReviewed("device", turn) }))
	}
	reviewed(last)
	// The same again is no change, and what was reported earlier changes nothing.
	_, err := put(healthy("a", Start().Add(time.Minute)))
	check(t, err)
	sick := healthy("a", Start().Add(time.Second))
	sick.Fields = []byte(`{"healthy":false}`)
	if got, err := put(sick); err != nil || string(got.Fields) != `{"healthy":true}` {
		t.Errorf("an early report: %+v, %v", got, err)
	}
	if ids, _ := changes(t, s.Store); len(ids) != 0 {
		t.Errorf("changed: %v", ids)
	}
	sick.ReportedAt = Start().Add(time.Hour)
	_, err = put(sick)
	check(t, err)
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		there, err := tx.DropPosture("device", "b")
		if again, _ := tx.DropPosture("device", "b"); !there || again {
			t.Errorf("taken back: %v, and again %v", there, again)
		}
		return err
	}))
	if ids, last = changes(t, s.Store); !slices.Equal(ids, []string{"a", "b"}) {
		t.Errorf("changed: %v", ids)
	}
	_, err = put(healthy("d", Start())) // there is room again
	check(t, err)
	reviewed(last)
	if ids, _ = changes(t, s.Store); !slices.Equal(ids, []string{"d"}) {
		t.Errorf("changed: %v", ids)
	}
	View(t, s.Store, func(tx *store.Tx) error {
		if _, found, err := tx.Posture("device", "b"); found || err != nil {
			t.Errorf("what was taken back is there: %v", err)
		}
		page, next, err := tx.Postures("device", "", 2)
		if err != nil || len(page) != 2 || next != "c" || page[0].ReportedBy != "fleet:reporter" || !page[0].ReportedAt.Equal(Start().Add(time.Hour)) {
			t.Errorf("page: %+v, %q, %v", page, next, err)
		}
		return nil
	})
	audit(t, db, s.Store)
}

func testPostureAge(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		for i := range 5 {
			if _, err := tx.PutPosture(healthy(fmt.Sprint(i), Start().Add(time.Duration(i)*time.Minute)), 10); err != nil {
				return err
			}
		}
		return tx.PostureReviewed("device", 5)
	}))
	age := func(before time.Time) (n int) {
		check(t, s.Update(t.Context(), func(tx *store.Tx) (err error) {
			n, err = tx.AgePosture("device", before, 2)
			return err
		}))
		return n
	}
	before := Start().Add(150 * time.Second) // three are older
	if a, b, c := age(before), age(before), age(before); a != 2 || b != 1 || c != 0 {
		t.Errorf("aged %d, %d, %d", a, b, c)
	}
	if ids, _ := changes(t, s.Store); !slices.Equal(ids, []string{"0", "1", "2"}) {
		t.Errorf("changed: %v", ids)
	}
	// Believed for longer, they grow old once more.
	check(t, s.Update(t.Context(), func(tx *store.Tx) error { return tx.FreshenPosture("device", Start().Add(time.Minute)) }))
	if n := age(before); n != 2 {
		t.Errorf("%d of the two that were freshened", n)
	}
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		n, err := tx.ForgetPosture(Start().Add(90*time.Second), 10)
		if n != 2 {
			t.Errorf("forgot %d", n)
		}
		return err
	}))
	audit(t, db, s.Store)
}

func testPostureLeases(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	var ids []lease.ID
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		for range 5 {
			l := NewLease("reader", "db")
			if _, err := tx.InsertLease(&l); err != nil {
				return err
			}
			for range 2 { // twice is once
				if err := tx.WatchPosture("device", "a", l.ID); err != nil {
					return err
				}
			}
			ids = append(ids, l.ID)
		}
		l, err := tx.Lease(ids[1])
		if err != nil {
			return err
		}
		_, err = tx.MoveAll(&l, store.Why{Reason: lease.Policy, Now: Start()}, lease.Ended, lease.Proved)
		return err
	}))
	slices.Sort(ids)
	count := func() (n int) {
		View(t, s.Store, func(tx *store.Tx) error {
			for cursor := ""; ; {
				page, next, err := tx.PostureLeases("device", "a", cursor, 2)
				if err != nil {
					return err
				}
				n += len(page)
				if cursor = next; next == "" {
					return nil
				}
			}
		})
		return n
	}
	if n := count(); n != 4 {
		t.Errorf("%d leases live", n)
	}
	pages := 0
	for from := []string(nil); pages == 0 || from != nil; pages++ {
		check(t, s.Update(t.Context(), func(tx *store.Tx) (err error) {
			from, err = tx.PrunePosture(from, 2)
			return err
		}))
	}
	if n := count(); n != 4 || pages != 3 {
		t.Errorf("%d leases live after %d pages", n, pages)
	}
	View(t, s.Store, func(tx *store.Tx) error {
		page, _, err := tx.PostureLeases("device", "a", "", 10)
		if len(page) != 4 {
			t.Errorf("notes: %d", len(page))
		}
		return err
	})
	audit(t, db, s.Store)
}

func testReview(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	var leases []store.Lease
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		for i := range 120 { // more than one statement reads
			l := NewLease("reader", "db")
			l.Decision = fmt.Sprint("d", i)
			if i != 7 { // whose decision is kept no more
				if _, err := tx.PutDecision(store.Decision{ID: l.Decision, At: Start(), Outcome: "allow", Input: []byte(l.Decision)}); err != nil {
					return err
				}
			}
			if _, err := tx.InsertLease(&l); err != nil {
				return err
			}
			leases = append(leases, l)
		}
		if _, err := tx.PutDecision(store.Decision{ID: "renewed", At: Start(), Outcome: "allow", Input: []byte("renewed")}); err != nil {
			return err
		}
		version := leases[3].Version
		if err := tx.Redecide(&leases[3], "renewed"); err != nil || leases[3].Version != version {
			t.Errorf("the lease has version %d: %v", leases[3].Version, err)
		}
		return tx.SetReviewed("r1")
	}))
	View(t, s.Store, func(tx *store.Tx) error {
		if l, err := tx.Lease(leases[3].ID); err != nil || l.Decision != "renewed" {
			t.Errorf("the lease stands on %q: %v", l.Decision, err)
		}
		if revision, err := tx.Reviewed(); err != nil || revision != "r1" {
			t.Errorf("reviewed by %q: %v", revision, err)
		}
		if _, some, err := tx.OldestPosture("device"); some || err != nil {
			t.Errorf("posture from nowhere: %v", err)
		}
		inputs, err := tx.DecisionInputs(leases)
		if err != nil || len(inputs) != 119 || inputs[leases[7].ID] != nil {
			t.Errorf("%d inputs: %v", len(inputs), err)
		}
		for i, l := range leases {
			if got := string(inputs[l.ID]); i != 7 && got != l.Decision {
				t.Errorf("lease %d was decided on %q", i, got)
			}
		}
		return nil
	})
	audit(t, db, s.Store)
}
