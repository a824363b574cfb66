package crash_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/secret"
)

// heldFor is how many rounds a lease is kept for: through that many accidents it must live. It is bounded, so that
// the hundredth round is as quick as the first.
const heldFor = 3

// held is a lease that a caller was given.
type held struct {
	lease  *client.Lease
	round  int
	ending bool // its release was asked for; the answer may have been lost
}

// holders are the callers, and what they were given.
type holders struct {
	round int // the callers only read it

	mu               sync.Mutex // guards what follows
	live             map[string]held
	over             []*client.Lease // to be ended in this round
	receipts         []string
	acquired, failed int
}

func (h *holders) begin(round int) { h.round = round }

// work ends what is over, then acquires and releases until ctx ends. Errors are what accidents make; only the audit
// judges.
func (h *holders) work(ctx context.Context, w *world, n int) {
	c, err := w.Workload(strconv.Itoa(n))
	if err != nil {
		w.t.Error(err)
		return
	}
	for ctx.Err() == nil {
		if l := h.next(); l != nil {
			h.end(ctx, l)
			continue
		}
		l, err := c.Acquire(ctx, api.AcquireRequest{Role: "grants-fast"})
		if err != nil {
			h.note(func() { h.failed++ })
			continue
		}
		h.note(func() {
			h.acquired++
			h.live[l.ID()] = held{lease: l, round: h.round}
			h.receipts = append(h.receipts, l.Receipt)
		})
		if rand.IntN(4) > 0 {
			h.end(ctx, l)
		}
	}
}

func (h *holders) note(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// next takes a lease that is over, nil when there is none.
func (h *holders) next() (l *client.Lease) {
	h.note(func() {
		if last := len(h.over) - 1; last >= 0 {
			l, h.over = h.over[last], h.over[:last]
		}
	})
	return l
}

// end releases a lease. The answer may be lost, and the request as well: then it is released again in the next round.
func (h *holders) end(ctx context.Context, l *client.Lease) {
	h.note(func() {
		if mine, given := h.live[l.ID()]; given {
			mine.ending = true
			h.live[l.ID()] = mine
		}
	})
	if _, err := l.Release(ctx, 0); err != nil {
		h.note(func() { h.failed++ })
	}
}

// retire says what the next round ends: what was held long enough, what was released in vain, and what was granted and
// reached no caller. Nobody works meanwhile.
func (h *holders) retire(w *world, alive []string) {
	h.over = nil
	for _, id := range alive {
		switch l, given := h.live[id]; {
		case !given:
			h.over = append(h.over, w.Admin.Handle(id, secret.Text{}))
		case l.ending || h.round-l.round >= heldFor:
			h.over = append(h.over, l.lease)
		}
	}
}
