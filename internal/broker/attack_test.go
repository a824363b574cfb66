package broker_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
)

// Keys are one principal's own: another one with the same key learns and ends nothing.
func TestAnIdempotencyKeyReachesNoOtherPrincipal(t *testing.T) {
	d := start(t, options{})
	first := ask("alice", "reader")
	first.Key = "deploy-42"
	held, err := d.Acquire(t.Context(), first)
	must(t, err)
	other := ask("bob", "writer")
	other.Key = "deploy-42"
	if _, err := d.Acquire(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if l := d.read(held.Lease.ID); l.State != lease.Active {
		t.Errorf("alice's lease is %s", l.State)
	}
}

// The same issuer name and a subject with colons: no two principals share rights.
func TestPrincipalsWhoseNamesLookAlikeDoNotShareLeases(t *testing.T) {
	d := start(t, options{})
	d.verifier.mu.Lock()
	d.verifier.known["twin"] = identity.Principal{Issuer: "ci", IssuerURL: "https://other.example.com", Subject: "alice", Claims: map[string]any{"team": "payments"}}
	d.verifier.mu.Unlock()
	acquired := d.acquire("alice", "reader")
	if _, err := d.Lease(t.Context(), as("twin"), acquired.Lease.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("a subject of another URL reads the lease: %v", err)
	}
	if _, err := d.Release(t.Context(), as("twin"), acquired.Lease.ID, 0); !fault.Is(err, fault.NotFound) {
		t.Errorf("a subject of another URL ends the lease: %v", err)
	}
}

// A lease token opens its own lease and nothing else.
func TestALeaseTokenIsGoodForNothingElse(t *testing.T) {
	d := start(t, options{})
	mine, other := d.acquire("alice", "reader"), d.acquire("alice", "reader")
	holder := admission.Caller{Evidence: shown(mine.Token), Origin: origin}
	if _, err := d.Lease(t.Context(), holder, other.Lease.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another lease of the same principal: %v", err)
	}
	if _, err := d.Acquire(t.Context(), broker.AcquireRequest{Evidence: shown(mine.Token), Role: "reader", Origin: origin}); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("acquire: %v", err)
	}
	if _, _, err := d.Leases(t.Context(), holder, store.Filter{}, "", 10); !fault.Is(err, fault.Denied) {
		t.Errorf("list: %v", err)
	}
	if _, err := d.Lock(t.Context(), holder, broker.LockRequest{Role: "reader", Reason: "x"}); !fault.Is(err, fault.Denied) {
		t.Errorf("lock: %v", err)
	}
	good := mine.Token.Reveal()
	bad := []string{"dpl_", "dpl_" + strings.Repeat("A", 43), strings.ToUpper(good), good[:len(good)-1], good + "A",
		"dpl_" + string(mine.Lease.ID), "dpl_" + string(mine.Lease.ID) + "_",
		strings.Replace(good, string(mine.Lease.ID), string(other.Lease.ID), 1)}
	for _, token := range bad {
		if _, err := d.Lease(t.Context(), admission.Caller{Evidence: shown(secret.New(token)), Origin: origin}, mine.Lease.ID); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("token %.6s…: %v", token, err)
		}
	}
}

// Limits hold when everybody asks at once.
func TestLimitsHoldAgainstManyAtOnce(t *testing.T) {
	d := start(t, options{limits: broker.Limits{LeasesPerPrincipal: 5}})
	var all sync.WaitGroup
	for i := range 40 {
		role := []string{"reader", "writer"}[i%2]
		all.Go(func() { _, _ = d.Acquire(t.Context(), ask("alice", role)) })
	}
	all.Wait()
	if n := len(d.live()); n != 5 {
		t.Errorf("%d leases live", n)
	}
}

// A renewal that is under way at the target when a lock comes moves no expiry.
func TestARenewalThatRacesWithALockMovesNothing(t *testing.T) {
	d := start(t, options{})
	var all sync.WaitGroup
	var held []broker.Acquired
	for range 10 {
		held = append(held, d.acquire("alice", "reader"))
	}
	for _, h := range held {
		all.Go(func() {
			for range 20 {
				_, _, _ = d.Renew(t.Context(), admission.Caller{Evidence: shown(h.Token), Origin: origin}, h.Lease.ID, 20*time.Minute)
			}
		})
	}
	_, err := d.Lock(t.Context(), local, broker.LockRequest{Principal: "ci:alice", Reason: "stolen"})
	must(t, err)
	all.Wait()
	for _, h := range held {
		d.awaitState(h.Lease.ID, lease.Revoked)
	}
	d.audit()
	if n := len(d.system.Leases()); n != 0 {
		t.Errorf("%d credentials live at the target", n)
	}
}
