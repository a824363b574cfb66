package broker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/target/targettest"
)

func TestOnlyItsHolderKnowsALease(t *testing.T) {
	d := start(t, options{})
	got := d.acquire("alice", "reader")
	other := d.acquire("bob", "reader")
	byToken := admission.Caller{Evidence: shown(got.Token), Origin: origin}
	byOtherToken := admission.Caller{Evidence: shown(other.Token), Origin: origin}

	for name, c := range map[string]struct {
		caller admission.Caller
		want   fault.Kind
	}{
		"its holder":                     {as("alice"), ""},
		"its lease token":                {byToken, ""},
		"a local administrator":          {local, ""},
		"an administrator under Cedar":   {as("operator"), ""},
		"another workload":               {as("bob"), fault.NotFound},
		"another lease's token":          {byOtherToken, fault.NotFound},
		"a workload without a lease":     {as("mallory"), fault.NotFound},
		"a lease token nobody gave out":  {as("dpl_aaaaaaaaaaaaaaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), fault.Unauthenticated},
		"a token that is not accepted":   {as("stranger"), fault.Unauthenticated},
		"somebody who shows no evidence": {admission.Caller{}, fault.Unauthenticated},
	} {
		_, err := d.Lease(t.Context(), c.caller, got.Lease.ID)
		check(t, name+" reads", err, c.want)
		if c.want != "" {
			_, err = d.Release(t.Context(), c.caller, got.Lease.ID, 0)
			check(t, name+" releases", err, c.want)
		}
	}
	if l := d.read(got.Lease.ID); l.State != lease.Active {
		t.Errorf("the lease is %s", l.State)
	}
}

func check(t *testing.T, what string, err error, want fault.Kind) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", what, err)
	case want != "" && !fault.Is(err, want):
		t.Errorf("%s: got %v, want %s", what, err, want)
	}
}

func TestWorkloadsListTheirOwnLeases(t *testing.T) {
	d := start(t, options{})
	d.acquire("alice", "reader")
	d.acquire("bob", "reader")
	for name, want := range map[string]int{"alice": 1, "bob": 1, "mallory": 0, "operator": 2} {
		found, _, err := d.Leases(t.Context(), as(name), store.Filter{}, "", 100)
		must(t, err)
		if len(found) != want {
			t.Errorf("%s sees %d leases, want %d", name, len(found), want)
		}
	}
	found, _, err := d.Leases(t.Context(), as("alice"), store.Filter{IssuerURL: "https://ci.example.com", Subject: "bob"}, "", 100)
	must(t, err)
	for _, l := range found {
		if l.Subject != "alice" {
			t.Errorf("alice sees a lease of %s by asking for it", l.Subject)
		}
	}
}

func TestReleaseByTheLeaseTokenWorksWhenTheEvidenceHasExpired(t *testing.T) {
	d := start(t, options{})
	got := d.acquire("alice", "reader")
	delete(d.verifier.known, "alice") // as an expired token would be
	_, err := d.Release(t.Context(), as("alice"), got.Lease.ID, 0)
	check(t, "release by expired evidence", err, fault.Unauthenticated)
	l, err := d.Release(t.Context(), admission.Caller{Evidence: shown(got.Token)}, got.Lease.ID, time.Minute)
	must(t, err)
	if l.State != lease.Revoked {
		t.Errorf("the lease is %s", l.State)
	}
	again, err := d.Release(t.Context(), admission.Caller{Evidence: shown(got.Token)}, got.Lease.ID, 0)
	must(t, err)
	if again.Reason != lease.Released {
		t.Errorf("a second release changed the reason to %q", again.Reason)
	}
}

func TestTheHolderMayReleaseUnderALock(t *testing.T) {
	d := start(t, options{})
	got := d.acquire("alice", "reader")
	d.target.SetDown(true) // so that the lock's own revocation does not come first
	_, err := d.Lock(t.Context(), local, broker.LockRequest{Principal: "ci:alice", Reason: "incident"})
	must(t, err)
	_, err = d.Release(t.Context(), as("alice"), got.Lease.ID, 0)
	must(t, err)
	d.target.SetDown(false)
	d.awaitState(got.Lease.ID, lease.Revoked)
}

