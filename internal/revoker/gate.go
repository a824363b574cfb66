package revoker

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/daypass/daypass/target"
)

// gate bounds how many calls a target has under way and shuts for a while when it stops answering.
type gate struct {
	slots chan struct{} // one per call that may be under way

	mu       sync.Mutex // guards the fields below
	failures int        // in a row
	shut     time.Time  // no call passes before then
	last     error      // the last failure, nil after a success
}

const (
	tolerated = 5 // failures in a row that leave the gate open
	firstShut = time.Second
	longShut  = time.Minute
)

// open reports whether the gate's breaker is open, and for how long yet.
func (g *gate) open(now time.Time) (wait time.Duration, open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.shut) {
		return g.shut.Sub(now), true
	}
	return 0, false
}

// enter takes a slot, waiting for one as long as ctx lasts.
func (g *gate) enter(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave gives the slot back.
func (g *gate) leave() { <-g.slots }

// silent reports whether an error says that the target did not answer. One that answered is well, whatever it said.
func silent(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, target.ErrUnreachable) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// observe counts failures to answer, in a row. Each one beyond those tolerated shuts the gate for twice as long as the
// one before, so that a dead target is asked seldom; one answer opens it. Calls that were under way when it shut fail
// for the same reason, and do not count: a moment's silence under load would shut it for as long as an hour's.
func (g *gate) observe(now time.Time, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = err
	if err == nil || !silent(err) {
		g.failures = 0
		g.shut = time.Time{}
		return
	}
	if now.Before(g.shut) {
		return
	}
	g.failures++
	if over := g.failures - tolerated; over > 0 {
		g.shut = now.Add(min(firstShut<<min(over-1, 10), longShut))
	}
}

func (g *gate) lastError() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last == nil {
		return ""
	}
	return g.last.Error()
}
