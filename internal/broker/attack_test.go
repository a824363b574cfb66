package broker_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
)

// Keys are one principal's own: another one with the same key learns and ends nothing.
func TestAnIdempotencyKeyReachesNoOtherPrincipal(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	first := brokertest.Ask("alice", "reader")
	first.Key = "deploy-42"
	held, err := d.Acquire(t.Context(), first)
	brokertest.Must(t, err)
	other := brokertest.Ask("bob", "writer")
	other.Key = "deploy-42"
	if _, err := d.Acquire(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if l := d.Stored(held.Lease.ID); l.State != lease.Active {
		t.Errorf("alice's lease is %s", l.State)
	}
}

// The same issuer name and a subject with colons: no two principals share rights.
func TestPrincipalsWhoseNamesLookAlikeDoNotShareLeases(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	d.Workloads.Know("twin", identity.Principal{Issuer: "ci", IssuerURL: "https://other.example.com", Subject: "alice", Claims: map[string]any{"team": "payments"}})
	acquired := d.Acquired("alice", "reader")
	if _, err := d.Lease(t.Context(), brokertest.As("twin"), acquired.Lease.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("a subject of another URL reads the lease: %v", err)
	}
	if _, err := d.Release(t.Context(), brokertest.As("twin"), acquired.Lease.ID, 0); !fault.Is(err, fault.NotFound) {
		t.Errorf("a subject of another URL ends the lease: %v", err)
	}
}

// A lease token opens its own lease and nothing else.
func TestALeaseTokenIsGoodForNothingElse(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	mine, other := d.Acquired("alice", "reader"), d.Acquired("alice", "reader")
	holder := brokertest.Holding(mine.Token)
	if _, err := d.Lease(t.Context(), holder, other.Lease.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another lease of the same principal: %v", err)
	}
	if _, err := d.Acquire(t.Context(), broker.AcquireRequest{Evidence: brokertest.Shown(mine.Token), Role: "reader", Origin: brokertest.Origin()}); !fault.Is(err, fault.Unauthenticated) {
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
		if _, err := d.Lease(t.Context(), admission.Caller{Evidence: brokertest.Shown(secret.New(token)), Origin: brokertest.Origin()}, mine.Lease.ID); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("token %.6s…: %v", token, err)
		}
	}
}

// Limits hold when everybody asks at once.
func TestLimitsHoldAgainstManyAtOnce(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{Limits: broker.Limits{LeasesPerPrincipal: 5}})
	var all sync.WaitGroup
	for i := range 40 {
		role := []string{"reader", "writer"}[i%2]
		all.Go(func() { _, _ = d.Acquire(t.Context(), brokertest.Ask("alice", role)) })
	}
	all.Wait()
	if n := len(d.Live()); n != 5 {
		t.Errorf("%d leases live", n)
	}
}

// A renewal that is under way at the target when a lock comes moves no expiry.
func TestARenewalThatRacesWithALockMovesNothing(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	var all sync.WaitGroup
	var held []broker.Acquired
	for range 10 {
		held = append(held, d.Acquired("alice", "reader"))
	}
	for _, h := range held {
		all.Go(func() {
			for range 20 {
				_, _, _ = d.Renew(t.Context(), brokertest.Holding(h.Token), h.Lease.ID, 20*time.Minute)
			}
		})
	}
	_, err := d.Lock(t.Context(), brokertest.Local(), broker.LockRequest{Principal: "ci:alice", Reason: "stolen"})
	brokertest.Must(t, err)
	all.Wait()
	for _, h := range held {
		d.AwaitState(h.Lease.ID, lease.Revoked)
	}
	d.Audit()
	if n := len(d.System.Leases()); n != 0 {
		t.Errorf("%d credentials live at the target", n)
	}
}
