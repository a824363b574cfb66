package revoker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

// bounded is a target whose credentials nobody can pull: they die at a time.
type bounded struct {
	*targettest.Memory
	until time.Time
	asked atomic.Int64
}

func (b *bounded) Revoke(ctx context.Context, lease string) error {
	b.asked.Add(1)
	if time.Now().Before(b.until) {
		return &target.UnexpiredError{Until: b.until}
	}
	return b.Memory.Revoke(ctx, lease)
}

func TestACredentialThatNobodyCanPullIsRevokingUntilItsTimeIsUp(t *testing.T) {
	w := newWorld(t, "")
	b := &bounded{Memory: targettest.NewMemory(targettest.NewSystem(time.Now)), until: time.Now().Add(2 * time.Second)}
	m := revoker.NewMember("vault", "bounded", b)
	w.fleet.Put(m)
	w.run()
	l, _ := w.grant(b, "vault", time.Hour)
	w.end(l)
	w.await("the first question", func() bool { return b.asked.Load() > 0 })
	got := w.awaitState(l.ID, lease.Revoked)
	if got.RevokedAt.Before(b.until) {
		t.Errorf("revoked at %s, and the credential lived until %s", got.RevokedAt, b.until)
	}
	if got.Attempt != 0 || m.Health(time.Now()).LastError != "" {
		t.Errorf("waiting was called a failure: attempt %d, %+v", got.Attempt, m.Health(time.Now()))
	}
	if asked := b.asked.Load(); asked > 3 {
		t.Errorf("the target was asked %d times", asked)
	}
}

// expire lets a lease of a credential that ends by itself run out while the revoker runs.
func (w *world) expire(b *bounded, life time.Duration) store.Lease {
	w.t.Helper()
	l := w.insert("vault", life)
	_, err := b.Grant(w.t.Context(), target.Grant{Lease: string(l.ID), Rights: targettest.MemoryRights(), TTL: time.Hour})
	must(w.t, err)
	l.Revocation = string(target.Bounded)
	w.move(&l, lease.Granted, "")
	w.revoker.WakeExpiry(l.ExpiresAt)
	return l
}

func boundedWorld(t *testing.T, until time.Time) (*world, *bounded) {
	w := newWorld(t, "")
	b := &bounded{Memory: targettest.NewMemory(targettest.NewSystem(time.Now)), until: until}
	m := revoker.NewMember("vault", "bounded", b)
	w.fleet.Put(m)
	w.run()
	w.await("the first look at the target", func() bool { return !m.Health(time.Now()).Swept.IsZero() })
	return w, b
}

func TestACredentialThatEndedByItselfIsPutToRestInOneWrite(t *testing.T) {
	w, b := boundedWorld(t, time.Now())
	got := w.awaitState(w.expire(b, 50*time.Millisecond).ID, lease.Revoked)
	if got.Version != 3 || got.Reason != lease.Expired || got.RevokedAt.Before(got.ExpiresAt) || !got.RevokedAt.Equal(got.EndedAt) {
		t.Errorf("it is %+v", got)
	}
	if b.asked.Load() != 1 || w.entries(ledger.LeaseRevoking) != 1 || w.entries(ledger.LeaseRevoked) != 1 {
		t.Errorf("asked %d times, with %d and %d entries", b.asked.Load(), w.entries(ledger.LeaseRevoking), w.entries(ledger.LeaseRevoked))
	}
}

func TestACredentialThatOutlivesItsLeaseIsAskedAboutWhenItsTimeHasCome(t *testing.T) {
	w, b := boundedWorld(t, time.Now())
	b.until = time.Now().Add(8 * time.Second) // after all that has to start, so that it is seen waiting
	l := w.expire(b, 50*time.Millisecond)
	waiting := w.awaitState(l.ID, lease.Revoking)
	if waiting.NextAttempt.Before(b.until.Truncate(time.Microsecond)) || waiting.LastError == "" || waiting.Attempt != 0 {
		t.Errorf("it is tried at %s (%q), and lives until %s", waiting.NextAttempt, waiting.LastError, b.until)
	}
	if got := w.awaitState(l.ID, lease.Revoked); got.RevokedAt.Before(b.until) || b.asked.Load() != 2 {
		t.Errorf("revoked at %s after %d questions, and it lived until %s", got.RevokedAt, b.asked.Load(), b.until)
	}
}

// A target that does not answer keeps nobody's end from being recorded.
func TestATargetThatDoesNotAnswerDelaysNoEnd(t *testing.T) {
	w, b := boundedWorld(t, time.Now())
	healed := make(chan struct{})
	b.SetHook(func(ctx context.Context, step targettest.Step, _ string) error {
		if step != targettest.BeforeRevoke {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-healed: // also for a question that is under way by then
			return nil
		}
	})
	l := w.expire(b, 50*time.Millisecond)
	if got := w.awaitState(l.ID, lease.Revoking); got.EndedAt.Sub(got.ExpiresAt) > 10*time.Second {
		t.Errorf("it ended %s after its time", got.EndedAt.Sub(got.ExpiresAt))
	}
	close(healed)
	w.awaitState(l.ID, lease.Revoked)
}
