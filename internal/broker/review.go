package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// A lease stands on a decision. A review makes that decision again while the lease lives, and ends the lease where it
// falls otherwise. What the request brought stays as it was when the lease was acquired or last renewed: evidence,
// address and place, age of the token, number of other leases. What is true of the world is as it is now: policies,
// posture and time.
//
//	posture changed or grew old   the leases of that record, at once
//	policies changed              all leases, once for each activation, by one server
//	time passed                   the leases of roles whose policies look at the time, again and again
//
// What is to be looked at stands in the store, so that a crash loses none of it. Nothing waits for a review: it reads
// pages of snapshots, and only what ends passes through the store's writer.

const (
	reviewEvery = 500 * time.Millisecond // how often to look for changes, also those that other servers made
	timeEvery   = 10 * time.Second       // between two rounds of what hangs on the time
	reviewPage  = 200                    // leases read at a time
	reviewEnds  = 50                     // leases ended in one transaction
	// Pauses between pages, as times of what a page took: a change of policies has half of one core at the most, and
	// rounds that nobody asked for a tenth.
	changePause, timePause = 1, 9
	reviewClaim            = 15 * time.Second
	reviewWork             = "(review)" // the claim of it; no target has such a name
)

// wakeReviews tells the reviews of posture that there may be something to look at.
func (b *Broker) wakeReviews() { signal(b.changed) }

// signal wakes a loop; one pending wake is as good as many.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// reviews is where one kind of review of this server is. Each kind has a loop of its own: a change of posture does not
// wait for a round over all leases.
type reviews struct {
	broker  *Broker
	claimed time.Time // until when they are our work
}

// runReviews reviews what there is to review, until ctx ends.
func (b *Broker) runReviews(ctx context.Context) {
	var loops sync.WaitGroup
	for _, loop := range []struct {
		wake  <-chan struct{}
		every time.Duration
		round func(*reviews, context.Context, *View) error
	}{
		{b.changed, reviewEvery, (*reviews).postures},
		{b.activated, reviewEvery, (*reviews).policies},
		{nil, timeEvery, (*reviews).times},
		{nil, reviewEvery, (*reviews).devices},
	} {
		loops.Go(func() { (&reviews{broker: b}).loop(ctx, loop.wake, loop.every, loop.round) })
	}
	loops.Wait()
}

// loop does one kind of review, at each wake and from time to time.
func (r *reviews) loop(ctx context.Context, wake <-chan struct{}, every time.Duration, round func(*reviews, context.Context, *View) error) {
	for wait := every; ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-wake:
			timer.Stop()
		case <-timer.C:
		}
		wait = every
		view := r.broker.View()
		if view == nil {
			continue
		}
		ours, err := r.claim(ctx)
		if err == nil && ours {
			err = round(r, ctx, view)
		}
		if err != nil && ctx.Err() == nil {
			r.broker.log.Error("decide live leases again", "err", err)
			wait = 10 * reviewEvery
		}
	}
}

// times reviews the leases of roles whose policies look at the time.
func (r *reviews) times(ctx context.Context, view *View) error {
	for _, role := range view.Policy.Timed() {
		if err := r.all(ctx, view, store.Filter{Role: role}, timePause); err != nil {
			return err
		}
	}
	return nil
}

// claim makes reviews the work of one of the servers of a store.
func (r *reviews) claim(ctx context.Context) (ours bool, err error) {
	now := time.Now()
	if !r.broker.store.Shared() || now.Before(r.claimed) {
		return true, nil
	}
	err = r.broker.store.Update(ctx, func(tx *store.Tx) (err error) {
		ours, err = tx.Keep(reviewWork, reviewClaim)
		return err
	})
	if ours {
		r.claimed = now.Add(reviewClaim / 2)
	}
	return ours, err
}

