// Package rate bounds how often one principal may ask for something.
//
// It owns who asked how often lately, in memory that is bounded: those who have been idle long enough to have their
// whole burst again are forgotten, and when very many are busy at once, all are for a moment. It reads no clock, and
// must not import what asks it.
package rate

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/daypass/daypass/internal/fault"
)

// Limit is how often each principal may ask for one thing. Its methods may be called concurrently.
type Limit struct {
	perSecond float64

	mu       sync.Mutex // guards the fields below
	limiters map[key]*rate.Limiter
	swept    time.Time
}

type key struct{ issuerURL, subject string }

const (
	maxLimiters = 100_000
	sweepEvery  = 30 * time.Second
)

// New returns a limit of so many a second, with a burst of as many. 0: there is none.
func New(perSecond float64) *Limit {
	return &Limit{perSecond: perSecond, limiters: map[key]*rate.Limiter{}}
}

// Take counts one request of a principal, or refuses it and says when to come back.
func (l *Limit) Take(issuerURL, subject string, now time.Time) error {
	if l.perSecond <= 0 {
		return nil
	}
	reservation := l.limiter(key{issuerURL, subject}, now).ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	reservation.CancelAt(now)
	refusal := fault.New(fault.TooMany, "count a request", "this principal asks too often")
	refusal.RetryAfter = wait
	return refusal
}

// Used refuses who has used up what they had, and counts nothing. It is for what only counts where it fails.
func (l *Limit) Used(issuerURL, subject string, now time.Time) error {
	if l.limiter(key{issuerURL, subject}, now).TokensAt(now) >= 1 {
		return nil
	}
	refusal := fault.New(fault.TooMany, "count a request", "there were too many attempts from this address that failed")
	refusal.RetryAfter = time.Second
	return refusal
}

func (l *Limit) limiter(of key, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.swept) > sweepEvery {
		l.forget(now)
	}
	limiter := l.limiters[of]
	if limiter == nil {
		if len(l.limiters) >= maxLimiters {
			clear(l.limiters)
		}
		limiter = rate.NewLimiter(rate.Limit(l.perSecond), max(1, int(l.perSecond)))
		l.limiters[of] = limiter
	}
	return limiter
}

// forget drops those who have been idle long enough to have their whole burst again. The caller holds mu.
func (l *Limit) forget(now time.Time) {
	for of, limiter := range l.limiters {
		if limiter.TokensAt(now) >= float64(limiter.Burst()) {
			delete(l.limiters, of)
		}
	}
	l.swept = now
}
