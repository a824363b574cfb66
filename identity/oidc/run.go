package oidc

import (
	"context"
	"time"
)

// idle is how often Run looks again when nothing is due, so that a wall clock that jumped is noticed.
const idle = time.Minute

// Run keeps the issuer's keys fresh until ctx ends: it asks for them at once and then ahead of the time at
// which [Verifier.Verify] would have to wait for them. Nothing depends on it but that wait: without Run, or
// with a Run that is late, Verify asks itself. It returns nil.
func (v *Verifier) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if flight := v.keys.refresh(); flight != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-flight.done:
			}
		}
		timer.Reset(v.keys.rest())
	}
}

// refresh begins a fetch if one is due, and returns the one that is on its way.
func (c *cache) refresh() *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if set := c.usable(now); set == nil || !now.Before(set.dueAt) || !set.isFresh(now) {
		c.begin(now)
	}
	return c.flight
}

// rest returns how long Run may sleep.
func (c *cache) rest() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.failing && c.usable(now) != nil {
		return idle // the last good keys will do meanwhile
	}
	wake := c.begun.Add(c.floor)
	if set := c.usable(now); set != nil && set.dueAt.After(wake) {
		wake = set.dueAt
	}
	return min(max(wake.Sub(now), time.Second), idle)
}

// Status is what an operator may want to see of an issuer.
type Status struct {
	Fetches     int64     // begun
	Failures    int64     // of them
	LastSuccess time.Time // when the fetch began that brought the keys; zero before the first
	LastFailure time.Time
	// FailingSince is when the first of the fetches began that have failed in a row; zero unless Failing.
	FailingSince time.Time
	LastError    string    // of the last failure, also when a success followed
	Keys         int       // that are usable now
	KeysAt       time.Time // when these were fetched, perhaps by an earlier run
	KeysUntil    time.Time // when they stop working unless a fetch succeeds
	UnknownKeys  int64     // tokens with a key ID that the issuer did not publish
	Failing      bool      // the last fetch failed
}

// Status returns the state of the issuer's keys.
func (v *Verifier) Status() Status {
	c := v.keys
	c.mu.Lock()
	defer c.mu.Unlock()
	status := c.status
	status.UnknownKeys = c.unknown.Load()
	status.Failing = c.failing
	if set := c.usable(c.now()); set != nil {
		status.Keys, status.KeysAt, status.KeysUntil = len(set.keys), set.fetchedAt, set.deadAt
	}
	if !c.failing {
		status.FailingSince = time.Time{}
	}
	return status
}
