package revoker

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"time"

	"github.com/daypass/daypass/target"
)

// narrowTime is how long a target may take to narrow its roles.
const narrowTime = 2 * time.Minute

// runNarrowing holds the credentials that live at one target to what their roles hold now: at the start, whenever that
// changes, and from time to time, until the target leaves the fleet. What fails is tried again with what holds then. So
// nothing is recorded about it, and nobody waits for it.
func (r *Revoker) runNarrowing(ctx context.Context, m *Member) {
	if m.narrower == nil {
		return
	}
	for failures := 0; ; {
		wait := r.sweepEvery
		if err := m.narrow(ctx); err == nil {
			failures = 0
		} else if ctx.Err() == nil {
			failures++
			wait = min(wait, backOff(failures))
			r.log.Warn("leases that live may hold more than their roles", "target", m.name, "retry_in", wait, "err", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-m.retired:
			timer.Stop()
			return
		case <-m.changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// narrow tells the target what its roles hold now.
func (m *Member) narrow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, narrowTime)
	defer cancel()
	m.mu.Lock()
	roles := m.roles
	m.mu.Unlock()
	var err error
	if len(roles) > 0 {
		err = contained(func() error { return m.narrower.Narrow(ctx, roles) })
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.narrowed = err == nil && sameRoles(roles, m.roles)
	return err
}

// SetRoles says what the roles of this target hold by the access revision that is active. Credentials that live and
// hold more lose it soon.
func (m *Member) SetRoles(roles map[string]json.RawMessage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if sameRoles(roles, m.roles) {
		return
	}
	m.roles, m.narrowed = maps.Clone(roles), false
	signal(m.changed)
}

func sameRoles(a, b map[string]json.RawMessage) bool {
	return maps.EqualFunc(a, b, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
}

// Narrowed reports whether no credential at the target is known to hold more than its role does by now.
func (m *Member) Narrowed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.narrowed
}

// overtaken has a target narrowed again when a grant ends whose role has changed since it began: its credential may
// have come too late for the change.
func (m *Member) overtaken(g target.Grant) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now, named := m.roles[g.Role]; named && !bytes.Equal(now, g.Rights) {
		m.narrowed = false
		signal(m.changed)
	}
}
