// Package watch looks at whom we trust while it happens: issuers whose keys change hands, whose documents move, whose
// clock runs ahead, who are silent; strangers who knock; floods of what is not accepted. It tells people.
//
// It owns what is worth an alert (trust.go), which alerts are open (book.go) and how they are sent (outlet.go and the
// sinks). It promises:
//
//   - Nothing that is watched waits for it. What it cannot take up in time is dropped and counted.
//   - Its memory is bounded, whatever strangers send, and no text of theirs reaches a sink other than as short,
//     printable ASCII, escaped as the sink needs.
//   - A thing that goes on is told once when it begins, with a count, and once when it is over.
//   - A sink that is slow or dead delays nobody but itself.
//
// What a server has told is in its memory: after a restart it tells anew what still goes on. The package reads no clock
// and must not import the store or the broker.
package watch

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/daypass/daypass/identity/oidc"
)

// Bounds of the watcher.
const (
	maxEvents = 1024        // that wait to be looked at
	look      = time.Second // how often to look at what lasts
	claimTime = 2 * time.Second
)

// Config is what a watcher needs. Issuers, Now and Log are required.
type Config struct {
	Limits Limits
	Sinks  []Sink
	// Instance and Server are who tells.
	Instance, Server string
	// Issuers returns how all issuers are doing.
	Issuers func() []Health
	// Claim reports whether this server is to tell of a thing that others of the same store see too, and says so to them
	// for a while. nil: there are no others. When it cannot be known, each tells.
	Claim func(ctx context.Context, what string, during time.Duration) (bool, error)
	Now   func() time.Time
	Log   *slog.Logger
}

// Watcher watches. Its methods but Run return at once and may be called concurrently.
type Watcher struct {
	cfg     Config
	events  chan event
	dropped atomic.Int64
	outlets []*outlet

	trust *trust // owned by Run
	mu    sync.Mutex
	book  *book                    // guarded by mu; only Run changes it
	ahead map[string]time.Duration // guarded by mu: how far issuers' clocks are ahead
	asked int64                    // guarded by mu: tokens of issuers that nobody configured
}

// event is something that was noticed, and when.
type event struct {
	at   time.Time
	look func(t *trust, at time.Time) []signal
}

var _ oidc.Observer = (*Watcher)(nil)

// New returns a watcher. It sends nothing before Run.
func New(cfg Config) *Watcher {
	w := &Watcher{cfg: cfg, events: make(chan event, maxEvents), trust: newTrust(cfg.Limits), book: newBook(), ahead: map[string]time.Duration{}}
	for _, sink := range cfg.Sinks {
		w.outlets = append(w.outlets, newOutlet(sink, cfg.Now, cfg.Log))
	}
	return w
}

// Fetched implements [oidc.Observer].
func (w *Watcher) Fetched(f oidc.Fetch) {
	w.post(func(t *trust, _ time.Time) []signal { return t.fetched(f) })
}

// Verified implements [oidc.Observer].
func (w *Watcher) Verified(v oidc.Verification) {
	w.post(func(t *trust, at time.Time) []signal { return t.verified(at, v) })
}

// Rejected takes note of evidence that an issuer did not accept.
func (w *Watcher) Rejected(issuer string, err error) {
	w.post(func(t *trust, at time.Time) []signal { return t.rejected(at, issuer, err) })
}

// Knocked takes note of a token that names an issuer that nobody configured.
func (w *Watcher) Knocked(url string) {
	w.mu.Lock()
	w.asked++
	w.mu.Unlock()
	url = printable(url, maxText) // before it waits
	w.post(func(t *trust, _ time.Time) []signal { return t.stranger(url) })
}

// Refused takes note of an attempt whose evidence was missing or not accepted.
func (w *Watcher) Refused(from netip.Addr) {
	w.post(func(t *trust, at time.Time) []signal { return t.refused(at, from) })
}

// post hands on what was noticed, and waits for nothing.
func (w *Watcher) post(look func(*trust, time.Time) []signal) {
	select {
	case w.events <- event{w.cfg.Now(), look}:
	default:
		w.dropped.Add(1)
	}
}

