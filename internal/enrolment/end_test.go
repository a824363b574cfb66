package enrolment_test

import (
	"testing"
	"time"

	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

func TestADeviceThatIsRemovedHoldsNothing(t *testing.T) {
	w := open(t, brokertest.Options{})
	_, key := w.enrol("pump-7")
	other, _ := w.enrol("pump-8")
	gone, stays := w.Acquired("pump-7", "reader"), w.Acquired("pump-8", "reader")
	out, err := w.Devices.Remove(t.Context(), brokertest.As("operator"), "edge", "pump-7")
	if err != nil || out.RemovedAt.IsZero() {
		t.Fatalf("got %+v, %v", out, err)
	}
	if l := w.Stored(gone.Lease.ID); l.State == lease.Active {
		t.Error("its lease is active when the removal is answered")
	}
	w.Ended(gone.Lease.ID, lease.Revoke)
	_, err = w.renew("pump-7", key, nil)
	refused(t, err, "counts no more")
	if _, err := w.Acquire(t.Context(), brokertest.Ask("pump-7", "reader")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("acquired afterwards: %v", err)
	}
	if l := w.Stored(stays.Lease.ID); l.State != lease.Active {
		t.Errorf("the lease of %s is %s", other.Name, l.State)
	}
	w.Audit()
}

func TestADevicePastItsTermHoldsNoLeaseForLong(t *testing.T) {
	w := open(t, brokertest.Options{})
	d, key := w.enrol("pump-7")
	held := w.Acquired("pump-7", "reader")
	d.Until = w.Now().Add(-time.Second)
	w.Change(func(tx *store.Tx) error { return tx.RenewDevice(d.Device) })
	w.Ended(held.Lease.ID, lease.Withdrawn)
	_, err := w.renew("pump-7", key, nil)
	refused(t, err, "counts no more")
	if _, err := w.Acquire(t.Context(), brokertest.Ask("pump-7", "reader")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("acquired afterwards: %v", err)
	}
}

// A crash between the removal and the end of the leases leaves the row, by which the next sweep finds them.
func TestWhatACrashLeftOfARemovalEnds(t *testing.T) {
	w := open(t, brokertest.Options{})
	d, _ := w.enrol("pump-7")
	held := w.Acquired("pump-7", "reader")
	w.Change(func(tx *store.Tx) error { return tx.RemoveDevice(d.IssuerURL, d.Name, w.Now()) })
	w.Ended(held.Lease.ID, lease.Revoke)
}

func TestADeviceThatIsGoneForLongIsForgotten(t *testing.T) {
	w := open(t, brokertest.Options{})
	old, _ := w.enrol("pump-7")
	late, _ := w.enrol("pump-8")
	w.Change(func(tx *store.Tx) error {
		if err := tx.RemoveDevice(late.IssuerURL, late.Name, w.Now()); err != nil {
			return err
		}
		old.Until = w.Now().Add(-91 * 24 * time.Hour)
		return tx.RenewDevice(old.Device)
	})
	w.Await("the device to be forgotten", func() bool {
		_, err := w.device("pump-7")
		return fault.Is(err, fault.NotFound)
	})
	if _, err := w.device("pump-8"); err != nil {
		t.Errorf("one that was removed just now: %v", err)
	}
}

func TestWhoMayListAndRemoveDevices(t *testing.T) {
	w := open(t, brokertest.Options{})
	w.enrol("pump-7")
	w.enrol("pump-8")
	for _, token := range []string{"alice", "pump-7"} {
		_, _, err := w.Devices.List(t.Context(), brokertest.As(token), "edge", "", 10)
		brokertest.Check(t, token+" lists", err, fault.Denied)
		_, err = w.Devices.Remove(t.Context(), brokertest.As(token), "edge", "pump-7")
		brokertest.Check(t, token+" removes", err, fault.Denied)
	}
	_, err := w.Devices.Remove(t.Context(), brokertest.As("operator"), "edge", "pump-9")
	brokertest.Check(t, "one that is not there", err, fault.NotFound)
	page, next, err := w.Devices.List(t.Context(), brokertest.As("operator"), "edge", "", 1)
	if err != nil || len(page) != 1 || page[0].Name != "pump-7" || page[0].Issuer != "edge" {
		t.Fatalf("the first page: %+v, %v", page, err)
	}
	if page, next, err = w.Devices.List(t.Context(), brokertest.As("operator"), "edge", next, 10); err != nil || len(page) != 1 || page[0].Name != "pump-8" || next != "" {
		t.Errorf("the second page: %+v, %q, %v", page, next, err)
	}
}
