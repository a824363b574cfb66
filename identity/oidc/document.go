package oidc

import (
	"context"
	"errors"
	"fmt"
)

// KeySet returns the issuer's key set as it was sent, for those who read more in it than the keys of tokens. It is
// as old as [Verifier.Verify] lets keys be, and asked for by the same rules. The bytes are shared: do not change them.
func (v *Verifier) KeySet(ctx context.Context) ([]byte, error) {
	set, flight, err := v.keys.whole()
	if flight == nil {
		return set, err
	}
	select {
	case <-flight.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the issuer's keys: %w", ctx.Err())
	}
	return v.keys.held(flight.err)
}

// whole decides with what is known, or says what to wait for.
func (c *cache) whole() ([]byte, *flight, error) {
	c.mu.Lock()
	now := c.now()
	set := c.usable(now)
	switch {
	case set != nil && set.isFresh(now):
		c.mu.Unlock()
		return set.text, nil, nil
	case set != nil && c.failing:
		// As for a key: go on with what the issuer said before, and ask again without waiting.
		c.begin(now)
		c.mu.Unlock()
		return set.text, nil, nil
	}
	c.begin(now)
	flight := c.flight
	c.mu.Unlock()
	if flight != nil {
		return nil, flight, nil
	}
	text, err := c.held(nil)
	return text, nil, err
}

// held returns what there is when nothing more can be asked now.
func (c *cache) held(err error) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if set := c.usable(c.now()); set != nil {
		return set.text, nil
	}
	switch {
	case err == nil && c.status.LastError != "":
		err = errors.New(c.status.LastError)
	case err == nil:
		err = errors.New("the last one is too old")
	}
	return nil, fmt.Errorf("no usable key set of the issuer: %w", err)
}
