package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

func TestAnAcquisitionFromEvidenceToProof(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	got := d.Acquired("alice", "reader")

	brokertest.Must(t, d.System.Try(got.Credential))
	if got.Lease.State != lease.Active || got.Lease.Revocation != string(target.Instant) {
		t.Errorf("the lease is %s with revocation %q", got.Lease.State, got.Lease.Revocation)
	}
	if !strings.HasPrefix(got.Token.Reveal(), "dpl_") {
		t.Error("the lease token has no prefix to know it by")
	}
	verifier, err := ledger.NewVerifier(d.Store.Signer().VerifierKey())
	brokertest.Must(t, err)
	receipt, err := verifier.Receipt(got.Receipt)
	brokertest.Must(t, err)
	entry, err := ledger.ParseLeaf(receipt.Leaf)
	brokertest.Must(t, err)
	if entry.Event != ledger.LeaseActive || entry.Lease != string(got.Lease.ID) {
		t.Errorf("the receipt is for %s of %s", entry.Event, entry.Lease)
	}

	l, err := d.Release(t.Context(), brokertest.As("alice"), got.Lease.ID, time.Minute)
	brokertest.Must(t, err)
	if l.State != lease.Revoked || l.Reason != lease.Released {
		t.Errorf("after the release the lease is %s (%s)", l.State, l.Reason)
	}
	if d.System.Try(got.Credential) == nil {
		t.Error("the credential still works")
	}
}

func TestWhoMayNot(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	for name, c := range map[string]struct {
		request broker.AcquireRequest
		kind    fault.Kind
	}{
		"nobody without evidence":              {broker.AcquireRequest{Role: "reader"}, fault.Unauthenticated},
		"nobody with bad evidence":             {brokertest.Ask("stranger", "reader"), fault.Unauthenticated},
		"a workload without a permit":          {brokertest.Ask("mallory", "reader"), fault.Denied},
		"a role that does not exist":           {brokertest.Ask("alice", "no-such-role"), fault.Denied},
		"an administrator gets no credentials": {brokertest.Ask("operator", "reader"), fault.Denied},
		"more than the role's maximum, where it refuses": {
			broker.AcquireRequest{Evidence: brokertest.Shown(secret.New("alice")), Role: "writer", TTL: time.Hour, Origin: brokertest.Origin()}, fault.Invalid},
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
	if d.System.Granted() != 0 || len(d.Live()) != 0 {
		t.Error("a refused request left something")
	}
}

func TestALongerTTLIsClampedAndSaid(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	request := brokertest.Ask("alice", "reader")
	request.TTL = 10 * time.Hour
	got, err := d.Acquire(t.Context(), request)
	brokertest.Must(t, err)
	if !got.Clamped || got.Lease.ExpiresAt.Sub(got.Lease.CreatedAt) != 30*time.Minute {
		t.Errorf("clamped %v to %v", got.Clamped, got.Lease.ExpiresAt.Sub(got.Lease.CreatedAt))
	}
}

// DESIGN: the intent is on the record before the target is called.
func TestTheRecordComesBeforeTheGrant(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	var seen lease.State
	d.Target.SetHook(func(_ context.Context, step targettest.Step, id string) error {
		if step == targettest.BeforeGrant {
			seen = d.Stored(lease.ID(id)).State
		}
		return nil
	})
	d.Acquired("alice", "reader")
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
			d := brokertest.Start(t, brokertest.Options{})
			d.Target.SetHook(hook)
			_, err := d.Acquire(t.Context(), brokertest.Ask("alice", "reader"))
			if !fault.Is(err, fault.TargetUnavailable) {
				t.Errorf("got %v", err)
			}
			d.Await("the lease to be revoked", func() bool { return len(d.Live()) == 0 })
			if left := d.System.Leases(); len(left) != 0 {
				t.Errorf("credentials live: %v", left)
			}
		})
	}
}

func TestACallerThatHangsUpChangesNothing(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	ctx, hangUp := context.WithCancel(t.Context())
	d.Target.SetHook(func(_ context.Context, step targettest.Step, _ string) error {
		if step == targettest.BeforeGrant {
			hangUp()
		}
		return nil
	})
	got, err := d.Acquire(ctx, brokertest.Ask("alice", "reader"))
	brokertest.Must(t, err)
	if got.Lease.State != lease.Active {
		t.Errorf("the lease is %s", got.Lease.State)
	}
	d.Undelivered(ctx, got.Lease.ID)
	if l := d.AwaitState(got.Lease.ID, lease.Revoked); l.Reason != lease.Undelivered {
		t.Errorf("the reason is %q", l.Reason)
	}
}

// DESIGN §3: what was decided before a lock and became ready after it goes to revoking, and the caller gets 403.
func TestALockThatRacesWithAnAcquisitionWins(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	d.Target.SetHook(func(ctx context.Context, step targettest.Step, _ string) error {
		if step != targettest.AfterGrant {
			return nil
		}
		_, err := d.Lock(ctx, brokertest.Local(), broker.LockRequest{Role: "reader", Reason: "incident"})
		return err
	})
	_, err := d.Acquire(t.Context(), brokertest.Ask("alice", "reader"))
	if !fault.Is(err, fault.Denied) {
		t.Fatalf("got %v", err)
	}
	d.Await("the credential to die", func() bool { return len(d.Live()) == 0 })
	d.Audit()
	if len(d.System.Leases()) != 0 {
		t.Error("the credential lives")
	}
}

