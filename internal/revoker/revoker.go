// Package revoker ends leases: it drives every lease that must end to revoked, on the target's proof, and
// reconciles what targets hold with what the store says.
//
// It reads its work from the store, so that a restart is not a special case, and it never gives up: a revocation
// that fails is tried again, later and later, until the target confirms. Each target has a queue, a budget and a
// circuit breaker of its own, so that one sick target cannot keep the others waiting.
//
//	expire    active leases whose time is up        → revoking, and revoked where the credential has ended by itself
//	enforce   leases that a lock or a crash ends    → revoking
//	queue     revoking → target.Revoke → proof      → revoked
//	sweep     target list against store: strays destroyed, missing ones noted
//	narrow    what roles have lost is taken from their live leases
//
// It must not import the broker, the edge or a concrete target. All SQL lives in the store.
package revoker

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

// Config is what a Revoker needs.
type Config struct {
	Store *store.Store
	Fleet *Fleet
	Clock *Clock
	Log   *slog.Logger
	// SweepEvery is the time between two reconciliations of a target; 5 minutes unless set.
	SweepEvery time.Duration
}

// Revoker ends leases. Its methods may be called concurrently.
type Revoker struct {
	store      *store.Store
	fleet      *Fleet
	clock      *Clock
	log        *slog.Logger
	sweepEvery time.Duration
	planned    atomic.Int64 // when the expirer will look again, in microseconds since 1970; 0 while it looks
	longest    atomic.Int64 // the longest life that a lease can have, in nanoseconds
	figures    *figures

	expire  chan struct{} // wakes the expirer; buffered, so that a wake is never lost
	enforce chan struct{} // wakes the enforcer
	claims  claims

	mu      sync.Mutex // guards the fields below
	queues  map[string]*queue
	waiters map[lease.ID][]chan struct{}
}

// New returns a Revoker; [Revoker.Run] does its work.
func New(cfg Config) *Revoker {
	if cfg.SweepEvery == 0 {
		cfg.SweepEvery = 5 * time.Minute
	}
	return &Revoker{
		store:      cfg.Store,
		fleet:      cfg.Fleet,
		clock:      cfg.Clock,
		log:        cfg.Log,
		sweepEvery: cfg.SweepEvery,
		figures:    newFigures(),
		expire:     make(chan struct{}, 1),
		enforce:    make(chan struct{}, 1),
		queues:     map[string]*queue{},
		waiters:    map[lease.ID][]chan struct{}{},
		claims:     claims{until: map[string]time.Time{}, changed: make(chan struct{})},
	}
}

// Run ends leases until ctx ends. It first takes up what a crash left, then serves the queues.
func (r *Revoker) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.runEnforcer(ctx) })
	group.Go(func() error { return r.runExpirer(ctx) })
	group.Go(func() error { return r.runClock(ctx) })
	group.Go(func() error { return r.runQueues(ctx) })
	group.Go(func() error { return r.runClaims(ctx) })
	return group.Wait()
}

// runQueues keeps one queue running for each target of the fleet, as targets come and go.
func (r *Revoker) runQueues(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		changed := r.fleet.Changed()
		for _, m := range r.fleet.Members() {
			q := r.adopt(m)
			if q == nil {
				continue
			}
			running.Go(func() { q.run(ctx) })
			running.Go(func() { r.runSweeps(ctx, m) })
			running.Go(func() { r.runNarrowing(ctx, m) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// adopt returns a new queue for m, or nil when m has one.
func (r *Revoker) adopt(m *Member) *queue {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.queues[m.Name()]; q != nil && q.member == m {
		return nil
	}
	q := newQueue(r, m)
	r.queues[m.Name()] = q
	return q
}

// SetLongest says how long a lease can live at most, by the roles that are active. After a restore of the store,
// credentials that it does not know are left to expire by themselves for as long.
func (r *Revoker) SetLongest(d time.Duration) { r.longest.Store(int64(d)) }

// quarantine is how long a restored store holds back: roles may have changed since the backup, so at least a day.
func (r *Revoker) quarantine() time.Duration {
	return max(24*time.Hour, time.Duration(r.longest.Load()))
}

// Wake tells the queue of a target that there is work now.
func (r *Revoker) Wake(targetName string) {
	r.mu.Lock()
	q := r.queues[targetName]
	r.mu.Unlock()
	if q != nil {
		q.wake()
	}
}

// WakeExpiry tells the expirer of a lease that expires at a time. It sleeps on when it will be awake by then.
func (r *Revoker) WakeExpiry(at time.Time) {
	if planned := r.planned.Load(); planned == 0 || at.UnixMicro() < planned {
		signal(r.expire)
	}
}

// Enforce tells the enforcer that a lock was placed or an issuer was withdrawn.
func (r *Revoker) Enforce() { signal(r.enforce) }

// signal wakes a loop; one pending wake is as good as many.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Await returns a channel that is closed when the lease is revoked while this process runs, and a function that
// ends the wait. Read the store after calling it: the proof may have come before.
func (r *Revoker) Await(id lease.ID) (<-chan struct{}, func()) {
	done := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiters[id] = append(r.waiters[id], done)
	return done, func() { r.forget(id, done) }
}

func (r *Revoker) forget(id lease.ID, done chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.waiters[id][:0]
	for _, c := range r.waiters[id] {
		if c != done {
			kept = append(kept, c)
		}
	}
	if len(kept) == 0 {
		delete(r.waiters, id)
		return
	}
	r.waiters[id] = kept
}

// announce releases all that wait for a lease's death.
func (r *Revoker) announce(id lease.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.waiters[id] {
		close(c)
	}
	delete(r.waiters, id)
}

// pause waits for d, a wake or the end of ctx, and reports whether to go on.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return true
}
