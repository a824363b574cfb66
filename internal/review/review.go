// Package review makes the decisions that live leases stand on again, and ends the leases where they fall otherwise.
//
// What the request brought stays as it was when the lease was acquired or last renewed: evidence, address and place, age
// of the token, number of other leases. What is true of the world is as it is now: policies, posture and time.
//
//	posture changed or grew old   the leases of that record, at once
//	policies changed              all leases, once for each activation, by one server
//	time passed                   the leases of roles whose policies look at the time, again and again
//
// It owns what there is to look at, and promises that a crash loses none of it, since it stands in the store; and that
// nothing waits for a review: it reads pages of snapshots, and only what ends passes through the store's writer. How a
// decision is made again is for admission to say.
//
// It must not import the broker, the edge, or what wakes it.
package review

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/chore"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

const (
	reviewEvery = 500 * time.Millisecond // how often to look for changes, also those that other servers made
	timeEvery   = 10 * time.Second       // between two rounds of what hangs on the time
	reviewPage  = 200                    // leases read at a time
	reviewEnds  = 50                     // leases ended in one transaction
	endTime     = 30 * time.Second       // how long that may wait for the store
	// Pauses between pages, as times of what a page took: a change of policies has half of one core at the most, and
	// rounds that nobody asked for a tenth.
	changePause, timePause = 1, 9
	reviewWork             = "(review)" // the claim of it; no target has such a name
)

// Guard is what reviews need of admission. [admission.Guard] is one.
type Guard interface {
	View() *admission.View
	Again(tx *store.Tx, view *admission.View, asked policy.Request) (r admission.Ruling, trusted bool, err error)
}

// Config is what Reviews need.
type Config struct {
	Guard Guard
	Store *store.Store
	// Activated and Posture tell that policies, and posture, have changed.
	Activated, Posture <-chan struct{}
	Wake               func(targetName string) // hears that leases of a target have ended
	Now                func() time.Time
	Log                *slog.Logger
}

// Reviews are those of one server.
type Reviews struct {
	guard              Guard
	store              *store.Store
	activated, posture <-chan struct{}
	wake               func(targetName string)
	now                func() time.Time
	log                *slog.Logger
	counted            *prometheus.CounterVec
}

// New returns Reviews.
func New(cfg Config) *Reviews {
	r := &Reviews{
		guard:     cfg.Guard,
		store:     cfg.Store,
		activated: cfg.Activated,
		posture:   cfg.Posture,
		wake:      cfg.Wake,
		now:       cfg.Now,
		log:       cfg.Log,
		counted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daypass_reviews_total", Help: "Live leases decided again because posture, the access configuration or the time changed, by outcome (holds, ended, unknown)."},
			[]string{"outcome"}),
	}
	// What seldom happens is there from the beginning, so that alarms have something to compare with.
	for _, outcome := range []string{holds, fails, unknown} {
		r.counted.WithLabelValues(outcome)
	}
	return r
}

// Describe implements [prometheus.Collector].
func (r *Reviews) Describe(out chan<- *prometheus.Desc) { r.counted.Describe(out) }

// Collect implements [prometheus.Collector].
func (r *Reviews) Collect(out chan<- prometheus.Metric) { r.counted.Collect(out) }

// rounds is one kind of review on its way. Each kind has a loop of its own: a change of posture does not wait for a
// round over all leases.
type rounds struct {
	*Reviews
	claim *chore.Claim
}

// Run reviews what there is to review, until ctx ends.
func (r *Reviews) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	for _, kind := range []struct {
		wake  <-chan struct{}
		every time.Duration
		round func(*rounds, context.Context, *admission.View) error
	}{
		{r.posture, reviewEvery, (*rounds).postures},
		{r.activated, reviewEvery, (*rounds).policies},
		{nil, timeEvery, (*rounds).times},
	} {
		one := &rounds{Reviews: r, claim: chore.NewClaim(r.store, reviewWork)}
		loops.Go(func() {
			chore.Loop{
				Claim: one,
				Wake:  kind.wake,
				Every: kind.every,
				After: 10 * reviewEvery,
				Do: func(ctx context.Context) error {
					return kind.round(one, ctx, r.guard.View())
				},
				Failed: func(err error) { r.log.Error("decide live leases again", "err", err) },
			}.Run(ctx)
		})
	}
	loops.Wait()
	return nil
}

