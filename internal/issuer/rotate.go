package issuer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/daypass/daypass/internal/fault"
)

// Rotation is the order to sign with other keys.
type Rotation struct {
	By string // who gives it
	// Withdraw takes all older keys out of the documents at once, for keys that were stolen: verifiers refuse what they
	// signed as soon as they look again. What signs next was published to nobody, and some will need that look to
	// accept it.
	Withdraw bool
}

// Rotated is what a rotation did. A generation is what the IDs of its keys begin with.
type Rotated struct {
	Signing string // the generation that signs from now on
	Next    string // the generation that will sign after it
}

// Rotate makes the next keys sign, and makes others to follow them. It refuses when the next keys have not been
// published for [Ahead] yet: verifiers would meet keys that they do not know.
func (i *Issuer) Rotate(ctx context.Context, r Rotation) (Rotated, error) {
	const op = "rotate the keys of our issuer"
	for range 5 {
		k, err := i.reload(ctx)
		if err != nil {
			return Rotated{}, err
		}
		now := i.cfg.Now()
		if at := k.next().made.Add(Ahead); !r.Withdraw && now.Before(at) {
			return Rotated{}, fault.New(fault.Conflict, op, fmt.Sprintf(
				"the next keys are published since %s only, and verifiers may not know them: try again after %s, or withdraw all keys where they were stolen",
				k.next().made.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339)))
		}
		done, err := i.turn(ctx, k, r, now)
		if !errors.Is(err, ErrSwapped) {
			return done, err
		}
	}
	return Rotated{}, fault.New(fault.Conflict, op, "other servers keep changing the keys; try again")
}

// turn changes the keys over.
func (i *Issuer) turn(ctx context.Context, k *keys, r Rotation, now time.Time) (done Rotated, err error) {
	var generations []generation
	if r.Withdraw {
		generations, err = first(now)
	} else {
		generations, err = k.turned(now)
	}
	if err != nil {
		return done, err
	}
	sealed, err := seal(i.cfg.Key, generations)
	if err != nil {
		return done, err
	}
	last := len(generations) - 1
	done = Rotated{Signing: generations[last-1].id, Next: generations[last].id}
	if err := i.cfg.Shelf.Swap(ctx, k.sealed, sealed, Change{Signing: done.Signing, By: r.By}); err != nil {
		return Rotated{}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	_, err = i.load(ctx)
	return done, err
}

// turned are the generations after a rotation.
func (k *keys) turned(now time.Time) ([]generation, error) {
	fresh, err := newGeneration(now)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(k.generations)
	last := len(all) - 1
	all[last-1] = all[last-1].retire(now)
	all[last].signs = now
	all = slices.DeleteFunc(all, func(g generation) bool { return g.expired(now) })
	return append(all, fresh), nil
}

// Run keeps the keys known, turns them over when their time has come and keeps the copies of the documents, until
// ctx ends.
func (i *Issuer) Run(ctx context.Context) error {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	var said string // the trouble that the log has
	for {
		err := i.tend(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && err.Error() != said:
			i.cfg.Log.Error("keep the keys of our issuer", "err", err)
			said = err.Error()
		case err == nil:
			said = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// tend looks once. An issuer that nobody has needed yet is left without keys, unless its documents are published.
func (i *Issuer) tend(ctx context.Context) error {
	if i.held.Load() == nil && i.cfg.Publish == "" {
		sealed, err := i.cfg.Shelf.Load(ctx)
		if err != nil || sealed == nil {
			return err
		}
	}
	k, err := i.reload(ctx)
	if err != nil {
		return err
	}
	// No key signs before it stands where others look for it.
	if err := i.publish(k); err != nil {
		return err
	}
	now := i.cfg.Now()
	if now.Before(k.signing().signs.Add(i.cfg.Rotate)) || now.Before(k.next().made.Add(Ahead)) {
		return nil
	}
	_, err = i.turn(ctx, k, Rotation{By: bySchedule}, now)
	if errors.Is(err, ErrSwapped) {
		return nil // another server was first
	}
	if err != nil {
		return err
	}
	return i.publish(i.held.Load())
}
