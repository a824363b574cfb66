package revoker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/target"
)

// Fleet holds the targets in use: those of the active access revision, and those that drain because leases of
// theirs still live. Its methods may be called concurrently.
type Fleet struct {
	mu      sync.RWMutex // guards the fields below
	members map[string]*Member
	changed chan struct{} // closed and replaced at each change
}

// NewFleet returns an empty fleet.
func NewFleet() *Fleet {
	return &Fleet{members: map[string]*Member{}, changed: make(chan struct{})}
}

// Put adds a target or replaces the one of that name.
func (f *Fleet) Put(m *Member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.members[m.name]; old != nil && old != m {
		old.retire()
	}
	f.members[m.name] = m
	f.announce()
}

// Remove takes a target out of use.
func (f *Fleet) Remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.members[name]; old != nil {
		old.retire()
	}
	delete(f.members, name)
	f.announce()
}

func (f *Fleet) announce() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Changed returns a channel that is closed at the next change.
func (f *Fleet) Changed() <-chan struct{} {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.changed
}

// Member returns the target of that name.
func (f *Fleet) Member(name string) (*Member, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	m, ok := f.members[name]
	return m, ok
}

// Members returns all targets by name.
func (f *Fleet) Members() []*Member {
	f.mu.RLock()
	defer f.mu.RUnlock()
	all := make([]*Member, 0, len(f.members))
	for _, m := range f.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *Member) int { return strings.Compare(a.name, b.name) })
	return all
}

// budget is how many calls one target may have under way, for grants and for revocations each; renewals have a small
// budget of their own, so that no holder's renewals stand in the way of the two.
const (
	budget        = 256
	renewalBudget = 32
)

// Member is one target with its budgets and breakers: whatever it does, it does to itself alone.
type Member struct {
	name     string
	kind     string
	target   target.Target
	narrower target.Narrower // the target, nil where it cannot narrow
	retired  chan struct{}   // closed when the member left the fleet
	changed  chan struct{}   // wakes the narrowing; buffered, so that a wake is never lost

	grants      gate
	renewals    gate
	revocations gate

	mu          sync.Mutex // guards the fields below
	draining    bool
	roles       map[string]json.RawMessage // what each role holds now; replaced whole
	narrowed    bool                       // no credential is known to hold more
	met         bool                       // the mark there was compared with the store
	quarantined time.Time                  // nothing that the store does not know is destroyed before then, but at its expiry
	swept       time.Time
	residue     target.Residue
}

// NewMember returns t as a member of a fleet, under its name and kind in the access configuration.
func NewMember(name, kind string, t target.Target) *Member {
	narrower, _ := t.(target.Narrower)
	return &Member{
		name:        name,
		kind:        kind,
		target:      t,
		narrower:    narrower,
		retired:     make(chan struct{}),
		changed:     make(chan struct{}, 1),
		grants:      gate{slots: make(chan struct{}, budget)},
		renewals:    gate{slots: make(chan struct{}, renewalBudget)},
		revocations: gate{slots: make(chan struct{}, budget)},
	}
}

// Name returns the target's name in the access configuration.
func (m *Member) Name() string { return m.name }

// Kind returns the target's kind, such as "postgres".
func (m *Member) Kind() string { return m.kind }

// Target returns the target itself, for its optional abilities.
func (m *Member) Target() target.Target { return m.target }

// Offline reports whether the target's grants change nothing anywhere; see [target.Offline].
func (m *Member) Offline() bool {
	alone, ok := m.target.(target.Offline)
	return ok && alone.Offline()
}

// Drain marks the target as one that the active access revision no longer names, or names again.
func (m *Member) Drain(draining bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.draining = draining
}

// Draining reports whether the target only ends the leases it has.
func (m *Member) Draining() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.draining
}

func (m *Member) retire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.retired:
	default:
		close(m.retired)
	}
}