// Ours reports whether reviews are for this server to do. One that serves no revision, whose secrets it lacks for example,
// leaves them to others: with the claim in its hands nobody would do them.
func (r *rounds) Ours(ctx context.Context) (bool, error) {
	if r.guard.View() == nil {
		return false, nil
	}
	return r.claim.Ours(ctx)
}

// times reviews the leases of roles whose policies look at the time.
func (r *rounds) times(ctx context.Context, view *admission.View) error {
	for _, role := range view.Policy.Timed() {
		if err := r.all(ctx, view, store.Filter{Role: role}, timePause); err != nil {
			return err
		}
	}
	return nil
}

// age makes changes of the records that are believed no more.
func (r *rounds) age(ctx context.Context, view *admission.View) error {
	s, now := r.store, r.now()
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
func (r *rounds) postures(ctx context.Context, view *admission.View) error {
	if err := r.age(ctx, view); err != nil {
		return err
	}
	var sources []string
	err := r.store.View(ctx, func(tx *store.Tx) (err error) {
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
func (r *rounds) turns(ctx context.Context, view *admission.View, source string) (more bool, err error) {
	var changed []store.PostureRecord
	err = r.store.View(ctx, func(tx *store.Tx) (err error) {
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
	err = r.store.Update(ctx, func(tx *store.Tx) error { return tx.PostureReviewed(source, changed[len(changed)-1].Turn) })
	return len(changed) == reviewPage, err
}

// policies reviews all leases where the active revision is another than that of the last time.
func (r *rounds) policies(ctx context.Context, view *admission.View) error {
	var reviewed string
	err := r.store.View(ctx, func(tx *store.Tx) (err error) {
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
	if r.guard.View() != view {
		return nil // another one is active by now: it has its own turn
	}
	r.log.Debug("all live leases were decided again", "revision", view.Revision, "took", time.Since(begun))
	return r.store.Update(ctx, func(tx *store.Tx) error {
		if active, err := tx.ActiveID(); err != nil || active != view.Revision {
			return err
		}
		return tx.SetReviewed(view.Revision)
	})
}

// freshen has records grow old once more that this revision believes for longer than the one before.
func (r *rounds) freshen(ctx context.Context, view *admission.View) error {
	if len(view.Access.Postures) == 0 {
		return nil
	}
	now := r.now()
	return r.store.Update(ctx, func(tx *store.Tx) error {
		for name, source := range view.Access.Postures {
			if err := tx.FreshenPosture(name, now.Add(-source.MaxAge)); err != nil {
				return err
			}
		}
		return nil
	})
}

// all reviews the live leases of a filter.
func (r *rounds) all(ctx context.Context, view *admission.View, filter store.Filter, pause int) error {
	filter.Live = true
	return r.pages(ctx, view, pause, func(tx *store.Tx, cursor string) ([]store.Lease, string, error) {
		return tx.Leases(filter, cursor, reviewPage)
	})
}

// pages reviews page after page of leases, while a view is active and the work is ours.
func (r *rounds) pages(ctx context.Context, view *admission.View, pause int, read func(tx *store.Tx, cursor string) ([]store.Lease, string, error)) error {
	for cursor, more := "", true; more; {
		begun := time.Now()
		if ours, err := r.claim.Ours(ctx); err != nil || !ours {
			return err
		}
		var page []reviewed
		err := r.store.View(ctx, func(tx *store.Tx) error {
			leases, next, err := read(tx, cursor)
			if err != nil {
				return err
			}
			cursor, more = next, next != ""
			page, err = r.decideAgain(tx, view, leases)
			return err
		})
		if err == nil {
			err = r.conclude(ctx, view, page)
		}
		if err != nil || r.guard.View() != view {
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
	lease   store.Lease
	outcome string
	ruling  admission.Ruling // zero where it is unknown
}

// The outcomes of a review.
const (
	holds   = "holds"   // as it was
	fails   = "ended"   // the policies no longer permit it
	unknown = "unknown" // what it was decided on is kept no more: it is left to its expiry
)

// decideAgain makes the decisions of leases again.
func (r *Reviews) decideAgain(tx *store.Tx, view *admission.View, leases []store.Lease) ([]reviewed, error) {
	inputs, err := tx.DecisionInputs(leases)
	if err != nil {
		return nil, err
	}
	all := make([]reviewed, 0, len(leases))
	for _, l := range leases {
		one, concerns, err := r.decide(tx, view, l, inputs[l.ID])
		if err != nil {
			return nil, err
		}
		if concerns {
			all = append(all, one)
		}
	}
	return all, nil
}

// decide makes the decision of one lease again. Leases that end already, whose issuer left, which is an end of its own,
// or whose role left, which drain, do not concern it.
func (r *Reviews) decide(tx *store.Tx, view *admission.View, l store.Lease, input []byte) (one reviewed, concerns bool, err error) {
	one = reviewed{lease: l, outcome: holds}
	if _, exists := view.Access.Roles[l.Role]; !exists || l.State != lease.Pending && l.State != lease.Active {
		return one, false, nil
	}
	asked, err := policy.Recall(input)
	if err != nil {
		if len(input) > 0 {
			r.log.Error("decide a lease again", "lease", l.ID, "err", err)
		}
		one.outcome = unknown
		return one, true, nil
	}
	if one.ruling, concerns, err = r.guard.Again(tx, view, asked); err != nil || !concerns {
		return one, false, err
	}
	if !one.ruling.Allow {
		one.outcome = fails
	}
	return one, true, nil
}

// conclude counts reviews, notes what the leases hang on, and ends those that fail.
func (r *Reviews) conclude(ctx context.Context, view *admission.View, page []reviewed) error {
	var ends, watches []reviewed
	for _, one := range page {
		switch one.outcome {
		case fails:
			ends = append(ends, one)
			continue
		case holds:
			watches = append(watches, one)
		}
		r.counted.WithLabelValues(one.outcome).Inc()
	}
	if err := r.watchAll(ctx, watches); err != nil {
		return err
	}
	for len(ends) > 0 {
		some := ends[:min(reviewEnds, len(ends))]
		ends = ends[len(some):]
		if err := r.endFailed(ctx, view, some); err != nil {
			return err
		}
	}
	return nil
}

// watchAll notes which records leases hang on that were made before the configuration named their source.
func (r *Reviews) watchAll(ctx context.Context, page []reviewed) error {
	var missing []reviewed
	err := r.store.View(ctx, func(tx *store.Tx) error {
		for _, one := range page {
			known, err := one.ruling.Watched(tx, one.lease)
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
	return r.store.Update(ctx, func(tx *store.Tx) error {
		for _, one := range missing {
			if err := one.ruling.Watch(tx, one.lease); err != nil {
				return err
			}
		}
		return nil
	})
}

// endFailed ends leases that the policies no longer permit, each with the decision that says so. Each is decided once
// more in the transaction that ends it: it may have been renewed, and the posture may have turned back.
func (r *Reviews) endFailed(ctx context.Context, view *admission.View, page []reviewed) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	var ended []store.Lease
	err := r.store.Update(ctx, func(tx *store.Tx) error {
		ended = ended[:0] // the store may run this again
		if err := view.Check(tx); err != nil {
			return err
		}
		for _, one := range page {
			current, err := tx.Lease(one.lease.ID)
			if err != nil {
				return err
			}
			again, err := r.decideAgain(tx, view, []store.Lease{current})
			if err != nil {
				return err
			}
			if len(again) == 0 || again[0].outcome != fails {
				continue
			}
			if err := endDecided(tx, &current, again[0].ruling.Decision); err != nil {
				return err
			}
			ended = append(ended, current)
		}
		return nil
	})
	if errors.Is(err, admission.ErrRevisionChanged) {
		return nil // the revision that is active has its own turn
	}
	if err != nil {
		return err
	}
	for _, l := range ended {
		r.counted.WithLabelValues(fails).Inc()
		r.log.Info("a lease ends: the policies no longer permit it", "lease", l.ID, "role", l.Role, "target", l.Target, "decision", l.Decision)
		r.wake(l.Target)
	}
	return nil
}

// endDecided records a denial and ends the lease that it is about.
func endDecided(tx *store.Tx, l *store.Lease, d store.Decision) error {
	now := d.At
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
