package revoker

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/daypass/daypass/target"
)

// machine is a machine's clocks in a test's hands.
type machine struct {
	wall    time.Time
	elapsed time.Duration
}

func (m *machine) pass(d time.Duration) {
	m.wall = m.wall.Add(d)
	m.elapsed += d
}

func newMachine() (*machine, *Clock) {
	m := &machine{wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	return m, newClock(func() time.Time { return m.wall }, func() time.Duration { return m.elapsed })
}

func TestTheClockFollowsTime(t *testing.T) {
	m, c := newMachine()
	m.pass(time.Hour)
	if got := c.Now(); !got.Equal(m.wall) {
		t.Errorf("got %v, want %v", got, m.wall)
	}
	for range 100 { // a clock that is being corrected little by little
		m.pass(time.Minute)
		m.wall = m.wall.Add(time.Second)
		if got := c.Now(); !got.Equal(m.wall) {
			t.Fatalf("got %v, want %v", got, m.wall)
		}
	}
}

func TestAJumpIsHeldBackUntilAnotherClockConfirmsIt(t *testing.T) {
	for name, jump := range map[string]time.Duration{"forward": time.Hour, "backward": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			m, c := newMachine()
			before := m.wall
			m.wall = m.wall.Add(jump)
			m.pass(time.Minute)
			if got, want := c.Now(), before.Add(time.Minute); !got.Equal(want) {
				t.Errorf("after a jump the clock shows %v, want %v", got, want)
			}
			if by, jumped := c.Jumped(); !jumped || by != jump {
				t.Errorf("the jump is told as %v, %v", by, jumped)
			}
			if c.confirm(before.Add(time.Minute)) {
				t.Error("a clock that disagrees confirmed the jump")
			}
			if !c.confirm(m.wall.Add(time.Second)) {
				t.Error("a clock that agrees did not")
			}
			m.pass(time.Minute)
			if got := c.Now(); !got.Equal(m.wall) {
				t.Errorf("after the confirmation the clock shows %v, want %v", got, m.wall)
			}
		})
	}
}

func TestTheGateShutsLongerEachTimeAndOpensAtOnce(t *testing.T) {
	g := gate{slots: make(chan struct{}, 1)}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	down := fmt.Errorf("refused: %w", target.ErrUnreachable)
	for range tolerated {
		g.observe(now, down)
	}
	if _, open := g.open(now); open {
		t.Error("the breaker opened within what is tolerated")
	}
	last := time.Duration(0)
	for range 10 {
		g.observe(now, down)
		wait, open := g.open(now)
		if !open || wait < last || wait > longShut {
			t.Fatalf("the breaker waits %v after %v", wait, last)
		}
		last = wait
		now = now.Add(wait)
	}
	if last != longShut {
		t.Errorf("the longest wait is %v", last)
	}
	for range 2 * tolerated {
		g.observe(now, errors.New("the role does not exist"))
	}
	if _, open := g.open(now); open {
		t.Error("a target that answers is called dead")
	}
	g.observe(now, nil)
	if _, open := g.open(now); open || g.lastError() != "" {
		t.Error("a success did not close the breaker")
	}
}

func TestFailuresOfOneMomentShutTheGateOnce(t *testing.T) {
	g := gate{slots: make(chan struct{}, 1)}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for range 100 { // calls that were under way together
		g.observe(now, target.ErrUnreachable)
	}
	if wait, open := g.open(now); !open || wait > firstShut {
		t.Errorf("after a moment's silence the breaker waits %v", wait)
	}
	now = now.Add(firstShut)
	for range 100 {
		g.observe(now, target.ErrUnreachable)
	}
	if wait, open := g.open(now); !open || wait > 2*firstShut {
		t.Errorf("after a second silence the breaker waits %v", wait)
	}
}

func TestBackOffGrowsWithinBounds(t *testing.T) {
	for attempt := 1; attempt < 100; attempt++ {
		d := backOff(attempt)
		if d < firstRetry*3/4 || d > longRetry {
			t.Fatalf("attempt %d waits %v", attempt, d)
		}
	}
	if backOff(1) > firstRetry || backOff(50) < longRetry*3/4 {
		t.Error("the back-off does not grow from its first to its longest wait")
	}
}
