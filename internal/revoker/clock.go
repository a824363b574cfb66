package revoker

import (
	"context"
	"sync"
	"time"

	"github.com/daypass/daypass/target"
)

// tolerance is how far the wall clock may wander from the monotonic clock before it counts as a jump.
const tolerance = 10 * time.Second

// Clock is the wall clock, but for jumps: when it leaps against the monotonic clock, Clock goes on at the old
// pace until a target's own clock confirms the leap. So a clock set wrong by an hour does not end an hour's
// leases.
type Clock struct {
	wall      func() time.Time     // what the machine says the time is
	monotonic func() time.Duration // since the clock was made; never jumps
	start     time.Time            // wall, when the clock was made

	mu       sync.Mutex    // guards the fields below
	accepted time.Duration // what the wall clock gained on the monotonic clock since start, as far as believed
	jumped   bool          // the wall clock shows more than tolerance beyond accepted
}

// NewClock returns a Clock over the machine's clocks.
func NewClock() *Clock {
	start := time.Now()
	return newClock(func() time.Time { return time.Now().Round(0) }, func() time.Duration { return time.Since(start) })
}

func newClock(wall func() time.Time, monotonic func() time.Duration) *Clock {
	return &Clock{wall: wall, monotonic: monotonic, start: wall()}
}

// Now returns the time to judge leases by, in UTC and in whole microseconds, as the store keeps times.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	elapsed := c.monotonic()
	gained := c.wall().Sub(c.start) - elapsed
	c.jumped = (gained - c.accepted).Abs() > tolerance
	if !c.jumped {
		c.accepted = gained // small corrections are followed at once
	}
	return c.start.Add(elapsed + c.accepted).UTC().Truncate(time.Microsecond)
}

// Jumped reports whether the wall clock is not believed, and how far it is off.
func (c *Clock) Jumped() (time.Duration, bool) {
	believed := c.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall().Sub(believed), c.jumped
}

// confirm believes the wall clock when the other clock agrees with it.
func (c *Clock) confirm(other time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.wall()
	if now.Sub(other.Round(0)).Abs() > tolerance {
		return false
	}
	c.accepted = now.Sub(c.start) - c.monotonic()
	c.jumped = false
	return true
}

// runClock looks for jumps and asks the targets' clocks about them.
func (r *Revoker) runClock(ctx context.Context) error {
	const every = 5 * time.Second
	for pause(ctx, every, nil) {
		off, jumped := r.clock.Jumped()
		r.figures.clockHeld.Set(boolFigure(jumped))
		if !jumped {
			continue
		}
		r.log.Warn("the wall clock jumped; expiries are held back until a target's clock confirms it", "by", off)
		for _, m := range r.fleet.Members() {
			if r.confirmClock(ctx, m) {
				signal(r.expire)
				break
			}
		}
	}
	return nil
}

func (r *Revoker) confirmClock(ctx context.Context, m *Member) bool {
	other, ok := m.target.(target.Clock)
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	now, err := other.Now(ctx)
	if err != nil || !r.clock.confirm(now) {
		return false
	}
	r.log.Warn("a target's clock confirmed the jump of the wall clock", "target", m.name)
	return true
}
