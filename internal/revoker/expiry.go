package revoker

import (
	"context"
	"errors"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

// runExpirer ends active leases whose time is up, in pages, and sleeps until the next expiry.
func (r *Revoker) runExpirer(ctx context.Context) error {
	for {
		r.planned.Store(0) // a lease that comes while we look must wake us
		next, err := r.expirePage(ctx)
		if err != nil && ctx.Err() == nil {
			r.log.Error("end the leases that expired", "err", err)
			next = time.Second
		}
		if next > 0 {
			r.planned.Store(r.clock.Now().Add(next).UnixMicro())
		}
		if ctx.Err() != nil || !pause(ctx, next, r.expire) {
			return nil
		}
	}
}

// expirePage ends one page of leases and returns how long there is nothing more to do.
func (r *Revoker) expirePage(ctx context.Context) (next time.Duration, err error) {
	now := r.clock.Now()
	var expired []store.Lease
	if next = r.patience(time.Minute); !r.keeps(housekeeping) {
		return next, nil
	}
	err = r.store.View(ctx, func(tx *store.Tx) (err error) {
		if expired, err = tx.Expired(now, page); err != nil || len(expired) > 0 {
			return err
		}
		if expired, err = tx.Overdue(now, page); err != nil || len(expired) > 0 {
			return err
		}
		if at, ok, err := tx.NextExpiry(); err != nil {
			return err
		} else if ok {
			next = min(next, at.Sub(now))
		}
		return nil
	})
	if err != nil || len(expired) == 0 {
		return next, err
	}
	return 0, r.end(ctx, expired, lease.Expired)
}

// The ends of very many leases are recorded in batches of about so long: who comes to the store meanwhile waits for one.
const (
	batchTime  = 5 * time.Millisecond
	firstEnds  = 64
	fewestEnds = 16
	mostEnds   = 128
)

// end moves leases to revoking for a reason, a batch at a time, and wakes their targets' queues. Leases that ended
// meanwhile are left as they are.
func (r *Revoker) end(ctx context.Context, leases []store.Lease, reason lease.Reason) error {
	for size := firstEnds; len(leases) > 0; {
		size = min(size, len(leases))
		took, err := r.endSome(ctx, leases[:size], reason)
		if err != nil {
			return err
		}
		leases = leases[size:]
		// Half of the difference, so that one slow batch is not taken for the rule.
		right := int(float64(size) * float64(batchTime) / float64(max(took, time.Microsecond)))
		size = min(max((size+right)/2, fewestEnds), mostEnds)
	}
	return nil
}

// endSome ends a batch, and returns how long it took the store.
func (r *Revoker) endSome(ctx context.Context, leases []store.Lease, reason lease.Reason) (took time.Duration, err error) {
	fates := r.fates(ctx, leases, reason)
	begun := time.Now()
	now := r.clock.Now()
	var moved []store.Lease
	err = r.store.UpdateLater(ctx, func(tx *store.Tx) error {
		moved = moved[:0] // the store may run this again
		for _, l := range leases {
			why := store.Why{Reason: reason, Now: now}
			events := []lease.Event{lease.Ended}
			switch fate, asked := fates[l.ID]; {
			case asked && fate.dead():
				events = append(events, lease.Proved)
			case asked:
				why.Next, why.Error = fate.again, fate.lives.Error()
			}
			ended, ok, err := moveSeen(tx, l, why, func(l store.Lease) bool { return stillDue(l, reason, now) }, events...)
			if err != nil {
				return err
			}
			if ok {
				moved = append(moved, ended)
			}
		}
		return nil
	})
	if err == nil {
		r.ended(moved, reason)
	}
	return time.Since(begun), err
}

// ended tells everybody of leases that ended.
func (r *Revoker) ended(leases []store.Lease, reason lease.Reason) {
	woken := map[string]bool{}
	for _, l := range leases {
		r.figures.ended.WithLabelValues(string(reason)).Inc()
		if l.State == lease.Revoked {
			r.proved(l)
		} else if !woken[l.Target] {
			woken[l.Target] = true
			r.Wake(l.Target)
		}
	}
}

// moveSeen moves a lease as it was read a moment ago, if it is one that the move is for, and returns it as it then is.
// It is read again only where it has changed since: of a hundred thousand that end at once that is none, and to read is
// half of the work. Then only the first event holds: the others were asked for about the lease as it was.
func moveSeen(tx *store.Tx, l store.Lease, why store.Why, wanted func(store.Lease) bool, events ...lease.Event) (store.Lease, bool, error) {
	if !wanted(l) {
		return l, false, nil
	}
	_, err := tx.MoveAll(&l, why, events...)
	if !errors.Is(err, store.ErrStale) {
		return l, err == nil, err
	}
	if l, err = tx.Lease(l.ID); err != nil || !wanted(l) {
		return l, false, err
	}
	_, err = tx.Move(&l, events[0], why)
	return l, err == nil, err
}

// stillDue reports whether a lease read a moment ago is still to be ended: it may have been renewed or ended.
func stillDue(l store.Lease, reason lease.Reason, now time.Time) bool {
	if l.State != lease.Pending && l.State != lease.Active {
		return false
	}
	return reason != lease.Expired || !l.ExpiresAt.After(now)
}

// runEnforcer ends what a crash left pending, then, at each wake, what locks and withdrawn issuers end.
func (r *Revoker) runEnforcer(ctx context.Context) error {
	enforced := map[string]bool{}
	for {
		err := r.endInterrupted(ctx)
		if err == nil {
			err = r.enforceLocks(ctx, enforced)
		}
		wait := time.Minute
		if r.store.Shared() {
			wait = otherDeadEvery
		}
		if err != nil && ctx.Err() == nil {
			r.log.Error("end the leases that locks or a crash end", "err", err)
			wait = time.Second
		}
		if !pause(ctx, wait, r.enforce) {
			return nil
		}
	}
}

// endInterrupted ends the leases that an earlier boot left pending: nobody else will.
func (r *Revoker) endInterrupted(ctx context.Context) error {
	for {
		var found []store.Lease
		err := r.store.View(ctx, func(tx *store.Tx) (err error) {
			found, err = tx.Interrupted(r.store.Boot(), page)
			return err
		})
		if err != nil || len(found) == 0 {
			return err
		}
		if err := r.end(ctx, found, lease.Interrupted); err != nil {
			return err
		}
	}
}

// enforceLocks ends the live leases that active locks match, once for each lock: after that its leases are refused
// before they live.
func (r *Revoker) enforceLocks(ctx context.Context, enforced map[string]bool) error {
	var locks []store.Lock
	err := r.store.View(ctx, func(tx *store.Tx) (err error) {
		locks, err = tx.ActiveLocks(r.clock.Now())
		return err
	})
	if err != nil {
		return err
	}
	for _, lock := range locks {
		if enforced[lock.ID] {
			continue
		}
		if err := r.EndAll(ctx, lock.Filter(), lease.Locked); err != nil {
			return err
		}
		enforced[lock.ID] = true
	}
	return nil
}

// EndAll ends all live leases that the filter matches, and where it names a principal or an issuer, those in which
// these act for others, page by page. New ones must already be refused.
func (r *Revoker) EndAll(ctx context.Context, filter store.Filter, reason lease.Reason) error {
	filter.Live = true
	if err := r.endListed(ctx, filter, reason, (*store.Tx).Leases); err != nil {
		return err
	}
	return r.endListed(ctx, filter, reason, (*store.Tx).Acting)
}

// endListed ends what a list of the store has for a filter.
func (r *Revoker) endListed(ctx context.Context, filter store.Filter, reason lease.Reason,
	list func(*store.Tx, store.Filter, string, int) ([]store.Lease, string, error)) error {
	for cursor := ""; ; {
		var found []store.Lease
		var next string
		err := r.store.View(ctx, func(tx *store.Tx) (err error) {
			found, next, err = list(tx, filter, cursor, page)
			return err
		})
		if err != nil {
			return err
		}
		if err := r.end(ctx, found, reason); err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		cursor = next
	}
}
