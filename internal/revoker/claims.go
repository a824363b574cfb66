package revoker

import (
	"context"
	"sync"
	"time"

	"github.com/daypass/daypass/internal/store"
)

// Several processes may serve one store. Each target's queue, sweeps and narrowing are then the work of one of them
// at a time, and so are expiries: whoever claims it first, until it stops claiming.
//
// A claim keeps work from being done twice; safety does not hang on it. A process that was stopped for longer than
// its claim and goes on with what it had in hand does what is right at any time: it revokes what is revoking for
// good, and destroys strays, which no lease can ever cover again.

const (
	claimFor   = 15 * time.Second // how long a claim lasts by the database's clock
	claimEvery = 4 * time.Second
	// claimTrust is how long a claim is acted on, by our own clock from before it was made: less than it lasts.
	claimTrust = 12 * time.Second
	// othersEvery is how often to look for work that another process has made.
	othersEvery = 500 * time.Millisecond
	// otherDeadEvery is how often to look for what another process has left pending by dying.
	otherDeadEvery = 5 * time.Second
)

// housekeeping is the claim of work that is of no single target. No target has such a name.
const housekeeping = "(expiry)"

// claims are what this process works for.
type claims struct {
	mu      sync.Mutex // guards the fields below
	until   map[string]time.Time
	changed chan struct{} // closed and replaced when one is won, for the first time or again
}

// runClaims claims what there is to work for, again and again. Where a store has one owner, everything is its work.
func (r *Revoker) runClaims(ctx context.Context) error {
	if !r.store.Shared() {
		return nil
	}
	for {
		wait := claimEvery
		fleet := r.fleet.Changed()
		if err := r.claim(ctx); err != nil && ctx.Err() == nil {
			r.log.Error("claim the work for targets", "err", err)
			wait = time.Second
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-fleet:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (r *Revoker) claim(ctx context.Context) error {
	names := []string{housekeeping}
	for _, m := range r.fleet.Members() {
		names = append(names, m.name)
	}
	until := time.Now().Add(claimTrust)
	won := map[string]bool{}
	err := r.store.Update(ctx, func(tx *store.Tx) (err error) {
		for _, name := range names {
			if won[name], err = tx.Keep(name, claimFor); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.claims.take(won, until)
	return nil
}

func (c *claims) take(won map[string]bool, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	news := false
	for name, ours := range won {
		if !ours {
			delete(c.until, name)
			continue
		}
		// One that had lapsed is won again: those who looked meanwhile wait.
		news = news || !time.Now().Before(c.until[name])
		c.until[name] = until
	}
	if news {
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// keeps reports whether work is ours now.
func (r *Revoker) keeps(name string) bool {
	if !r.store.Shared() {
		return true
	}
	r.claims.mu.Lock()
	defer r.claims.mu.Unlock()
	return time.Now().Before(r.claims.until[name])
}

// won is closed when this process next wins a claim. Take it before asking keeps.
func (r *Revoker) won() <-chan struct{} {
	r.claims.mu.Lock()
	defer r.claims.mu.Unlock()
	return r.claims.changed
}

// awaitClaim waits until work is ours, and reports false where ctx or the target's place in the fleet ended first.
func (r *Revoker) awaitClaim(ctx context.Context, name string, retired <-chan struct{}) bool {
	for {
		won := r.won()
		if r.keeps(name) {
			return true
		}
		select {
		case <-won:
		case <-ctx.Done():
			return false
		case <-retired:
			return false
		}
	}
}

// patience is how long to sleep at the most: others may make work without telling.
func (r *Revoker) patience(most time.Duration) time.Duration {
	if r.store.Shared() {
		return min(most, othersEvery)
	}
	return most
}