// age makes changes of the records that are believed no more.
func (r *reviews) age(ctx context.Context, view *View) error {
	s, now := r.broker.store, r.broker.clock.Now()
	for name, source := range view.Access.Postures {
		before := now.Add(-source.MaxAge)
		var stale bool
		err := s.View(ctx, func(tx *store.Tx) error {
			oldest, some, err := tx.OldestPosture(name)
			stale = some && oldest.Before(before)
			return err
		})
		for err == nil && stale {
			err = s.Update(ctx, func(tx *store.Tx) error {
				n, err := tx.AgePosture(name, before, reviewPage)
				stale = n == reviewPage
				return err
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// postures reviews the leases of records that have changed or grown old.
func (r *reviews) postures(ctx context.Context, view *View) error {
	if err := r.age(ctx, view); err != nil {
		return err
	}
	var sources []string
	err := r.broker.store.View(ctx, func(tx *store.Tx) (err error) {
		sources, err = tx.PostureTurns()
		return err
	})
	for _, source := range sources {
		for more := true; more && err == nil; {
			more, err = r.turns(ctx, view, source)
		}
	}
	return err
}

// turns reviews the leases of some of the changes of a source, and reports whether there are more.
func (r *reviews) turns(ctx context.Context, view *View, source string) (more bool, err error) {
	var changed []store.PostureRecord
	err = r.broker.store.View(ctx, func(tx *store.Tx) (err error) {
		changed, err = tx.PostureChanged(source, reviewPage)
		return err
	})
	if err != nil || len(changed) == 0 {
		return false, err
	}
	for _, record := range changed {
		err := r.pages(ctx, view, 0, func(tx *store.Tx, cursor string) ([]store.Lease, string, error) {
			return tx.PostureLeases(source, record.ID, cursor, reviewPage)
		})
		if err != nil {
			return false, err
		}
	}
	err = r.broker.store.Update(ctx, func(tx *store.Tx) error { return tx.PostureReviewed(source, changed[len(changed)-1].Turn) })
	return len(changed) == reviewPage, err
}

// policies reviews all leases where the active revision is another than that of the last time.
func (r *reviews) policies(ctx context.Context, view *View) error {
	var reviewed string
	err := r.broker.store.View(ctx, func(tx *store.Tx) (err error) {
		reviewed, err = tx.Reviewed()
		return err
	})
	if err != nil || reviewed == view.Revision {
		return err
	}
	begun := time.Now()
	if err := r.freshen(ctx, view); err != nil {
		return err
	}
	if err := r.all(ctx, view, store.Filter{}, changePause); err != nil {
		return err
	}
	if r.broker.View() != view {
		return nil // another one is active by now: it has its own turn
	}
	r.broker.log.Debug("all live leases were decided again", "revision", view.Revision, "took", time.Since(begun))
	return r.broker.store.Update(ctx, func(tx *store.Tx) error {
		if active, err := tx.ActiveID(); err != nil || active != view.Revision {
			return err
		}
		return tx.SetReviewed(view.Revision)
	})
}

// freshen has records grow old once more that this revision believes for longer than the one before.
func (r *reviews) freshen(ctx context.Context, view *View) error {
	if len(view.Access.Postures) == 0 {
		return nil
	}
	now := r.broker.clock.Now()
	return r.broker.store.Update(ctx, func(tx *store.Tx) error {
		for name, source := range view.Access.Postures {
			if err := tx.FreshenPosture(name, now.Add(-source.MaxAge)); err != nil {
				return err
			}
		}
		return nil
	})
}

// all reviews the live leases of a filter.
func (r *reviews) all(ctx context.Context, view *View, filter store.Filter, pause int) error {
	filter.Live = true
	return r.pages(ctx, view, pause, func(tx *store.Tx, cursor string) ([]store.Lease, string, error) {
		return tx.Leases(filter, cursor, reviewPage)
	})
}

// pages reviews page after page of leases, while a view is active and the work is ours.
func (r *reviews) pages(ctx context.Context, view *View, pause int, read func(tx *store.Tx, cursor string) ([]store.Lease, string, error)) error {
	for cursor, more := "", true; more; {
		begun := time.Now()
		if ours, err := r.claim(ctx); err != nil || !ours {
			return err
		}
		var page []reviewed
		err := r.broker.store.View(ctx, func(tx *store.Tx) error {
			leases, next, err := read(tx, cursor)
			if err != nil {
				return err
			}
			cursor, more = next, next != ""
			page, err = r.broker.decideAgain(tx, view, leases)
			return err
		})
		if err == nil {
			err = r.broker.conclude(ctx, view, page)
		}
		if err != nil || r.broker.View() != view {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(pause) * time.Since(begun)):
		}
	}
	return nil
}

// reviewed is a lease and how its decision falls now.
type reviewed struct {
	lease    store.Lease
	outcome  string
	around   circumstances
	decision policy.Decision
	request  policy.Request
}

// The outcomes of a review.
const (
	holds   = "holds"   // as it was
	fails   = "ended"   // the policies no longer permit it
	unknown = "unknown" // what it was decided on is kept no more: it is left to its expiry
)

// decideAgain makes the decisions of leases again.
func (b *Broker) decideAgain(tx *store.Tx, view *View, leases []store.Lease) ([]reviewed, error) {
	inputs, err := tx.DecisionInputs(leases)
	if err != nil {
		return nil, err
	}
	all := make([]reviewed, 0, len(leases))
	for _, l := range leases {
		one, concerns, err := b.review(tx, view, l, inputs[l.ID])
		if err != nil {
			return nil, err
		}
		if concerns {
			all = append(all, one)
		}
	}
	return all, nil
}

// review makes the decision of one lease again. Leases that end already, whose issuer left, which is an end of its own,
// or whose role left, which drain, do not concern it.
func (b *Broker) review(tx *store.Tx, view *View, l store.Lease, input []byte) (one reviewed, concerns bool, err error) {
	one = reviewed{lease: l, outcome: holds}
	if _, exists := view.Access.Roles[l.Role]; !exists || l.State != lease.Pending && l.State != lease.Active {
		return one, false, nil
	}
	request, err := policy.Recall(input)
	if err != nil {
		if len(input) > 0 {
			b.log.Error("decide a lease again", "lease", l.ID, "err", err)
		}
		one.outcome = unknown
		return one, true, nil
	}
	principal, trusted := view.recognise(request.Principal)
	if !trusted {
		return one, false, nil
	}
	if one.around, err = circumstancesOf(tx, view, principal, 1); err != nil {
		return one, false, err
	}
	request.Principal = principal
	b.complete(&request, one.around)
	request.Now = b.clock.Now()
	if err := one.around.tellPosture(&request); err != nil {
		return one, false, err
	}
	one.request, one.decision = request, view.Policy.Decide(request)
	if !one.decision.Allow {
		one.outcome = fails
	}
	return one, true, nil
}

// complete adds what was not asked for when a request was decided, from what is known now: otherwise a policy that is
// the first to ask for it would end every lease.
func (b *Broker) complete(request *policy.Request, around circumstances) {
	if request.LiveLeases == nil {
		request.LiveLeases = new(around.live)
	}
	if request.TokenAge == nil {
		request.TokenAge = tokenAge(request.Principal, request.Now) // Now is still that of the request
	}
	if request.Country == "" {
		request.Country, request.Subdivision = b.place(request.SourceIP)
	}
}

// conclude counts reviews, notes what the leases hang on, and ends those that fail.
func (b *Broker) conclude(ctx context.Context, view *View, page []reviewed) error {
	var ends, watches []reviewed
	for _, one := range page {
		switch {
		case one.outcome == fails:
			ends = append(ends, one)
			continue
		case len(one.around.records) > 0:
			watches = append(watches, one)
		}
		b.figures.reviews.WithLabelValues(one.outcome).Inc()
	}
	if err := b.watchAll(ctx, watches); err != nil {
		return err
	}
	for len(ends) > 0 {
		some := ends[:min(reviewEnds, len(ends))]
		ends = ends[len(some):]
		if err := b.endFailed(ctx, view, some); err != nil {
			return err
		}
	}
	return nil
}

// watchAll notes which records leases hang on that were made before the configuration named their source.
func (b *Broker) watchAll(ctx context.Context, page []reviewed) error {
	var missing []reviewed
	err := b.store.View(ctx, func(tx *store.Tx) error {
		for _, one := range page {
			known, err := one.around.watched(tx, one.lease)
			if err != nil {
				return err
			}
			if !known {
				missing = append(missing, one)
			}
		}
		return nil
	})
	if err != nil || len(missing) == 0 {
		return err
	}
	return b.store.Update(ctx, func(tx *store.Tx) error {
		for _, one := range missing {
			if err := one.around.watch(tx, one.lease); err != nil {
				return err
			}
		}
		return nil
	})
}

// endFailed ends leases that the policies no longer permit, each with the decision that says so. Each is decided once
// more in the transaction that ends it: it may have been renewed, and the posture may have turned back.
func (b *Broker) endFailed(ctx context.Context, view *View, page []reviewed) error {
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	var ended []store.Lease
	err := b.store.Update(ctx, func(tx *store.Tx) error {
		ended = ended[:0] // the store may run this again
		if err := b.checkRevision(tx, view); err != nil {
			return err
		}
		for _, one := range page {
			current, err := tx.Lease(one.lease.ID)
			if err != nil {
				return err
			}
			again, err := b.decideAgain(tx, view, []store.Lease{current})
			if err != nil {
				return err
			}
			if len(again) == 0 || again[0].outcome != fails {
				continue
			}
			if err := b.endDecided(tx, view, &current, again[0]); err != nil {
				return err
			}
			ended = append(ended, current)
		}
		return nil
	})
	if errors.Is(err, errRevisionChanged) {
		return nil // the revision that is active has its own turn
	}
	if err != nil {
		return err
	}
	for _, l := range ended {
		b.figures.reviews.WithLabelValues(fails).Inc()
		b.log.Info("a lease ends: the policies no longer permit it", "lease", l.ID, "role", l.Role, "target", l.Target, "decision", l.Decision)
		b.revoker.Wake(l.Target)
	}
	return nil
}

// endDecided records a denial and ends the lease that it is about.
func (b *Broker) endDecided(tx *store.Tx, view *View, l *store.Lease, one reviewed) error {
	now := b.clock.Now()
	d := b.newDecision(view, one.request.Principal, one.request.Action, one.request.Resource, one.decision, now)
	d.Lease = string(l.ID)
	commitment, err := tx.PutDecision(d)
	if err != nil {
		return err
	}
	if err := tx.Redecide(l, d.ID); err != nil { // whoever asks why it ended finds it there
		return err
	}
	entry := ledger.Entry{Time: now, Event: ledger.DecisionDenied, Decision: d.ID, Count: 1, Commitment: commitment}
	if _, err := tx.Append(entry); err != nil {
		return err
	}
	_, err = tx.Move(l, lease.Ended, store.Why{Reason: lease.Policy, Now: now})
	if fault.Is(err, fault.Conflict) {
		return nil // it has just ended
	}
	return err
}
