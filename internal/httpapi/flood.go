package httpapi

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// refusedLine is the message of a request that was refused.
const refusedLine = "a request was refused"

// Anybody can be refused, as often as they like: more lines than these have nothing that the ones before did not say, and
// would fill a disk. What there is no line of is counted in the next one, and the metrics count all.
const (
	refusedRate  = 1 // lines in a second, of each code at each route
	refusedBurst = 100
)

// refusals passes on so many lines of refusals as somebody may want to read. Each code has a budget at each
// route, so that strangers hide neither what is wrong inside nor who tries another door meanwhile. All else it passes on.
type refusals struct {
	slog.Handler

	all *refusalCounts
}

type refusalCounts struct {
	mu       sync.Mutex // guards the fields below
	lines    map[refusal]*rate.Limiter
	unlogged int // since the last line, of whatever kind: a flood that stops is told by who comes next
}

// refusal is a kind of refusals. Codes and routes are closed lists.
type refusal struct{ code, route string }

func boundRefusals(log *slog.Logger) *slog.Logger {
	return slog.New(refusals{log.Handler(), &refusalCounts{lines: map[refusal]*rate.Limiter{}}})
}

// Handle implements [slog.Handler].
func (h refusals) Handle(ctx context.Context, r slog.Record) error {
	if r.Message != refusedLine {
		return h.Handler.Handle(ctx, r)
	}
	var kind refusal
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "code":
			kind.code = a.Value.String()
		case "path":
			kind.route = a.Value.String()
		}
		return true
	})
	unlogged, ok := h.all.take(kind, r.Time)
	if !ok {
		return nil
	}
	if unlogged > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("unlogged", unlogged))
	}
	return h.Handler.Handle(ctx, r)
}

// take reports whether there may be another line, and of how many refusals before it there was none.
func (c *refusalCounts) take(kind refusal, now time.Time) (unlogged int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := c.lines[kind]
	if lines == nil {
		lines = rate.NewLimiter(refusedRate, refusedBurst)
		c.lines[kind] = lines
	}
	if !lines.AllowN(now, 1) {
		c.unlogged++
		return 0, false
	}
	unlogged, c.unlogged = c.unlogged, 0
	return unlogged, true
}

// WithAttrs implements [slog.Handler].
func (h refusals) WithAttrs(attrs []slog.Attr) slog.Handler {
	return refusals{h.Handler.WithAttrs(attrs), h.all}
}

// WithGroup implements [slog.Handler].
func (h refusals) WithGroup(name string) slog.Handler {
	return refusals{h.Handler.WithGroup(name), h.all}
}
