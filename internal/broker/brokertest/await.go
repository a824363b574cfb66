package brokertest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/posture"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// patience is how long a desk waits for something. It is long even on a busy machine.
const patience = 60 * time.Second

// Must ends the test at an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Check fails unless an error is of a kind; the empty kind is none.
func Check(t testing.TB, what string, err error, want fault.Kind) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", what, err)
	case want != "" && !fault.Is(err, want):
		t.Errorf("%s: got %v, want %s", what, err, want)
	}
}

// DecisionOf is the decision that a denial names, or none.
func DecisionOf(err error) string {
	refusal, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return ""
	}
	return refusal.Decision
}

// Configure has an access configuration serve.
func (d *Desk) Configure(files access.Files) {
	d.t.Helper()
	_, err := d.Apply(d.t.Context(), Local(), files, "")
	Must(d.t, err)
}

// Acquired gets a lease.
func (d *Desk) Acquired(token, role string) broker.Acquired {
	d.t.Helper()
	acquired, err := d.Acquire(d.t.Context(), Ask(token, role))
	Must(d.t, err)
	return acquired
}

// Reported has the operator say something of a machine.
func (d *Desk) Reported(id, fields string, at time.Time) {
	d.t.Helper()
	_, err := d.Posture.Report(d.t.Context(), As("operator"), posture.Report{Source: "machine", ID: id, Fields: []byte(fields), ReportedAt: at})
	Must(d.t, err)
}

// Await polls until something is so.
func (d *Desk) Await(what string, so func() bool) {
	d.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-deadline:
			d.t.Fatalf("waited in vain for %s\n%s", what, d.Log())
		case <-tick.C:
		}
	}
}

// AwaitState waits for a lease to reach a state.
func (d *Desk) AwaitState(id lease.ID, state lease.State) (last store.Lease) {
	d.t.Helper()
	d.Await(fmt.Sprintf("lease %s to be %s", id, state), func() bool {
		last = d.Stored(id)
		return last.State == state
	})
	return last
}

// Ended waits for a lease to be revoked, and holds why.
func (d *Desk) Ended(id lease.ID, why lease.Reason) {
	d.t.Helper()
	if l := d.AwaitState(id, lease.Revoked); l.Reason != why {
		d.t.Errorf("the lease ended as %s, not as %s", l.Reason, why)
	}
}

// Lives holds that a lease is still active after everything there was to review.
func (d *Desk) Lives(id lease.ID) {
	d.t.Helper()
	d.Settled()
	if l := d.Stored(id); l.State != lease.Active {
		d.t.Errorf("the lease is %s (%s)", l.State, l.Reason)
	}
}

// Settled waits until nothing is left to be reviewed.
func (d *Desk) Settled() {
	d.t.Helper()
	d.Await("the reviews", func() (done bool) {
		d.Look(func(tx *store.Tx) error {
			revision, err := tx.Reviewed()
			if err != nil {
				return err
			}
			sources, err := tx.PostureTurns()
			done = revision == d.View().Revision && len(sources) == 0
			return err
		})
		return done
	})
}

// Look reads from the store.
func (d *Desk) Look(read func(*store.Tx) error) {
	d.t.Helper()
	Must(d.t, d.Store.View(context.Background(), read))
}

// Change writes to the store what nobody asked for.
func (d *Desk) Change(write func(*store.Tx) error) {
	d.t.Helper()
	Must(d.t, d.Store.Update(context.Background(), write))
}

// Stored is a lease as the store has it.
func (d *Desk) Stored(id lease.ID) (l store.Lease) {
	d.t.Helper()
	d.Look(func(tx *store.Tx) (err error) {
		l, err = tx.Lease(id)
		return err
	})
	return l
}

// Live lists the leases that the store says may live.
func (d *Desk) Live() map[string]lease.State {
	d.t.Helper()
	found := map[string]lease.State{}
	d.Look(func(tx *store.Tx) error {
		page, _, err := tx.Leases(store.Filter{Live: true}, "", 1000)
		for _, l := range page {
			found[string(l.ID)] = l.State
		}
		return err
	})
	return found
}

// Audit holds that what lives at the target is covered by a lease that will end it.
func (d *Desk) Audit() {
	d.t.Helper()
	live := d.Live()
	for _, id := range d.System.Leases() {
		if _, covered := live[id]; !covered {
			d.t.Errorf("credential %s lives at the target and no live lease covers it", id)
		}
	}
}

// Entries are those of the ledger, oldest first.
func (d *Desk) Entries() (all []ledger.Entry) {
	d.t.Helper()
	d.Look(func(tx *store.Tx) error {
		leaves, err := tx.Leaves(0, 10_000)
		for _, leaf := range leaves {
			entry, err := ledger.ParseLeaf(leaf)
			if err != nil {
				return err
			}
			all = append(all, entry)
		}
		return err
	})
	return all
}

// LedgerSize is how many entries the ledger has.
func (d *Desk) LedgerSize() (size int64) {
	d.t.Helper()
	d.Look(func(tx *store.Tx) (err error) {
		size, err = tx.LedgerSize()
		return err
	})
	return size
}
