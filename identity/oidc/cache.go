package oidc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/daypass/daypass/identity"
)

// What the cache remembers of keys that the issuer does not publish.
const (
	maxMissing = 1024        // key IDs
	missingFor = time.Minute // short: an issuer may sign with a key before all its mirrors publish it
)

// snapshot is a key set as of one fetch. It is never changed.
type snapshot struct {
	keys      map[string]*key
	text      []byte // they are of
	fetchedAt time.Time
	dueAt     time.Time // refresh ahead from here on
	staleAt   time.Time // ask before using a key from here on
	deadAt    time.Time // no key works from here on
}

// isFresh reports whether the keys may be used without asking. A set from the future means that the clock went
// back, and nothing is known about its age.
func (s *snapshot) isFresh(now time.Time) bool {
	return !now.Before(s.fetchedAt) && now.Before(s.staleAt)
}

// cache holds the keys of one issuer and decides when to ask for them.
//
// A key in a fresh set is found without a lock. Everything else takes mu, and at most one fetch is on its way
// at a time, begun no sooner than the floor after the last one began.
type cache struct {
	name  string // of the issuer
	url   string
	floor time.Duration
	fresh time.Duration
	life  time.Duration
	limit time.Duration // of one fetch
	now   func() time.Time
	log   *slog.Logger

	source   func(context.Context) (KeySet, error)
	use      string   // of keys for tokens
	store    KeyStore // may be nil
	observer Observer // may be nil

	current atomic.Pointer[snapshot] // written under mu; nil until the first keys
	unknown atomic.Int64

	mu      sync.Mutex
	flight  *flight              // on its way, or nil
	loaded  bool                 // the store was asked
	begun   time.Time            // of the last fetch
	failing bool                 // the last fetch failed
	missing map[string]time.Time // key IDs that a fetch on their behalf did not bring, and when
	status  Status
}

// flight is one fetch; err is set before done is closed.
type flight struct {
	done chan struct{}
	err  error
}

func newCache(cfg Config) *cache {
	return &cache{
		name: cfg.Name, observer: cfg.Observer, url: cfg.URL, floor: cfg.Floor, fresh: cfg.KeyAge, life: cfg.KeyLife, limit: cfg.Timeout, now: cfg.Now,
		log: cfg.Log, source: cfg.Source, use: cfg.Use, store: cfg.Keys, missing: map[string]time.Time{},
	}
}

// find returns the issuer's key of an ID.
func (c *cache) find(ctx context.Context, id string) (*key, error) {
	if set := c.current.Load(); set != nil {
		if k := set.keys[id]; k != nil && set.isFresh(c.now()) {
			return k, nil
		}
	}
	k, wait, err := c.consult(id)
	if wait == nil {
		return k, err
	}
	select {
	case <-wait.flight.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the issuer's keys: %w", ctx.Err())
	}
	return c.conclude(id, wait)
}

// waiting is a fetch that a caller waits for. Only the fetch that a caller began itself can tell it that the
// issuer does not publish a key: another's may have read the key set before the key was in it.
type waiting struct {
	flight *flight
	own    bool
}

// consult decides with what is known, or says what to wait for.
func (c *cache) consult(id string) (*key, *waiting, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	set := c.usable(now)
	var k *key
	if set != nil {
		k = set.keys[id]
	}
	stale := set == nil || !set.isFresh(now)
	switch {
	case k != nil && !stale:
		return k, nil, nil
	case k != nil && c.failing:
		// The issuer did not answer last time: go on with what it said before, and ask again without waiting.
		c.begin(now)
		return k, nil, nil
	case k == nil && set != nil && !stale && c.isMissing(id, now):
		c.unknown.Add(1)
		return nil, nil, notPublished(id)
	}
	if c.flight != nil {
		return nil, &waiting{flight: c.flight}, nil
	}
	if c.begin(now) {
		return nil, &waiting{flight: c.flight, own: true}, nil
	}
	k, err := c.settle(id, now, nil)
	return k, nil, err
}

// conclude decides after a fetch.
func (c *cache) conclude(id string, w *waiting) (*key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if set := c.usable(now); w.own && w.flight.err == nil && set != nil && set.keys[id] == nil {
		c.remember(id, now)
		c.unknown.Add(1)
		return nil, notPublished(id)
	}
	return c.settle(id, now, w.flight.err)
}

// settle decides when nothing more can be asked now. It holds mu.
func (c *cache) settle(id string, now time.Time, err error) (*key, error) {
	set := c.usable(now)
	switch {
	case set != nil && set.keys[id] != nil:
		return set.keys[id], nil
	case set != nil && err == nil:
		c.unknown.Add(1)
		return nil, fmt.Errorf("key %s: %w", identity.Quote(id), ErrUnknownKey)
	case err == nil && c.status.LastError != "":
		err = errors.New(c.status.LastError)
	case err == nil:
		err = errors.New("the last ones are too old")
	}
	return nil, fmt.Errorf("no usable keys of the issuer: %w", err)
}

func notPublished(id string) error {
	return identity.Reject(WhyKey, "the issuer publishes no key %s", identity.Quote(id))
}

