package revoker

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/target"
)

const (
	page        = 512              // leases read from the store at once
	revokeTime  = 30 * time.Second // how long one call to a target may take
	recordTime  = 30 * time.Second // how long a record of it may wait for the store
	firstRetry  = time.Second
	longRetry   = 5 * time.Minute
	longHold    = time.Hour
	stuckNotice = 8 // attempts after which a lease is named in the log each time
)

// queue revokes the leases of one target, as many at once as the budget allows.
type queue struct {
	revoker *Revoker
	member  *Member
	woken   chan struct{}
	done    chan lease.ID // attempts that ended; each leaves inFlight
	ahead   []store.Lease // read and not handed out yet; owned by run
}

func newQueue(r *Revoker, m *Member) *queue {
	return &queue{revoker: r, member: m, woken: make(chan struct{}, 1), done: make(chan lease.ID, budget)}
}

func (q *queue) wake() { signal(q.woken) }

// run reads what is due and hands it out, until ctx ends or the target leaves the fleet. Attempts under way when
// ctx ends are waited for: each is short, and its record is worth having.
func (q *queue) run(ctx context.Context) {
	inFlight := map[lease.ID]bool{} // owned by this goroutine
	for {
		started, next := q.start(ctx, inFlight)
		if started && len(inFlight) < budget {
			continue
		}
		if !q.wait(ctx, inFlight, next) {
			break
		}
	}
	for len(inFlight) > 0 {
		delete(inFlight, <-q.done)
	}
}

// start hands out due leases while the budget lasts. It reports whether it handed out any, and when to look again.
func (q *queue) start(ctx context.Context, inFlight map[lease.ID]bool) (started bool, next time.Duration) {
	now := time.Now()
	if !q.revoker.keeps(q.member.name) {
		q.ahead = nil
		return false, othersEvery
	}
	if wait, open := q.member.revocations.open(now); open {
		q.ahead = nil
		return false, wait
	}
	if len(q.ahead) == 0 {
		if len(inFlight) > budget/2 {
			return false, time.Minute // what is under way is due too, and would be read again with each that ends
		}
		if next, err := q.read(ctx, inFlight); err != nil || len(q.ahead) == 0 {
			return false, next
		}
	}
	for len(q.ahead) > 0 {
		l := q.ahead[0]
		select {
		case q.member.revocations.slots <- struct{}{}:
		default:
			return started, time.Minute // full: an attempt that ends wakes us
		}
		q.ahead = q.ahead[1:]
		inFlight[l.ID] = true
		started = true
		go q.attempt(ctx, l)
	}
	return started, 0
}

// read fills ahead with what is due and not under way. Where there is nothing it says when to look again.
func (q *queue) read(ctx context.Context, inFlight map[lease.ID]bool) (next time.Duration, err error) {
	due, next, err := q.due(ctx, len(inFlight))
	if err != nil && ctx.Err() != nil {
		return 0, err
	}
	if err != nil {
		q.revoker.log.Error("read the revocations that are due", "target", q.member.name, "err", err)
		return time.Second, err
	}
	met := q.member.hasMet()
	q.ahead = slices.DeleteFunc(due, func(l store.Lease) bool { return inFlight[l.ID] || !met && doubtful(l) })
	return next, nil
}

// hold puts a lease off, which is no failed attempt.
func (q *queue) hold(ctx context.Context, l store.Lease, until time.Time, why string) {
	err := q.revoker.store.UpdateLater(ctx, func(tx *store.Tx) error { return tx.Retry(l.ID, l.Attempt, until, why) })
	if err != nil && !fault.Is(err, fault.Conflict) {
		q.revoker.log.Error("hold a revocation back", "lease", l.ID, "target", q.member.name, "err", err)
	}
}

// due reads the leases to revoke now, and when the next one will be due.
func (q *queue) due(ctx context.Context, inFlight int) (due []store.Lease, next time.Duration, err error) {
	now := q.revoker.clock.Now()
	err = q.revoker.store.View(ctx, func(tx *store.Tx) (err error) {
		due, err = tx.Due(q.member.name, now, page+inFlight)
		if err != nil || len(due) > 0 {
			return err
		}
		next = q.revoker.patience(time.Minute)
		if at, ok, err := tx.NextDue(q.member.name); err != nil {
			return err
		} else if ok {
			next = min(next, at.Sub(now))
		}
		return nil
	})
	return due, next, err
}

