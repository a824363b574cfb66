package broker

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
)

// rates bounds how often one principal may ask for something. Its memory is bounded too: idle principals are forgotten, and
// when there are very many busy ones, all are for a moment.
type rates struct {
	perSecond float64

	mu       sync.Mutex // guards limiters
	limiters map[rateKey]*rate.Limiter
}

type rateKey struct{ issuerURL, subject string }

const maxRates = 100_000

func newRates(perSecond float64) *rates {
	return &rates{perSecond: perSecond, limiters: map[rateKey]*rate.Limiter{}}
}

// take counts one request of a principal, or refuses it and says when to come back.
func (r *rates) take(issuerURL, subject string, now time.Time) error {
	if r.perSecond <= 0 {
		return nil
	}
	reservation := r.limiter(rateKey{issuerURL, subject}).ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	reservation.CancelAt(now)
	refusal := fault.New(fault.TooMany, "count a request", "this principal asks too often")
	refusal.RetryAfter = wait
	return refusal
}

// spent refuses who has used up what they had, and counts nothing.
func (r *rates) spent(issuerURL, subject string, now time.Time) error {
	limiter := r.limiter(rateKey{issuerURL, subject})
	if limiter.TokensAt(now) >= 1 {
		return nil
	}
	refusal := fault.New(fault.TooMany, "count a request", "there were too many attempts from this address that failed")
	refusal.RetryAfter = time.Second
	return refusal
}

func (r *rates) limiter(key rateKey) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	limiter := r.limiters[key]
	if limiter == nil {
		if len(r.limiters) >= maxRates {
			clear(r.limiters)
		}
		limiter = rate.NewLimiter(rate.Limit(r.perSecond), max(1, int(r.perSecond)))
		r.limiters[key] = limiter
	}
	return limiter
}

// forget drops the principals that have been idle long enough to have their whole burst again.
func (r *rates) forget(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, limiter := range r.limiters {
		if limiter.TokensAt(now) >= float64(limiter.Burst()) {
			delete(r.limiters, key)
		}
	}
}

// busy keeps one lease from being renewed twice at once.
type busy struct {
	mu     sync.Mutex // guards leases
	leases map[lease.ID]bool
}

// begin claims a lease until done is called.
func (b *busy) begin(id lease.ID) (done func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.leases[id] {
		refusal := fault.New(fault.TooMany, "renew lease "+string(id), "the lease is being renewed already")
		refusal.RetryAfter = time.Second
		return nil, refusal
	}
	if b.leases == nil {
		b.leases = map[lease.ID]bool{}
	}
	b.leases[id] = true
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.leases, id)
	}, nil
}
