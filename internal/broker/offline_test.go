package broker_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// press is a target that calls nobody.
type press struct {
	during func(leaseID string) error // runs while it makes a credential
	made   []string                   // leases that it made one for; owned by the test's goroutine
}

func (p *press) Offline() bool { return true }

func (p *press) Grant(_ context.Context, g target.Grant) (target.Credential, error) {
	if err := p.during(g.Lease); err != nil {
		return target.Credential{}, err
	}
	p.made = append(p.made, g.Lease)
	return target.Credential{Type: "memory", Revocation: target.Bounded, Secrets: map[string]secret.Text{"token": secret.New(g.Lease)}}, nil
}

func (p *press) Revoke(context.Context, string) error { return nil }

// startPress is a desk whose target calls nobody.
func startPress(t *testing.T, during func(d *brokertest.Desk, leaseID string) error) (*brokertest.Desk, *press) {
	d := brokertest.Start(t, brokertest.Options{})
	p := &press{during: func(leaseID string) error { return during(d, leaseID) }}
	d.Aim(p)
	return d, p
}

// events are those of the ledger that are about leases, in order.
func events(d *brokertest.Desk) (all []string) {
	for _, entry := range d.Entries() {
		if entry.Lease != "" {
			all = append(all, string(entry.Event))
		}
	}
	return all
}

// DESIGN: durability before the credential is handed over, and all that other leases have on the record.
func TestACredentialThatNobodyElseKnowsIsOnTheRecordBeforeItIsHandedOver(t *testing.T) {
	d, _ := startPress(t, func(d *brokertest.Desk, leaseID string) error {
		if len(events(d)) > 0 {
			t.Error("there is a record already")
		}
		return nil
	})
	got := d.Acquired("alice", "reader")
	if l := d.Stored(got.Lease.ID); l.State != lease.Active || l.Version != got.Lease.Version || l.Revocation != string(target.Bounded) {
		t.Errorf("on the record the lease is %+v", l)
	}
	if events := events(d); !slices.Equal(events, []string{"lease.pending", "lease.active"}) {
		t.Errorf("the ledger tells %v", events)
	}
	verifier, err := ledger.NewVerifier(d.Store.Signer().VerifierKey())
	brokertest.Must(t, err)
	receipt, err := verifier.Receipt(got.Receipt)
	brokertest.Must(t, err)
	if entry, err := ledger.ParseLeaf(receipt.Leaf); err != nil || entry.Event != ledger.LeaseActive || entry.Lease != string(got.Lease.ID) {
		t.Errorf("the receipt is for %+v, %v", entry, err)
	}
}

func TestALockThatComesWhileACredentialIsMadeKeepsIt(t *testing.T) {
	d, p := startPress(t, func(d *brokertest.Desk, _ string) error {
		_, err := d.Lock(t.Context(), brokertest.Local(), broker.LockRequest{Role: "reader", Reason: "incident"})
		return err
	})
	got, err := d.Acquire(t.Context(), brokertest.Ask("alice", "reader"))
	if !fault.Is(err, fault.Denied) || len(got.Credential.Secrets) > 0 {
		t.Errorf("got %v and %v", got, err)
	}
	if len(p.made) != 1 || len(d.Live()) != 0 {
		t.Errorf("%d credentials were made, and %d leases live", len(p.made), len(d.Live()))
	}
}

func TestARevisionThatComesWhileACredentialIsMadeDecides(t *testing.T) {
	changed := false
	d, p := startPress(t, func(d *brokertest.Desk, _ string) error {
		if changed {
			return nil
		}
		changed = true
		wider := brokertest.Configuration()
		wider["more.cedar"] = `forbid (principal, action, resource == Role::"writer");`
		_, err := d.Apply(t.Context(), brokertest.Local(), wider, "")
		return err
	})
	got := d.Acquired("alice", "reader")
	if len(p.made) != 2 || p.made[1] != string(got.Lease.ID) || got.Credential.Secrets["token"].Reveal() != p.made[1] {
		t.Errorf("of %v the caller has %s", p.made, got.Lease.ID)
	}
	if events := events(d); len(events) != 2 {
		t.Errorf("the ledger tells %v", events)
	}
}

// Every decision is on the record, also where nothing came of it.
func TestACredentialThatCannotBeMadeLeavesARecord(t *testing.T) {
	d, _ := startPress(t, func(*brokertest.Desk, string) error { return errors.New("no paper") })
	if _, err := d.Acquire(t.Context(), brokertest.Ask("alice", "reader")); !fault.Is(err, fault.TargetUnavailable) {
		t.Errorf("got %v", err)
	}
	d.Await("the lease to be revoked", func() bool { return len(d.Live()) == 0 })
	if told := strings.Join(events(d), " "); !strings.HasPrefix(told, "lease.pending lease.revoking") {
		t.Errorf("the ledger tells %s", told)
	}
}
