package store

import (
	"context"
	"time"
)

// Pages and pauses of [Store.Retain]: what waits behind a page waits for milliseconds, and four fifths of the
// writer's time are left to others.
const (
	prunePage  = 100
	prunePause = 4                    // times as long as the page took
	shortPause = 5 * time.Millisecond // also when there was nothing before us
	longPause  = 500 * time.Millisecond
)

// Pruned counts what [Store.Retain] deleted.
type Pruned struct{ Leases, Decisions int64 }

// Retain deletes the leases that were revoked before one time and the decisions made before another, all of them,
// in small pages with pauses. Nothing waits for it longer than for any group, whatever there is to delete. The
// ledger keeps its entries of them: what a lease was, and when and why it ended; not whose it was.
//
// What a deleted row took is used again by the next ones: the store stops growing, and does not shrink.
func (s *Store) Retain(ctx context.Context, leasesBefore, decisionsBefore time.Time) (all Pruned, err error) {
	for {
		var page Pruned
		begun := time.Now()
		err := s.Update(ctx, func(tx *Tx) (err error) {
			page.Leases, page.Decisions, err = tx.Prune(leasesBefore, decisionsBefore, prunePage)
			return err
		})
		if err != nil {
			return all, err
		}
		all.Leases += page.Leases
		all.Decisions += page.Decisions
		if page.Leases < prunePage && page.Decisions < prunePage {
			return all, s.tidyActors(ctx)
		}
		timer := time.NewTimer(min(max(prunePause*time.Since(begun), shortPause), longPause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return all, ctx.Err()
		}
	}
}
