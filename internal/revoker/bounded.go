package revoker

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/target"
)

// A credential of the class bounded ends by itself. When its time is up there is nothing to destroy, and so nothing that
// must be on the record first: its target is asked whether it is dead before its end is recorded, and what it says is
// recorded with the end. For the others, and where the target has no answer, the queue asks after the end is recorded.

const (
	fateTime = time.Second // how long all questions of a batch may take: other targets' leases wait meanwhile
	askers   = 8
)

// fate is what a target said of a credential whose time is up.
type fate struct {
	lives *target.UnexpiredError // nil where it is dead
	again time.Time              // when to ask again where it lives
}

func (f fate) dead() bool { return f.lives == nil }

// fates asks about those of leases that expired whose credentials end by themselves.
func (r *Revoker) fates(ctx context.Context, leases []store.Lease, reason lease.Reason) map[lease.ID]fate {
	if reason != lease.Expired {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fateTime)
	defer cancel()
	all := make([]*fate, len(leases))
	var asking errgroup.Group
	asking.SetLimit(askers)
	now := r.clock.Now()
	for i, l := range leases {
		if m, ok := r.fleet.Member(l.Target); ok && m.foretells(l, now) {
			asking.Go(func() error {
				all[i] = r.fate(ctx, m, l)
				return nil
			})
		}
	}
	_ = asking.Wait() // they return none
	known := map[lease.ID]fate{}
	for i, f := range all {
		if f != nil {
			known[leases[i].ID] = *f
		}
	}
	return known
}

// foretells reports whether the target may be asked about a lease before its end is recorded. After a restore of the
// store it may not: then the end itself is in doubt.
func (m *Member) foretells(l store.Lease, now time.Time) bool {
	if l.State != lease.Active || l.Revocation != string(target.Bounded) || !m.hasMet() || m.inQuarantine(now) {
		return false
	}
	_, shut := m.revocations.open(time.Now())
	return !shut
}

// fate asks about one credential; nil where there is no answer.
func (r *Revoker) fate(ctx context.Context, m *Member, l store.Lease) *fate {
	if ctx.Err() != nil {
		return nil
	}
	err := m.revoke(ctx, string(l.ID))
	if lives, ok := errors.AsType[*target.UnexpiredError](err); ok {
		return &fate{lives: lives, again: r.askAgain(lives.Until)}
	}
	if err != nil {
		return nil
	}
	return &fate{}
}
