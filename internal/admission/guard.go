// Package admission says who stands there and what they may do, by the rules that serve. It comes before everything
// that is done for somebody.
//
//	rules      the active access revision, compiled ([View]): kept, activated, followed, swapped whole
//	evidence   who shows it → principal or actor, with what has to be used up before anything is done ([Due])
//	ruling     a question → what the policies say, which can be looked at again while it is acted upon ([Ruling])
//
// It promises that nobody is anybody without evidence that an issuer of the active revision vouches for, and that what
// it allows was allowed by one revision from start to end. It does nothing for those whom it lets pass: it calls no
// target, and makes no lease.
//
// It must not import what is asked for (the broker and the rooms beside it), the edge, or concrete issuers; and it
// reads no clock.
package admission

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/denial"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
)

// Config is what a Guard needs.
type Config struct {
	Store   *store.Store
	Ender   Ender
	Builder Builder
	Tokens  *accesstoken.Tokens // nil: there are no access tokens
	Admins  []string            // names of the issuers whose principals may administer, where policies permit
	// Locate says where an address is: codes of ISO 3166-1 and 3166-2, empty where it does not know. nil: nowhere.
	Locate     func(netip.Addr) (country, subdivision string)
	Conditions string // [ConditionsOff] unless given
	Now        func() time.Time
	Log        *slog.Logger
}

// Ender ends leases: those of an issuer that left.
type Ender interface {
	EndAll(ctx context.Context, filter store.Filter, reason lease.Reason) error
}

// Origin is where a request comes from.
type Origin struct {
	Request  string // request ID
	SourceIP netip.Addr
}

// Log is the log of what a request asked for: its lines carry the request's ID. What nobody asked for has none.
func (o Origin) Log(log *slog.Logger) *slog.Logger {
	if o.Request == "" {
		return log
	}
	return log.With("request", o.Request)
}

// Guard stands before everything that is done for somebody. Its methods may be called concurrently.
type Guard struct {
	store      *store.Store
	ender      Ender
	builder    Builder
	tokens     *accesstoken.Tokens
	admins     map[string]bool
	locate     func(netip.Addr) (country, subdivision string)
	conditions string
	now        func() time.Time
	log        *slog.Logger
	denials    *denial.Book
	rejected   *prometheus.CounterVec

	view      atomic.Pointer[View] // the active revision; replaced whole
	changing  chan struct{}        // holds one value while a goroutine changes view
	activated chan struct{}        // tells of each change; buffered, so that none is lost
	stopped   chan struct{}        // closed when Run has returned
}

// New returns a Guard without an access revision: it denies everything until [Guard.Load] or [Guard.Apply].
func New(cfg Config) *Guard {
	g := &Guard{
		store:      cfg.Store,
		ender:      cfg.Ender,
		builder:    cfg.Builder,
		tokens:     cfg.Tokens,
		admins:     map[string]bool{},
		locate:     cfg.Locate,
		conditions: cfg.Conditions,
		now:        cfg.Now,
		log:        cfg.Log,
		rejected:   newRejected(),
		denials:    denial.New(cfg.Store, cfg.Now, cfg.Log),
		changing:   make(chan struct{}, 1),
		activated:  make(chan struct{}, 1),
		stopped:    make(chan struct{}),
	}
	for _, name := range cfg.Admins {
		g.admins[name] = true
	}
	return g
}

// View returns the active access revision, or nil when there is none.
func (g *Guard) View() *View { return g.view.Load() }

// Activated tells of each access revision that begins to serve, to one listener. Of several changes that it did not
// hear of in time it is told once.
func (g *Guard) Activated() <-chan struct{} { return g.activated }

// followEvery is how often to look for a revision that another server of the store has activated. Acquisitions find
// out by themselves: they check the revision with their record.
const followEvery = 500 * time.Millisecond

// follow serves the active revision where another server has activated one, also the first of a new installation. It
// returns how long to wait before the next look: what cannot be served or read now is not told twice a second.
func (g *Guard) follow(ctx context.Context) time.Duration {
	_, err := g.Refresh(ctx)
	if err == nil || fault.Is(err, fault.NotFound) || ctx.Err() != nil {
		return followEvery
	}
	g.log.Error("follow the active access revision", "err", err)
	return 10 * followEvery
}

// Run counts denials into the store until ctx ends, and follows the revisions that other servers of it activate.
func (g *Guard) Run(ctx context.Context) error {
	defer close(g.stopped)
	const every = 30 * time.Second
	ticker, follow := time.NewTicker(every), time.NewTimer(followEvery)
	defer ticker.Stop()
	defer follow.Stop()
	for {
		select {
		case <-ctx.Done():
			return g.denials.Flush(context.WithoutCancel(ctx))
		case <-follow.C:
			if g.store.Shared() {
				follow.Reset(g.follow(ctx))
			}
		case <-ticker.C:
			if err := g.denials.Flush(ctx); err != nil {
				g.log.Error("record the denials", "err", err)
			}
		}
	}
}

// Decision returns a stored decision, for administrators.
func (g *Guard) Decision(ctx context.Context, c Caller, id string) (d store.Decision, err error) {
	if _, err := g.Administer(ctx, c, policy.Read); err != nil {
		return d, err
	}
	err = g.store.View(ctx, func(tx *store.Tx) (err error) {
		d, err = tx.Decision(id)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return d, fault.New(fault.NotFound, "explain decision "+id, fmt.Sprintf("no decision %q: it may have passed its retention", id))
	}
	return d, err
}

// Describe implements [prometheus.Collector].
func (g *Guard) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(g, out) }

// Collect implements [prometheus.Collector].
func (g *Guard) Collect(out chan<- prometheus.Metric) {
	g.rejected.Collect(out)
	g.denials.Collect(out)
}
