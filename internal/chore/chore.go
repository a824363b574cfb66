// Package chore is work that comes back: a loop that does it at each wake and from time to time, and the claim by
// which one of the servers of a store does it for all.
//
// It promises that an error ends no loop: the work is tried again, later. What the work is, and that doing it twice
// does no harm, is the business of whose work it is. It must not import the rooms that have work to do.
package chore

import (
	"context"
	"time"

	"github.com/daypass/daypass/internal/store"
)

// term is how long a claim lasts that is not made again.
const term = 15 * time.Second

// Claim makes work that of one of the servers of a store. One goroutine uses it.
type Claim struct {
	store *store.Store
	work  string
	until time.Time // when to claim it again
}

// NewClaim returns the claim of some work, by a name that no target has.
func NewClaim(s *store.Store, work string) *Claim { return &Claim{store: s, work: work} }

// Ours reports whether the work is ours to do now.
func (c *Claim) Ours(ctx context.Context) (ours bool, err error) {
	now := time.Now()
	if !c.store.Shared() || now.Before(c.until) {
		return true, nil
	}
	err = c.store.Update(ctx, func(tx *store.Tx) (err error) {
		ours, err = tx.Keep(c.work, term)
		return err
	})
	if ours {
		c.until = now.Add(term / 2)
	}
	return ours, err
}

// Loop says when work is done, and what it is.
type Loop struct {
	Claim interface {
		Ours(context.Context) (bool, error)
	} // [Claim] is one
	Wake   <-chan struct{} // does it at once; nil: nothing does
	Every  time.Duration   // between two times
	After  time.Duration   // an error, instead
	Do     func(context.Context) error
	Failed func(error) // hears of errors
}

// Run does the work until ctx ends, whenever it is ours.
func (l Loop) Run(ctx context.Context) {
	for wait := l.Every; ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-l.Wake:
			timer.Stop()
		case <-timer.C:
		}
		wait = l.Every
		ours, err := l.Claim.Ours(ctx)
		if err == nil && ours {
			err = l.Do(ctx)
		}
		if err != nil && ctx.Err() == nil {
			l.Failed(err)
			wait = l.After
		}
	}
}
