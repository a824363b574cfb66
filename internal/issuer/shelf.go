package issuer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrSwapped is the error of [Shelf.Swap] when another server was first.
var ErrSwapped = errors.New("another server has changed the keys of the issuer")

// Shelf is where the sealed keys are kept, for all servers of one installation.
type Shelf interface {
	// Load returns what is on the shelf; nil where nothing is.
	Load(ctx context.Context) ([]byte, error)
	// Swap puts next in the place of before, as Load returned it, and records the change. It returns [ErrSwapped], and
	// changes nothing, when something else is there by now.
	Swap(ctx context.Context, before, next []byte, c Change) error
}

// Change is what the record says of a change of keys.
type Change struct {
	Signing string // the generation that signs from now on: what its keys' IDs begin with
	By      string // who asked for it
}

// The names of those who change keys without being asked to.
const (
	bySchedule = "schedule"
	byNeed     = "first need"
)

// makeTime is how long the first keys may take to make and to record.
const makeTime = 30 * time.Second

// current returns the keys, as the shelf had them not long ago.
func (i *Issuer) current(ctx context.Context) (*keys, error) {
	if k := i.held.Load(); k != nil && i.cfg.Now().Sub(k.read) < fresh {
		return k, nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if k := i.held.Load(); k != nil && i.cfg.Now().Sub(k.read) < fresh {
		return k, nil // another goroutine has just looked
	}
	return i.load(ctx)
}

// reload looks at the shelf.
func (i *Issuer) reload(ctx context.Context) (*keys, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.load(ctx)
}

// load looks at the shelf, and fills it when it is empty. The caller holds the lock.
func (i *Issuer) load(ctx context.Context) (*keys, error) {
	sealed, err := i.cfg.Shelf.Load(ctx)
	if err == nil && sealed == nil {
		if err = i.fill(ctx); err == nil || errors.Is(err, ErrSwapped) {
			sealed, err = i.cfg.Shelf.Load(ctx)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the keys of our issuer: %w", err)
	}
	return i.adopt(sealed)
}

// fill puts the first keys on the shelf. Who needs them may be a stranger who goes away: they are made all the same,
// once.
func (i *Issuer) fill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeTime)
	defer cancel()
	generations, err := first(i.cfg.Now())
	if err != nil {
		return err
	}
	sealed, err := seal(i.cfg.Key, generations)
	if err != nil {
		return err
	}
	return i.cfg.Shelf.Swap(ctx, nil, sealed, Change{Signing: generations[0].id, By: byNeed})
}

// adopt takes up what the shelf has. The caller holds the lock.
func (i *Issuer) adopt(sealed []byte) (*keys, error) {
	now := i.cfg.Now()
	k := &keys{sealed: sealed, read: now}
	var err error
	if held := i.held.Load(); held != nil && bytes.Equal(held.sealed, sealed) {
		k.generations = held.generations
	} else if k.generations, err = open(i.cfg.Key, sealed); err != nil {
		return nil, fmt.Errorf("read the keys of our issuer: %w", err)
	}
	if k.documents, err = documents(i.cfg.URL, i.cfg.Server, k, now); err != nil {
		return nil, err
	}
	i.held.Store(k)
	return k, nil
}
