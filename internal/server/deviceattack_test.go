package server_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
)

// A token for a name may be about from before the device of that name was removed, perhaps since it was stolen: nobody
// knows all of them, and so the removal ends them.
func TestAnEnrolmentTokenFromBeforeTheRemovalGivesTheNameToNobody(t *testing.T) {
	r := newRig(t).withDevices(t).start(t)
	r.enrol(t, "pump-7")
	kept := r.invite(t, api.InvitationRequest{Name: "pump-7"})
	if _, err := r.administrator(t).RemoveDevice(t.Context(), "edge", "pump-7"); err != nil {
		t.Fatal(err)
	}
	_, err := r.anybody(t).EnrolDevice(t.Context(), kept, newDeviceKey(t))
	refused(t, err, http.StatusUnauthorized, "before the device of that name was removed")
	d, key := r.enrol(t, "pump-7") // by a token of afterwards, made at once
	acquire(t, r.machine(t, d, key))
}

// Renewals are counted, so that nobody fills the ledger with them. What strangers ask for in a device's name must not be
// counted as the device's: it could renew neither itself nor its leases.
func TestAStrangerCannotUseUpTheRenewalsOfADevice(t *testing.T) {
	r := newRig(t).withDevices(t)
	r.cfg.Limits.AcquireRate = 0.01 // one of each kind, in the time of this test
	r.start(t)
	d, key := r.enrol(t, "pump-7")
	lease := acquire(t, r.machine(t, d, key))
	for range 3 {
		_, err := r.anybody(t).RenewDevice(t.Context(), "edge", "pump-7", newDeviceKey(t), nil)
		refused(t, err, http.StatusUnauthorized, "no such device with this key")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := lease.Renew(ctx, nil); err != nil {
		t.Errorf("the device renews its lease: %v", err)
	}
	if _, err := r.anybody(t).RenewDevice(ctx, "edge", "pump-7", key, nil); err != nil {
		t.Errorf("the device renews its term: %v", err)
	}
}