func TestAnAccessRevisionThatChangesDuringAGrantDecides(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	narrowed := brokertest.Configuration()
	narrowed["policies.cedar"] = strings.ReplaceAll(brokertest.Policies, `"payments"`, `"nobody"`)
	d.Target.SetHook(func(ctx context.Context, step targettest.Step, _ string) error {
		if step != targettest.AfterGrant {
			return nil
		}
		_, err := d.Apply(ctx, brokertest.Local(), narrowed, "")
		return err
	})
	if _, err := d.Acquire(t.Context(), brokertest.Ask("alice", "reader")); !fault.Is(err, fault.Denied) {
		t.Fatalf("got %v", err)
	}
	d.Await("the credential to die", func() bool { return len(d.Live()) == 0 && len(d.System.Leases()) == 0 })
}

func TestAnAccessRevisionThatStillPermitsDisturbsNoGrant(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	wider := brokertest.Configuration()
	wider["more.cedar"] = `forbid (principal, action, resource == Role::"writer");`
	d.Target.SetHook(func(ctx context.Context, step targettest.Step, _ string) error {
		if step != targettest.AfterGrant {
			return nil
		}
		_, err := d.Apply(ctx, brokertest.Local(), wider, "")
		return err
	})
	got := d.Acquired("alice", "reader")
	brokertest.Must(t, d.System.Try(got.Credential))
}

func TestLimits(t *testing.T) {
	t.Run("of live leases of a principal in a role", func(t *testing.T) {
		d := brokertest.Start(t, brokertest.Options{})
		for range 20 {
			d.Acquired("alice", "reader")
		}
		if _, err := d.Acquire(t.Context(), brokertest.Ask("alice", "reader")); !fault.Is(err, fault.TooMany) {
			t.Errorf("the 21st: %v", err)
		}
		d.Acquired("bob", "reader")
	})
	t.Run("of live leases of a principal, also when all ask at once", func(t *testing.T) {
		d := brokertest.Start(t, brokertest.Options{Limits: broker.Limits{LeasesPerPrincipal: 5}})
		var mu sync.Mutex
		var got, refused int
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() {
				_, err := d.Acquire(t.Context(), brokertest.Ask("alice", "writer"))
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
		d := brokertest.Start(t, brokertest.Options{Limits: broker.Limits{AcquireRate: 0.01}})
		d.Acquired("alice", "reader")
		_, err := d.Acquire(t.Context(), brokertest.Ask("alice", "reader"))
		refusal, ok := errors.AsType[*fault.Error](err)
		if !ok || refusal.Kind != fault.TooMany || refusal.RetryAfter <= 0 {
			t.Errorf("the second: %v", err)
		}
		d.Acquired("bob", "reader")
	})
}

func TestIdempotencyKeys(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	request := brokertest.Ask("alice", "reader")
	request.Key = "job-1"
	first, err := d.Acquire(t.Context(), request)
	brokertest.Must(t, err)
	second, err := d.Acquire(t.Context(), request)
	brokertest.Must(t, err)
	if l := d.AwaitState(first.Lease.ID, lease.Revoked); l.Reason != lease.Superseded {
		t.Errorf("the first lease ended as %q", l.Reason)
	}
	brokertest.Must(t, d.System.Try(second.Credential))

	other := request
	other.Role = "writer"
	if _, err := d.Acquire(t.Context(), other); !fault.Is(err, fault.Conflict) {
		t.Errorf("another body under the same key: %v", err)
	}
	foreign := request
	foreign.Evidence = brokertest.Shown(secret.New("bob"))
	brokertest.Must(t, func() error { _, err := d.Acquire(t.Context(), foreign); return err }())
	if l := d.Stored(second.Lease.ID); l.State != lease.Active {
		t.Errorf("another principal's use of the key ended the lease: %s", l.State)
	}
}

func TestDenialsAreAggregated(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	before := d.LedgerSize()
	ids := map[string]bool{}
	for range 500 {
		_, err := d.Acquire(t.Context(), brokertest.Ask("mallory", "reader"))
		refusal, ok := errors.AsType[*fault.Error](err)
		if !ok || refusal.Kind != fault.Denied {
			t.Fatalf("got %v", err)
		}
		ids[refusal.Decision] = true
	}
	if grown := d.LedgerSize() - before; grown != 1 {
		t.Errorf("500 equal denials made %d ledger entries", grown)
	}
	if len(ids) != 1 {
		t.Errorf("500 equal denials have %d decisions", len(ids))
	}
	for id := range ids {
		decision, err := d.Decision(t.Context(), brokertest.Local(), id)
		brokertest.Must(t, err)
		if decision.Outcome != "deny" || decision.Subject != "mallory" || !json.Valid(decision.Input) {
			t.Errorf("the decision is %+v", decision)
		}
		if _, err := d.Decision(t.Context(), brokertest.As("mallory"), id); !fault.Is(err, fault.Denied) {
			t.Errorf("the denied one may read the decision: %v", err)
		}
	}
}
