package broker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/target/targettest"
)

func TestOnlyItsHolderKnowsALease(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	got := d.Acquired("alice", "reader")
	other := d.Acquired("bob", "reader")
	byToken := brokertest.Holding(got.Token)
	byOtherToken := brokertest.Holding(other.Token)

	for name, c := range map[string]struct {
		caller admission.Caller
		want   fault.Kind
	}{
		"its holder":                     {brokertest.As("alice"), ""},
		"its lease token":                {byToken, ""},
		"a local administrator":          {brokertest.Local(), ""},
		"an administrator under Cedar":   {brokertest.As("operator"), ""},
		"another workload":               {brokertest.As("bob"), fault.NotFound},
		"another lease's token":          {byOtherToken, fault.NotFound},
		"a workload without a lease":     {brokertest.As("mallory"), fault.NotFound},
		"a lease token nobody gave out":  {brokertest.As("dpl_aaaaaaaaaaaaaaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), fault.Unauthenticated},
		"a token that is not accepted":   {brokertest.As("stranger"), fault.Unauthenticated},
		"somebody who shows no evidence": {admission.Caller{}, fault.Unauthenticated},
	} {
		_, err := d.Lease(t.Context(), c.caller, got.Lease.ID)
		brokertest.Check(t, name+" reads", err, c.want)
		if c.want != "" {
			_, err = d.Release(t.Context(), c.caller, got.Lease.ID, 0)
			brokertest.Check(t, name+" releases", err, c.want)
		}
	}
	if l := d.Stored(got.Lease.ID); l.State != lease.Active {
		t.Errorf("the lease is %s", l.State)
	}
}

func TestWorkloadsListTheirOwnLeases(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	d.Acquired("alice", "reader")
	d.Acquired("bob", "reader")
	for name, want := range map[string]int{"alice": 1, "bob": 1, "mallory": 0, "operator": 2} {
		found, _, err := d.Leases(t.Context(), brokertest.As(name), store.Filter{}, "", 100)
		brokertest.Must(t, err)
		if len(found) != want {
			t.Errorf("%s sees %d leases, want %d", name, len(found), want)
		}
	}
	found, _, err := d.Leases(t.Context(), brokertest.As("alice"), store.Filter{IssuerURL: "https://ci.example.com", Subject: "bob"}, "", 100)
	brokertest.Must(t, err)
	for _, l := range found {
		if l.Subject != "alice" {
			t.Errorf("alice sees a lease of %s by asking for it", l.Subject)
		}
	}
}

func TestReleaseByTheLeaseTokenWorksWhenTheEvidenceHasExpired(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	got := d.Acquired("alice", "reader")
	d.Workloads.Forget("alice") // as an expired token would be
	_, err := d.Release(t.Context(), brokertest.As("alice"), got.Lease.ID, 0)
	brokertest.Check(t, "release by expired evidence", err, fault.Unauthenticated)
	l, err := d.Release(t.Context(), brokertest.Holding(got.Token), got.Lease.ID, time.Minute)
	brokertest.Must(t, err)
	if l.State != lease.Revoked {
		t.Errorf("the lease is %s", l.State)
	}
	again, err := d.Release(t.Context(), brokertest.Holding(got.Token), got.Lease.ID, 0)
	brokertest.Must(t, err)
	if again.Reason != lease.Released {
		t.Errorf("a second release changed the reason to %q", again.Reason)
	}
}

func TestTheHolderMayReleaseUnderALock(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	got := d.Acquired("alice", "reader")
	d.Target.SetDown(true) // so that the lock's own revocation does not come first
	_, err := d.Lock(t.Context(), brokertest.Local(), broker.LockRequest{Principal: "ci:alice", Reason: "incident"})
	brokertest.Must(t, err)
	_, err = d.Release(t.Context(), brokertest.As("alice"), got.Lease.ID, 0)
	brokertest.Must(t, err)
	d.Target.SetDown(false)
	d.AwaitState(got.Lease.ID, lease.Revoked)
}

func TestRenewal(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	got := d.Acquired("alice", "reader")
	byToken := brokertest.Holding(got.Token)

	l, clamped, err := d.Renew(t.Context(), byToken, got.Lease.ID, 20*time.Minute)
	brokertest.Must(t, err)
	if clamped || !l.ExpiresAt.After(got.Lease.ExpiresAt) || l.ExpiresAt.After(got.Lease.RenewableUntil) {
		t.Errorf("renewed to %v (clamped %v), from %v, at most %v", l.ExpiresAt, clamped, got.Lease.ExpiresAt, got.Lease.RenewableUntil)
	}
	if l.NativeUntil.Before(l.ExpiresAt) {
		t.Errorf("the lease lives longer than its credential: %v and %v", l.ExpiresAt, l.NativeUntil)
	}
	d.System.Forward(15 * time.Minute) // past the first expiry on the target's clock
	brokertest.Must(t, d.System.Try(got.Credential))

	l, clamped, err = d.Renew(t.Context(), brokertest.As("alice"), got.Lease.ID, 10*time.Hour)
	brokertest.Must(t, err)
	if !clamped || l.ExpiresAt.After(l.RenewableUntil) {
		t.Errorf("renewed to %v past %v", l.ExpiresAt, l.RenewableUntil)
	}
	shorter, _, err := d.Renew(t.Context(), brokertest.As("alice"), got.Lease.ID, time.Minute)
	brokertest.Must(t, err)
	if shorter.ExpiresAt.Before(l.ExpiresAt) {
		t.Error("a renewal made the lease shorter")
	}
}

func TestWhoMayNotRenew(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	reader, writer := d.Acquired("alice", "reader"), d.Acquired("alice", "writer")
	renew := func(c admission.Caller, id lease.ID) error {
		_, _, err := d.Renew(t.Context(), c, id, time.Minute)
		return err
	}
	brokertest.Check(t, "another workload", renew(brokertest.As("bob"), reader.Lease.ID), fault.NotFound)
	brokertest.Check(t, "an administrator", renew(brokertest.Local(), reader.Lease.ID), fault.Denied)
	brokertest.Check(t, "a lease token where the role wants evidence", renew(brokertest.Holding(writer.Token), writer.Lease.ID), fault.Denied)
	brokertest.Check(t, "a holder whom no policy lets renew", renew(brokertest.As("alice"), writer.Lease.ID), fault.Denied)

	d.Workloads.Know("alice", brokertest.Workload("ci", "alice", map[string]any{"team": "visitors"}))
	brokertest.Check(t, "a holder whose fresh evidence no longer fits", renew(brokertest.As("alice"), reader.Lease.ID), fault.Denied)
	brokertest.Check(t, "the same by lease token: the claims of the acquisition count", renew(brokertest.Holding(reader.Token), reader.Lease.ID), "")

	_, err := d.Lock(t.Context(), brokertest.Local(), broker.LockRequest{Target: "vault", Reason: "incident"})
	brokertest.Must(t, err)
	if err := renew(brokertest.Holding(reader.Token), reader.Lease.ID); err == nil {
		t.Error("a locked lease was renewed")
	}
	d.AwaitState(reader.Lease.ID, lease.Revoked)
	brokertest.Check(t, "a dead lease", renew(brokertest.Holding(reader.Token), reader.Lease.ID), fault.Conflict)
}

func TestARenewalThatRacesWithALockNeverRevives(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	got := d.Acquired("alice", "reader")
	d.Target.SetHook(func(ctx context.Context, step targettest.Step, _ string) error {
		if step != targettest.AfterRenew {
			return nil
		}
		_, err := d.Lock(ctx, brokertest.Local(), broker.LockRequest{Role: "reader", Reason: "incident"})
		return err
	})
	if _, _, err := d.Renew(t.Context(), brokertest.Holding(got.Token), got.Lease.ID, 20*time.Minute); err == nil {
		t.Error("the renewal was answered")
	}
	d.AwaitState(got.Lease.ID, lease.Revoked)
	if d.System.Try(got.Credential) == nil {
		t.Error("the credential works")
	}
}

func TestALostAnswerOfARenewalLeavesTheRecordAhead(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	got := d.Acquired("alice", "reader")
	lost := errors.New("connection reset")
	d.Target.SetHook(func(_ context.Context, step targettest.Step, _ string) error {
		if step == targettest.AfterRenew {
			return lost
		}
		return nil
	})
	_, _, err := d.Renew(t.Context(), brokertest.As("alice"), got.Lease.ID, 20*time.Minute)
	brokertest.Check(t, "the renewal", err, fault.TargetUnavailable)
	l := d.Stored(got.Lease.ID)
	if !l.ExpiresAt.Equal(got.Lease.ExpiresAt) {
		t.Error("the expiry moved without the target's word")
	}
	if !l.NativeUntil.After(got.Lease.NativeUntil) {
		t.Error("the record does not cover the credential's new life")
	}
}
