package storetest

import (
	"testing"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

// testGranted holds a lease that was granted before its record to what one has that was granted after it.
func testGranted(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	made := NewLease("reader", "db")
	made.KeyHash, made.BodyHash, made.Revocation = []byte("key"), []byte("body"), "bounded"
	other := Move(t, s.Store, Insert(t, s.Store, NewLease("reader", "db"))[0], Start(), lease.Granted)
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		l := made
		_, err := tx.InsertGranted(&l, Start())
		if l.State != lease.Active {
			t.Errorf("recorded as %+v", l)
		}
		return err
	}))
	var l store.Lease
	View(t, s.Store, func(tx *store.Tx) (err error) {
		if l, err = tx.Lease(made.ID); err != nil {
			return err
		}
		if l.State != lease.Active || l.Revocation != "bounded" || l.Version != 1 || !l.ExpiresAt.Equal(made.ExpiresAt) {
			t.Errorf("read %+v", l)
		}
		positions, err := tx.Positions(made.ID)
		if err != nil || len(positions) != 2 {
			t.Errorf("it has the entries %v", positions)
		}
		tally, err := tx.Tally(store.Scope{Target: "db"})
		if err != nil || tally != (store.Tally{Active: 2}) {
			t.Errorf("the target has %+v", tally)
		}
		expired, err := tx.Expired(made.ExpiresAt, 10)
		if len(expired) != 2 {
			t.Errorf("%d leases have an expiry", len(expired))
		}
		return err
	})
	audit(t, db, s.Store)
	for _, one := range []store.Lease{l, other} {
		Move(t, s.Store, one, Start(), lease.Ended, lease.Proved)
	}
	audit(t, db, s.Store)
}
