package client

import (
	"context"
	"sync"
	"time"

	"github.com/daypass/daypass/api"
)

// partTimeout bounds the release of a lease that nobody uses any more.
const partTimeout = 10 * time.Second

// Sharing lets the goroutines of one process use one lease of a role together, where the role says `share: run`.
// All of them are one principal: the client's token source must stand for one workload, whatever the context.
type Sharing struct {
	client  *Client
	options []HoldOption

	mu   sync.Mutex
	open map[string]*holding // guarded by mu: by role, what callers may join
}

// NewSharing returns a Sharing of what c acquires. The options are those of [Lease.Hold].
func NewSharing(c *Client, options ...HoldOption) *Sharing {
	return &Sharing{client: c, options: options, open: map[string]*holding{}}
}

// holding is one lease with those who use it.
type holding struct {
	letGo context.CancelFunc
	ready chan struct{} // closed when lease or err is there
	over  chan struct{} // closed when the lease was lost or released, or there is none

	lease *Lease // written before ready closes
	err   error  // the same
	lost  error  // written before over closes
	users int    // guarded by the mu of Sharing
}

// Use runs work with a lease of the role that is held meanwhile. Who calls it while others use the role joins them,
// where the role says so; the last one to end releases the lease. Otherwise each call has a lease of its own.
//
// When the lease ends under the work, the work's context ends with a [LostError] as its cause, and the next Use
// acquires another. Use returns what work returns. A lease whose release is not answered ends at its expiry.
func (s *Sharing) Use(ctx context.Context, role string, work func(ctx context.Context, lease *Lease) error) error {
	h, first := s.join(ctx, role)
	err := h.wait(ctx)
	if err == nil && !first && h.lease.Info().Share != api.ShareRun {
		s.leave(role, h) // it is the first one's alone
		h = s.begin(ctx, role)
		err = h.wait(ctx)
	}
	defer s.leave(role, h)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-h.over:
			stop(h.lost)
		case <-ctx.Done():
		}
	}()
	return work(ctx, h.lease)
}

// join returns the holding of a role that can be joined, and begins one where there is none.
func (s *Sharing) join(ctx context.Context, role string) (h *holding, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.open[role]; ok {
		h.users++
		return h, false
	}
	h = s.begin(ctx, role)
	s.open[role] = h
	return h, true
}

// begin makes a holding with one user. It outlives that one's context, since others may join.
func (s *Sharing) begin(ctx context.Context, role string) *holding {
	ctx, letGo := context.WithCancel(context.WithoutCancel(ctx))
	h := &holding{letGo: letGo, ready: make(chan struct{}), over: make(chan struct{}), users: 1}
	go s.keep(ctx, role, h)
	return h
}

// keep acquires the lease, holds it until nobody uses it, and releases it.
func (s *Sharing) keep(ctx context.Context, role string, h *holding) {
	defer close(h.over)
	h.lease, h.err = s.client.Acquire(ctx, api.AcquireRequest{Role: role})
	close(h.ready)
	if h.err != nil {
		return
	}
	if h.lost = h.lease.Hold(ctx, s.options...); h.lost != nil {
		s.shut(role, h) // who comes now gets another
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), partTimeout)
	defer cancel()
	_, _ = h.lease.Release(ctx, 0) // as an error of Use it would be taken for the work's; the lease expires
}

// shut lets nobody join any more.
func (s *Sharing) shut(role string, h *holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[role] == h {
		delete(s.open, role)
	}
}

// leave takes a user away. The last one waits for the release: the process may be about to end.
func (s *Sharing) leave(role string, h *holding) {
	s.mu.Lock()
	h.users--
	last := h.users == 0
	if last && s.open[role] == h {
		delete(s.open, role)
	}
	s.mu.Unlock()
	if last {
		h.letGo()
		<-h.over
	}
}

// wait waits until the lease is there.
func (h *holding) wait(ctx context.Context) error {
	select {
	case <-h.ready:
		return h.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
