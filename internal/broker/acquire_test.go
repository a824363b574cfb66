package broker_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

func TestAnAcquisitionFromEvidenceToProof(t *testing.T) {
	d := start(t, options{})
	got := d.acquire("alice", "reader")

	must(t, d.system.Try(got.Credential))
	if got.Lease.State != lease.Active || got.Lease.Revocation != string(target.Instant) {
		t.Errorf("the lease is %s with revocation %q", got.Lease.State, got.Lease.Revocation)
	}
	if !strings.HasPrefix(got.Token.Reveal(), "dpl_") {
		t.Error("the lease token has no prefix to know it by")
	}
	verifier, err := ledger.NewVerifier(d.signerKey())
	must(t, err)
	receipt, err := verifier.Receipt(got.Receipt)
	must(t, err)
	entry, err := ledger.ParseLeaf(receipt.Leaf)
	must(t, err)
	if entry.Event != ledger.LeaseActive || entry.Lease != string(got.Lease.ID) {
		t.Errorf("the receipt is for %s of %s", entry.Event, entry.Lease)
	}

	l, err := d.Release(t.Context(), as("alice"), got.Lease.ID, time.Minute)
	must(t, err)
	if l.State != lease.Revoked || l.Reason != lease.Released {
		t.Errorf("after the release the lease is %s (%s)", l.State, l.Reason)
	}
	if d.system.Try(got.Credential) == nil {
		t.Error("the credential still works")
	}
}

func TestWhoMayNot(t *testing.T) {
	d := start(t, options{})
	for name, c := range map[string]struct {
		request broker.AcquireRequest
		kind    fault.Kind
	}{
		"nobody without evidence":              {broker.AcquireRequest{Role: "reader"}, fault.Unauthenticated},
		"nobody with bad evidence":             {ask("stranger", "reader"), fault.Unauthenticated},
		"a workload without a permit":          {ask("mallory", "reader"), fault.Denied},
		"a role that does not exist":           {ask("alice", "no-such-role"), fault.Denied},
		"an administrator gets no credentials": {ask("operator", "reader"), fault.Denied},
		"more than the role's maximum, where it refuses": {
			broker.AcquireRequest{Evidence: shown(secret.New("alice")), Role: "writer", TTL: time.Hour, Origin: origin}, fault.Invalid},
	} {
		_, err := d.Acquire(t.Context(), c.request)
		if !fault.Is(err, c.kind) {
			t.Errorf("%s: got %v, want %s", name, err, c.kind)
		}
		if c.kind == fault.Denied {
			refusal, _ := errors.AsType[*fault.Error](err)
			if refusal == nil || refusal.Decision == "" {
				t.Errorf("%s: no decision to explain", name)
			} else if strings.Contains(refusal.Public, "payments") {
				t.Errorf("%s: the denial tells the policy: %s", name, refusal.Public)
			}
		}
	}
	if d.system.Granted() != 0 || len(d.live()) != 0 {
		t.Error("a refused request left something")
	}
}

func TestADeskWithoutConfigurationDeniesEverything(t *testing.T) {
	d := open(t, options{})
	if _, err := d.Acquire(t.Context(), ask("alice", "reader")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("got %v", err)
	}
}

