package httpapi

import (
	"context"
	"log/slog"
	"sync"

	"golang.org/x/time/rate"
)

// refusedLine is the message of a request that was refused.
const refusedLine = "a request was refused"

// Anybody can be refused, as often as they like: more lines than these have nothing that the ones before did not say, and
// would fill a disk. What there is no line of is counted in the next one, and the metrics count all.
const (
	refusedRate  = 10 // lines in a second, of each code
	refusedBurst = 100
)

// refusals passes on so many lines of refusals as somebody may want to read. Codes have a budget each, so that strangers do
// not hide what is wrong inside. All else it passes on.
type refusals struct {
	slog.Handler

	all *refusalCounts
}

type refusalCounts struct {
	mu     sync.Mutex               // guards the field below
	byCode map[string]*refusalCount // the codes are a closed list
}

type refusalCount struct {
	lines    *rate.Limiter
	unlogged int // since the last line
}

func boundRefusals(log *slog.Logger) *slog.Logger {
	return slog.New(refusals{log.Handler(), &refusalCounts{byCode: map[string]*refusalCount{}}})
}

// Handle implements [slog.Handler].
func (h refusals) Handle(ctx context.Context, r slog.Record) error {
	if r.Message != refusedLine {
		return h.Handler.Handle(ctx, r)
	}
	code := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "code" {
			code = a.Value.String()
		}
		return code == ""
	})
	unlogged, ok := h.all.take(code, r)
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
func (c *refusalCounts) take(code string, r slog.Record) (unlogged int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	count := c.byCode[code]
	if count == nil {
		count = &refusalCount{lines: rate.NewLimiter(refusedRate, refusedBurst)}
		c.byCode[code] = count
	}
	if !count.lines.AllowN(r.Time, 1) {
		count.unlogged++
		return 0, false
	}
	unlogged, count.unlogged = count.unlogged, 0
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