// usable returns the snapshot unless it is dead. It holds mu.
func (c *cache) usable(now time.Time) *snapshot {
	if set := c.current.Load(); set != nil && now.Before(set.deadAt) {
		return set
	}
	return nil
}

func (c *cache) isMissing(id string, now time.Time) bool {
	at, ok := c.missing[id]
	return ok && now.Sub(at) < missingFor
}

// remember notes a key ID that the issuer does not publish. When the list is full of recent ones it stays as
// it is: the floor alone then holds back the fetches.
func (c *cache) remember(id string, now time.Time) {
	if len(c.missing) >= maxMissing {
		for old, at := range c.missing {
			if now.Sub(at) >= missingFor {
				delete(c.missing, old)
			}
		}
	}
	if len(c.missing) < maxMissing {
		c.missing[id] = now
	}
}

// begin starts a fetch unless one is on its way or the last one was too near. It holds mu. The fetch outlives
// whoever asked for it, because others wait for it too; its own deadline ends it.
func (c *cache) begin(now time.Time) bool {
	// A clock that went back must not keep us from asking for hours.
	if since := now.Sub(c.begun); c.flight != nil || !c.begun.IsZero() && since >= 0 && since < c.floor {
		return false
	}
	c.begun = now
	c.status.Fetches++
	c.flight = &flight{done: make(chan struct{})}
	go c.fly(c.flight, now)
	return true
}

// fly is one fetch.
func (c *cache) fly(f *flight, begun time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), c.limit)
	defer cancel()
	c.load(ctx)
	got, err := c.source(ctx)
	var keys map[string]*key
	var skipped []error
	if err == nil {
		keys, skipped, err = parseKeySet(got.JWKS, c.use)
	}
	if err == nil && c.store != nil {
		// Before anybody uses them: what worked once works after a restart.
		if kept := c.store.PutKeys(ctx, c.url, got.JWKS, begun); kept != nil {
			c.log.Warn("keep the issuer's keys for a restart", "err", kept)
		}
	}
	had := c.land(f, begun, keys, got, err)
	if c.observer != nil {
		c.observer.Fetched(observeFetch(c.name, got.Discovery, had, keys, err))
	}
	for _, skip := range skipped {
		c.log.Debug("a published key is not used", "err", skip)
	}
}

// land puts in place what a fetch brought, and returns the keys that were there before. The age of keys counts from
// when the fetch began.
func (c *cache) land(f *flight, begun time.Time, keys map[string]*key, got KeySet, err error) (had map[string]*key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(f.done)
	c.flight, f.err = nil, err
	if set := c.current.Load(); set != nil {
		had = set.keys
	}
	if err != nil {
		if !c.failing {
			c.log.Warn("fetch the issuer's keys; the last good ones are used until they are too old", "err", err)
		}
		if !c.failing {
			c.status.FailingSince = begun
		}
		c.failing = true
		c.status.Failures++
		c.status.LastError = err.Error()
		c.status.LastFailure = begun
		return had
	}
	fresh := c.fresh
	if got.MaxAge >= 0 {
		fresh = min(max(got.MaxAge, minKeyAge), c.fresh)
	}
	c.announce(keys)
	c.failing = false
	c.status.LastSuccess = begun
	c.current.Store(&snapshot{
		keys: keys, text: got.JWKS, fetchedAt: begun,
		dueAt: begun.Add(fresh - fresh/4), staleAt: begun.Add(fresh), deadAt: begun.Add(c.life),
	})
	for id := range keys {
		delete(c.missing, id)
	}
	return had
}

// announce logs that the set of keys changed. It holds mu.
func (c *cache) announce(keys map[string]*key) {
	var added, removed []string
	old := map[string]*key{}
	if set := c.current.Load(); set != nil {
		old = set.keys
	}
	for id := range keys {
		if old[id] == nil {
			added = append(added, id)
		}
	}
	for id := range old {
		if keys[id] == nil {
			removed = append(removed, id)
		}
	}
	if c.failing || len(added)+len(removed) > 0 {
		c.log.Info("the issuer's keys are up to date", "added", added, "removed", removed, "keys", len(keys))
	}
}

// load takes the keys of an earlier run from the store, once. They count as stale, so that the issuer is asked
// before they are used, and as old as they are.
func (c *cache) load(ctx context.Context) {
	c.mu.Lock()
	skip := c.loaded || c.store == nil || c.current.Load() != nil
	c.mu.Unlock()
	if skip {
		return
	}
	jwks, fetchedAt, err := c.store.Keys(ctx, c.url)
	var keys map[string]*key
	if err == nil && len(jwks) > 0 {
		keys, _, err = parseKeySet(jwks, c.use)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.log.Warn("load the issuer's keys of an earlier run", "err", err)
		return
	}
	c.loaded = true
	now := c.now()
	if fetchedAt.After(now) && fetchedAt.Sub(now) <= MaxLeeway {
		fetchedAt = now // another replica's clock is ahead of ours
	}
	if keys != nil && !fetchedAt.After(now) {
		c.current.Store(&snapshot{keys: keys, text: jwks, fetchedAt: fetchedAt, dueAt: now, staleAt: now, deadAt: fetchedAt.Add(c.life)})
	}
}