func TestRenewal(t *testing.T) {
	d := start(t, options{})
	got := d.acquire("alice", "reader")
	byToken := admission.Caller{Evidence: shown(got.Token), Origin: origin}

	l, clamped, err := d.Renew(t.Context(), byToken, got.Lease.ID, 20*time.Minute)
	must(t, err)
	if clamped || !l.ExpiresAt.After(got.Lease.ExpiresAt) || l.ExpiresAt.After(got.Lease.RenewableUntil) {
		t.Errorf("renewed to %v (clamped %v), from %v, at most %v", l.ExpiresAt, clamped, got.Lease.ExpiresAt, got.Lease.RenewableUntil)
	}
	if l.NativeUntil.Before(l.ExpiresAt) {
		t.Errorf("the lease lives longer than its credential: %v and %v", l.ExpiresAt, l.NativeUntil)
	}
	d.system.Forward(15 * time.Minute) // past the first expiry on the target's clock
	must(t, d.system.Try(got.Credential))

	l, clamped, err = d.Renew(t.Context(), as("alice"), got.Lease.ID, 10*time.Hour)
	must(t, err)
	if !clamped || l.ExpiresAt.After(l.RenewableUntil) {
		t.Errorf("renewed to %v past %v", l.ExpiresAt, l.RenewableUntil)
	}
	shorter, _, err := d.Renew(t.Context(), as("alice"), got.Lease.ID, time.Minute)
	must(t, err)
	if shorter.ExpiresAt.Before(l.ExpiresAt) {
		t.Error("a renewal made the lease shorter")
	}
}

func TestWhoMayNotRenew(t *testing.T) {
	d := start(t, options{})
	reader, writer := d.acquire("alice", "reader"), d.acquire("alice", "writer")
	renew := func(c admission.Caller, id lease.ID) error {
		_, _, err := d.Renew(t.Context(), c, id, time.Minute)
		return err
	}
	check(t, "another workload", renew(as("bob"), reader.Lease.ID), fault.NotFound)
	check(t, "an administrator", renew(local, reader.Lease.ID), fault.Denied)
	check(t, "a lease token where the role wants evidence", renew(admission.Caller{Evidence: shown(writer.Token)}, writer.Lease.ID), fault.Denied)
	check(t, "a holder whom no policy lets renew", renew(as("alice"), writer.Lease.ID), fault.Denied)

	d.verifier.known["alice"] = workload("ci", "alice", map[string]any{"team": "visitors"})
	check(t, "a holder whose fresh evidence no longer fits", renew(as("alice"), reader.Lease.ID), fault.Denied)
	check(t, "the same by lease token: the claims of the acquisition count", renew(admission.Caller{Evidence: shown(reader.Token)}, reader.Lease.ID), "")

	_, err := d.Lock(t.Context(), local, broker.LockRequest{Target: "vault", Reason: "incident"})
	must(t, err)
	if err := renew(admission.Caller{Evidence: shown(reader.Token)}, reader.Lease.ID); err == nil {
		t.Error("a locked lease was renewed")
	}
	d.awaitState(reader.Lease.ID, lease.Revoked)
	check(t, "a dead lease", renew(admission.Caller{Evidence: shown(reader.Token)}, reader.Lease.ID), fault.Conflict)
}

func TestARenewalThatRacesWithALockNeverRevives(t *testing.T) {
	d := start(t, options{})
	got := d.acquire("alice", "reader")
	d.target.SetHook(func(ctx context.Context, step targettest.Step, _ string) error {
		if step != targettest.AfterRenew {
			return nil
		}
		_, err := d.Lock(ctx, local, broker.LockRequest{Role: "reader", Reason: "incident"})
		return err
	})
	if _, _, err := d.Renew(t.Context(), admission.Caller{Evidence: shown(got.Token)}, got.Lease.ID, 20*time.Minute); err == nil {
		t.Error("the renewal was answered")
	}
	d.awaitState(got.Lease.ID, lease.Revoked)
	if d.system.Try(got.Credential) == nil {
		t.Error("the credential works")
	}
}

func TestALostAnswerOfARenewalLeavesTheRecordAhead(t *testing.T) {
	d := start(t, options{})
	got := d.acquire("alice", "reader")
	lost := errors.New("connection reset")
	d.target.SetHook(func(_ context.Context, step targettest.Step, _ string) error {
		if step == targettest.AfterRenew {
			return lost
		}
		return nil
	})
	_, _, err := d.Renew(t.Context(), as("alice"), got.Lease.ID, 20*time.Minute)
	check(t, "the renewal", err, fault.TargetUnavailable)
	l := d.read(got.Lease.ID)
	if !l.ExpiresAt.Equal(got.Lease.ExpiresAt) {
		t.Error("the expiry moved without the target's word")
	}
	if !l.NativeUntil.After(got.Lease.NativeUntil) {
		t.Error("the record does not cover the credential's new life")
	}
}
