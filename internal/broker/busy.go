package broker

import (
	"sync"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
)

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
