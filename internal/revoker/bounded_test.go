package revoker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/revoker"
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