func TestAnIssuerThatCannotBeAskedIsNotARejection(t *testing.T) {
	d := start(t, options{})
	d.verifier.err = errors.New("connection refused")
	if _, err := d.Acquire(t.Context(), ask("alice", "reader")); !fault.Is(err, fault.IssuerUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestALongerTTLIsClampedAndSaid(t *testing.T) {
	d := start(t, options{})
	request := ask("alice", "reader")
	request.TTL = 10 * time.Hour
	got, err := d.Acquire(t.Context(), request)
	must(t, err)
	if !got.Clamped || got.Lease.ExpiresAt.Sub(got.Lease.CreatedAt) != 30*time.Minute {
		t.Errorf("clamped %v to %v", got.Clamped, got.Lease.ExpiresAt.Sub(got.Lease.CreatedAt))
	}
}

// DESIGN: the intent is on the record before the target is called.
func TestTheRecordComesBeforeTheGrant(t *testing.T) {
	d := start(t, options{})
	var seen lease.State
	d.target.SetHook(func(_ context.Context, step targettest.Step, id string) error {
		if step == targettest.BeforeGrant {
			seen = d.read(lease.ID(id)).State
		}
		return nil
	})
	d.acquire("alice", "reader")
	if seen != lease.Pending {
		t.Errorf("when the target was called the lease was %q", seen)
	}
}

func TestWhatTheTargetDoesToAGrant(t *testing.T) {
	lost := errors.New("connection reset")
	for name, hook := range map[string]targettest.Hook{
		"it did not happen": func(_ context.Context, step targettest.Step, _ string) error {
			if step == targettest.BeforeGrant {
				return target.ErrNotDone
			}
			return nil
		},
		"it happened and the answer was lost": func(_ context.Context, step targettest.Step, _ string) error {
			if step == targettest.AfterGrant {
				return lost
			}
			return nil
		},
		"the target panics": func(_ context.Context, step targettest.Step, _ string) error {
			if step == targettest.AfterGrant {
				panic("a bug in the target")
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := start(t, options{})
			d.target.SetHook(hook)
			_, err := d.Acquire(t.Context(), ask("alice", "reader"))
			if !fault.Is(err, fault.TargetUnavailable) {
				t.Errorf("got %v", err)
			}
			d.await("the lease to be revoked", func() bool { return len(d.live()) == 0 })
			if left := d.system.Leases(); len(left) != 0 {
				t.Errorf("credentials live: %v", left)
			}
		})
	}
}

func TestACallerThatHangsUpChangesNothing(t *testing.T) {
	d := start(t, options{})
	ctx, hangUp := context.WithCancel(t.Context())
	d.target.SetHook(func(_ context.Context, step targettest.Step, _ string) error {
		if step == targettest.BeforeGrant {
			hangUp()
		}
		return nil
	})
	got, err := d.Acquire(ctx, ask("alice", "reader"))
	must(t, err)
	if got.Lease.State != lease.Active {
		t.Errorf("the lease is %s", got.Lease.State)
	}
	d.Undelivered(ctx, got.Lease.ID)
	if l := d.awaitState(got.Lease.ID, lease.Revoked); l.Reason != lease.Undelivered {
		t.Errorf("the reason is %q", l.Reason)
	}
}

// DESIGN §3: what was decided before a lock and became ready after it goes to revoking, and the caller gets 403.
func TestALockThatRacesWithAnAcquisitionWins(t *testing.T) {
	d := start(t, options{})
	d.target.SetHook(func(ctx context.Context, step targettest.Step, _ string) error {
		if step != targettest.AfterGrant {
			return nil
		}
		_, err := d.Lock(ctx, local, broker.LockRequest{Role: "reader", Reason: "incident"})
		return err
	})
	_, err := d.Acquire(t.Context(), ask("alice", "reader"))
	if !fault.Is(err, fault.Denied) {
		t.Fatalf("got %v", err)
	}
	d.await("the credential to die", func() bool { return len(d.live()) == 0 })
	d.audit()
	if len(d.system.Leases()) != 0 {
		t.Error("the credential lives")
	}
}

func TestAnAccessRevisionThatChangesDuringAGrantDecides(t *testing.T) {
	d := start(t, options{})
	narrowed := configuration()
	narrowed["policies.cedar"] = strings.ReplaceAll(policies, `"payments"`, `"nobody"`)
	d.target.SetHook(func(ctx context.Context, step targettest.Step, _ string) error {
		if step != targettest.AfterGrant {
			return nil
		}
		_, err := d.Apply(ctx, local, narrowed, "")
		return err
	})
	if _, err := d.Acquire(t.Context(), ask("alice", "reader")); !fault.Is(err, fault.Denied) {
		t.Fatalf("got %v", err)
	}
	d.await("the credential to die", func() bool { return len(d.live()) == 0 && len(d.system.Leases()) == 0 })
}

func TestAnAccessRevisionThatStillPermitsDisturbsNoGrant(t *testing.T) {
	d := start(t, options{})
	wider := configuration()
	wider["more.cedar"] = `forbid (principal, action, resource == Role::"writer");`
	d.target.SetHook(func(ctx context.Context, step targettest.Step, _ string) error {
		if step != targettest.AfterGrant {
			return nil
		}
		_, err := d.Apply(ctx, local, wider, "")
		return err
	})
	got := d.acquire("alice", "reader")
	must(t, d.system.Try(got.Credential))
}

func TestLimits(t *testing.T) {
	t.Run("of live leases of a principal in a role", func(t *testing.T) {
		d := start(t, options{})
		for range 20 {
			d.acquire("alice", "reader")
		}
		if _, err := d.Acquire(t.Context(), ask("alice", "reader")); !fault.Is(err, fault.TooMany) {
			t.Errorf("the 21st: %v", err)
		}
		d.acquire("bob", "reader")
	})
	t.Run("of live leases of a principal, also when all ask at once", func(t *testing.T) {
		d := start(t, options{limits: broker.Limits{LeasesPerPrincipal: 5}})
		var mu sync.Mutex
		var got, refused int
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() {
				_, err := d.Acquire(t.Context(), ask("alice", "writer"))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					got++
				case fault.Is(err, fault.TooMany):
					refused++
				default:
					t.Error(err)
				}
			})
		}
		callers.Wait()
		if got != 5 || refused != 15 {
			t.Errorf("%d got a lease and %d were refused", got, refused)
		}
	})
	t.Run("of requests of a principal per second", func(t *testing.T) {
		d := start(t, options{limits: broker.Limits{AcquireRate: 1}})
		d.acquire("alice", "reader")
		_, err := d.Acquire(t.Context(), ask("alice", "reader"))
		refusal, ok := errors.AsType[*fault.Error](err)
		if !ok || refusal.Kind != fault.TooMany || refusal.RetryAfter <= 0 {
			t.Errorf("the second: %v", err)
		}
		d.acquire("bob", "reader")
	})
}