// wait sleeps until there may be work, and reports whether to go on.
func (q *queue) wait(ctx context.Context, inFlight map[lease.ID]bool, next time.Duration) bool {
	if next <= 0 {
		next = time.Second
	}
	timer := time.NewTimer(next)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-q.member.retired:
		return false
	case id := <-q.done:
		delete(inFlight, id)
		q.drain(inFlight)
	case <-q.woken:
	case <-timer.C:
	}
	return true
}

// drain takes the other attempts that have ended, so that one read of the store serves them all.
func (q *queue) drain(inFlight map[lease.ID]bool) {
	for {
		select {
		case id := <-q.done:
			delete(inFlight, id)
		default:
			return
		}
	}
}

// attempt revokes one lease at the target and records the proof, or when to try again.
func (q *queue) attempt(ctx context.Context, l store.Lease) {
	defer func() {
		q.member.revocations.leave()
		q.done <- l.ID
	}()
	ctx = context.WithoutCancel(ctx)
	if again, held := q.look(ctx, l); held {
		q.hold(ctx, l, again, "held back: the store was restored, and the credential lives at the target")
		return
	}
	err := q.call(ctx, l)
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	if unexpired, lives := errors.AsType[*target.UnexpiredError](err); lives {
		q.hold(ctx, l, q.revoker.askAgain(unexpired.Until), unexpired.Error())
		return
	}
	if err != nil {
		q.postpone(ctx, l, err)
		return
	}
	q.prove(ctx, l)
}

// askAgain is when to ask again about a credential that lives until a time. A target that is wrong about it is asked
// again all the same.
func (r *Revoker) askAgain(until time.Time) time.Time {
	now := r.clock.Now()
	if soonest := now.Add(firstRetry); until.Before(soonest) {
		return soonest
	}
	if latest := now.Add(longHold); until.After(latest) {
		return latest
	}
	return until
}

// look is [Revoker.heldBack] within the time of a call.
func (q *queue) look(ctx context.Context, l store.Lease) (again time.Time, held bool) {
	ctx, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	return q.revoker.heldBack(ctx, q.member, l)
}

func (q *queue) call(ctx context.Context, l store.Lease) error {
	ctx, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	begun := time.Now()
	err := q.member.revoke(ctx, string(l.ID))
	q.revoker.figures.attempts.WithLabelValues(q.member.name).Observe(time.Since(begun).Seconds())
	return err
}

// prove records the target's proof. When the store cannot record it, the lease stays revoking and is revoked
// again later: the target is asked twice, the promise is kept.
func (q *queue) prove(ctx context.Context, l store.Lease) {
	now := q.revoker.clock.Now()
	var dead store.Lease
	err := q.revoker.store.UpdateLater(ctx, func(tx *store.Tx) (err error) {
		dead, _, err = moveSeen(tx, l, store.Why{Now: now}, func(l store.Lease) bool { return l.State != lease.Revoked }, lease.Proved)
		return err
	})
	if err != nil {
		q.revoker.log.Error("record the death of a credential", "lease", l.ID, "target", q.member.name, "err", err)
		return
	}
	q.revoker.proved(dead)
}

// proved tells everybody of a death that is recorded.
func (r *Revoker) proved(l store.Lease) {
	r.figures.revocations.WithLabelValues(l.Target, "proved").Inc()
	r.figures.revocationAge.WithLabelValues(l.Target).Observe(l.RevokedAt.Sub(l.EndedAt).Seconds())
	r.announce(l.ID)
}

// postpone records a failed attempt. There is no last attempt.
func (q *queue) postpone(ctx context.Context, l store.Lease, cause error) {
	q.revoker.figures.revocations.WithLabelValues(q.member.name, "failed").Inc()
	attempt := l.Attempt + 1
	next := q.revoker.clock.Now().Add(backOff(attempt))
	level := q.revoker.log.Info
	if attempt >= stuckNotice {
		level = q.revoker.log.Warn
	}
	level("a revocation must be tried again", "lease", l.ID, "target", q.member.name, "attempt", attempt, "next", next, "err", cause)
	err := q.revoker.store.UpdateLater(ctx, func(tx *store.Tx) error { return tx.Retry(l.ID, attempt, next, cause.Error()) })
	if err != nil && !fault.Is(err, fault.Conflict) {
		q.revoker.log.Error("record a failed revocation", "lease", l.ID, "target", q.member.name, "err", err)
	}
}

// backOff doubles from a second to five minutes, with a quarter of jitter.
func backOff(attempt int) time.Duration {
	d := min(firstRetry<<min(attempt-1, 20), longRetry)
	return d - rand.N(d/4+1)
}
