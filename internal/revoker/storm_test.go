package revoker_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/target/targettest"
)

// A request that comes while very many leases end waits behind few of their records, and not behind all of them.
func TestAStormOfEndsLeavesRoomInTheStoresQueue(t *testing.T) {
	const targets, each = 8, 250
	w := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	var all []store.Lease
	for i := range targets {
		name := "db-" + strconv.Itoa(i)
		w.target(name, system)
		for range each {
			l := w.insert(name, time.Hour)
			w.move(&l, lease.Ended, lease.Released)
			all = append(all, l)
		}
	}
	w.run()
	longest := 0
	w.await("the end of all", func() bool {
		longest = max(longest, w.store.Waiting())
		return w.read(all[len(all)-1].ID).State == lease.Revoked
	})
	if longest > 64 { // the store's queue of such changes, and what is not about leases
		t.Errorf("%d records waited at once", longest)
	}
	for _, l := range all {
		w.awaitState(l.ID, lease.Revoked)
	}
}

// What a lease was when it was read is not what it is when it is moved: a renewal in between keeps it alive.
func TestALeaseThatWasRenewedMeanwhileDoesNotEnd(t *testing.T) {
	w := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	_, m := w.target("orders-db", system)
	read, _ := w.grant(m, "orders-db", time.Millisecond)
	w.await("its expiry", func() bool { return w.clock.Now().After(read.ExpiresAt) })
	renewed := w.read(read.ID)
	must(t, w.store.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Extend(&renewed, w.clock.Now().Add(time.Hour), w.clock.Now())
		return err
	}))
	must(t, w.revoker.EndAsExpired(t.Context(), read))
	if got := w.read(read.ID); got.State != lease.Active {
		t.Errorf("it is %s (%s), and was renewed until %s", got.State, got.Reason, got.ExpiresAt)
	}
}