func TestIdempotencyKeys(t *testing.T) {
	d := start(t, options{})
	request := ask("alice", "reader")
	request.Key = "job-1"
	first, err := d.Acquire(t.Context(), request)
	must(t, err)
	second, err := d.Acquire(t.Context(), request)
	must(t, err)
	if l := d.awaitState(first.Lease.ID, lease.Revoked); l.Reason != lease.Superseded {
		t.Errorf("the first lease ended as %q", l.Reason)
	}
	must(t, d.system.Try(second.Credential))

	other := request
	other.Role = "writer"
	if _, err := d.Acquire(t.Context(), other); !fault.Is(err, fault.Conflict) {
		t.Errorf("another body under the same key: %v", err)
	}
	foreign := request
	foreign.Evidence = shown(secret.New("bob"))
	must(t, func() error { _, err := d.Acquire(t.Context(), foreign); return err }())
	if l := d.read(second.Lease.ID); l.State != lease.Active {
		t.Errorf("another principal's use of the key ended the lease: %s", l.State)
	}
}

func TestDenialsAreAggregated(t *testing.T) {
	d := start(t, options{})
	before := d.ledgerSize()
	ids := map[string]bool{}
	for range 500 {
		_, err := d.Acquire(t.Context(), ask("mallory", "reader"))
		refusal, ok := errors.AsType[*fault.Error](err)
		if !ok || refusal.Kind != fault.Denied {
			t.Fatalf("got %v", err)
		}
		ids[refusal.Decision] = true
	}
	if grown := d.ledgerSize() - before; grown != 1 {
		t.Errorf("500 equal denials made %d ledger entries", grown)
	}
	if len(ids) != 1 {
		t.Errorf("500 equal denials have %d decisions", len(ids))
	}
	for id := range ids {
		decision, err := d.Decision(t.Context(), local, id)
		must(t, err)
		if decision.Outcome != "deny" || decision.Subject != "mallory" || decode(t, decision.Input) == nil {
			t.Errorf("the decision is %+v", decision)
		}
		if _, err := d.Decision(t.Context(), as("mallory"), id); !fault.Is(err, fault.Denied) {
			t.Errorf("the denied one may read the decision: %v", err)
		}
	}
}

func (d *desk) ledgerSize() (size int64) {
	d.t.Helper()
	must(d.t, d.store.View(context.Background(), func(tx *store.Tx) (err error) {
		size, err = tx.LedgerSize()
		return err
	}))
	return size
}

// signerKey reads the ledger's key as an auditor gets it.
func (d *desk) signerKey() string { return d.store.Signer().VerifierKey() }