// Grant makes a credential through the target's budget and breaker. A breaker that is open refuses at once, so
// that callers of a dead target do not wait for it.
func (m *Member) Grant(ctx context.Context, g target.Grant) (c target.Credential, err error) {
	if wait, open := m.grants.open(time.Now()); open {
		refusal := fault.New(fault.TargetUnavailable, m.op("grant", g.Lease), fmt.Sprintf("target %q does not answer", m.name))
		refusal.RetryAfter = wait
		refusal.Err = target.ErrNotDone
		return c, refusal
	}
	asked := time.Now()
	if err := m.grants.enter(ctx); err != nil {
		return c, fault.Wrap(fault.TooMany, m.op("grant", g.Lease), fmt.Sprintf("target %q is busy", m.name), fmt.Errorf("%w: %w", target.ErrNotDone, err))
	}
	defer m.grants.leave()
	g.TTL -= time.Since(asked) // the target counts from now on, and the record from then
	err = contained(func() (err error) { c, err = m.target.Grant(ctx, g); return err })
	m.grants.observe(time.Now(), err)
	m.overtaken(g)
	if refusal, ok := errors.AsType[*target.RefusalError](err); ok {
		return target.Credential{}, fault.Wrap(fault.Denied, m.op("grant", g.Lease), refusal.Text, err)
	}
	if err != nil {
		return target.Credential{}, fault.Wrap(fault.TargetUnavailable, m.op("grant", g.Lease), fmt.Sprintf("target %q did not grant the credential", m.name), err)
	}
	return c, nil
}

// Renew moves the native expiry where the target has one.
func (m *Member) Renew(ctx context.Context, leaseID string, ttl time.Duration) error {
	renewer, ok := m.target.(target.Renewer)
	if !ok {
		return fault.New(fault.Conflict, m.op("renew", leaseID), fmt.Sprintf("credentials of target %q cannot be renewed; acquire a new lease", m.name))
	}
	if err := m.renewals.enter(ctx); err != nil {
		return fault.Wrap(fault.TooMany, m.op("renew", leaseID), fmt.Sprintf("target %q is busy", m.name), err)
	}
	defer m.renewals.leave()
	if err := contained(func() error { return renewer.Renew(ctx, leaseID, ttl) }); err != nil {
		return fault.Wrap(fault.TargetUnavailable, m.op("renew", leaseID), fmt.Sprintf("target %q did not renew the credential", m.name), err)
	}
	return nil
}

// revoke ends a credential; the caller holds a slot of the budget.
func (m *Member) revoke(ctx context.Context, leaseID string) error {
	err := contained(func() error { return m.target.Revoke(ctx, leaseID) })
	if _, lives := errors.AsType[*target.UnexpiredError](err); lives {
		m.revocations.observe(time.Now(), nil)
		return err
	}
	m.revocations.observe(time.Now(), err)
	if err != nil {
		return fmt.Errorf("%s: %w", m.op("revoke", leaseID), err)
	}
	return nil
}

func (m *Member) op(verb, leaseID string) string {
	return fmt.Sprintf("%s lease %s on target %q", verb, leaseID, m.name)
}

// contained calls f and turns a panic into an error: a target's bug must not take the process down.
func contained(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			what := fmt.Sprintf("%T", p) // the value may hold anything, such as the credential
			if fromRuntime, ok := p.(runtime.Error); ok {
				what = fromRuntime.Error()
			}
			err = fmt.Errorf("panic: %s\n%s", what, debug.Stack())
		}
	}()
	return f()
}

// Health is how a target is doing.
type Health struct {
	Name        string
	Kind        string
	Draining    bool
	Unreachable bool          // a breaker is open
	LastError   string        // of the last call that failed, empty after one that went well
	RetryIn     time.Duration // when the breaker lets the next call through
	Quarantined time.Time     // until when strays are kept, zero where they are not
	Swept       time.Time     // last reconciliation that ended well
	Residue     target.Residue
}

// Health returns how the target is doing at now.
func (m *Member) Health(now time.Time) Health {
	h := Health{Name: m.name, Kind: m.kind}
	for _, g := range []*gate{&m.grants, &m.revocations} {
		if wait, open := g.open(now); open {
			h.Unreachable = true
			h.RetryIn = max(h.RetryIn, wait)
		}
		if text := g.lastError(); text != "" {
			h.LastError = text
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h.Draining, h.Swept, h.Residue = m.draining, m.swept, m.residue
	if now.Before(m.quarantined) {
		h.Quarantined = m.quarantined
	}
	return h
}