// Run watches and tells until ctx ends. It returns nil.
func (w *Watcher) Run(ctx context.Context) error {
	var sending sync.WaitGroup
	defer sending.Wait()
	for _, o := range w.outlets {
		sending.Go(func() { o.run(ctx) })
	}
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.events:
			if !w.raise(e.at, e.look(w.trust, e.at)) {
				continue
			}
		case <-ticker.C:
			now := w.cfg.Now()
			w.raise(now, w.trust.looked(now, w.cfg.Issuers()))
			w.noteClocks()
			w.end(now)
		}
		w.tell(ctx, w.cfg.Now())
	}
}

// raise writes signals into the book, and reports whether some are new.
func (w *Watcher) raise(at time.Time, signals []signal) (some bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range signals {
		some = w.book.raise(at, s) || some
	}
	return some
}

// end tells what is over, where this server told that it began.
func (w *Watcher) end(now time.Time) {
	w.mu.Lock()
	over := w.book.sweep(now)
	w.mu.Unlock()
	for _, e := range over {
		w.cfg.Log.Info("an alert is over", "alert", e.Kind, "subject", e.Subject, "count", e.Count)
		if e.told {
			w.send(e.Alert)
		}
	}
}

// tell sends what was not told yet, unless another server tells it, and says to the others what this one tells.
func (w *Watcher) tell(ctx context.Context, now time.Time) {
	w.mu.Lock()
	open := w.book.list()
	w.mu.Unlock()
	for _, e := range open {
		// Half of the time for which it was claimed: so it stays claimed while it is open.
		due := e.asked.IsZero() || now.Sub(e.asked) >= w.trust.limits.Quiet/2
		if !due || e.told && !w.isShared(e.Kind) {
			continue
		}
		first := e.asked.IsZero()
		ours := w.claim(ctx, e.Alert)
		w.mu.Lock()
		e.asked = now
		tell := ours && !e.told
		e.told = e.told || ours
		alert := e.Alert
		w.mu.Unlock()
		if first {
			w.cfg.Log.Warn("an alert", "alert", alert.Kind, "subject", alert.Subject, "summary", alert.Summary)
		}
		if tell {
			w.send(alert)
		}
	}
}

// isShared reports whether other servers of the store see the same thing under the same name. Strangers and sources
// are told of by each server that they come to: their names are not ours to keep in the store.
func (w *Watcher) isShared(kind Kind) bool {
	return w.cfg.Claim != nil && kind != Stranger && kind != SourceFailures
}

// claim reports whether this server is to tell of an alert.
func (w *Watcher) claim(ctx context.Context, a Alert) bool {
	if !w.isShared(a.Kind) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, claimTime)
	defer cancel()
	ours, err := w.cfg.Claim(ctx, string(a.Kind)+" "+a.Subject, w.trust.limits.Quiet)
	return ours || err != nil // told twice is better than never
}

// send gives an alert to each sink.
func (w *Watcher) send(a Alert) {
	m := w.message(a)
	for _, o := range w.outlets {
		o.put(m)
	}
}

// message is an alert with who tells it.
func (w *Watcher) message(a Alert) Message {
	a.Key = w.cfg.Instance + "/" + string(a.Kind) + "/" + a.Subject
	return Message{Version: 1, Alert: a, Instance: w.cfg.Instance, Server: w.cfg.Server}
}

// noteClocks publishes the estimates of the issuers' clocks.
func (w *Watcher) noteClocks() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.ahead)
	for name, i := range w.trust.issuers {
		if !i.aheadAt.IsZero() {
			w.ahead[name] = i.ahead
		}
	}
}

// Open returns the open alerts, oldest first.
func (w *Watcher) Open() []Alert {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []Alert
	for _, e := range w.book.list() {
		all = append(all, e.Alert)
	}
	return all
}

// Outlets returns how the sinks are doing, in the order of the configuration.
func (w *Watcher) Outlets() []Outlet {
	var all []Outlet
	for _, o := range w.outlets {
		all = append(all, o.state())
	}
	return all
}
