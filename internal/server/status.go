package server

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/internal/store"
)

// The healths of targets and issuers.
const (
	healthOK      = "ok"
	healthFailing = "failing"
	healthUnknown = "unknown"
)

// stuck is how long a revocation may take before it is worth a warning.
const stuck = 5 * time.Minute

// Status tells how the broker and its parts are doing.
func (s *Server) Status(ctx context.Context) (api.Status, error) {
	now, signer := s.clock.Now(), s.store.Signer()
	out := api.Status{
		Version: s.options.Version, Instance: s.store.Instance(), Boot: s.store.Boot(), Epoch: s.store.Epoch(),
		StartedAt: api.At(s.started), Now: api.At(now),
		Targets: []api.TargetStatus{}, Issuers: []api.IssuerStatus{},
		Ledger: api.LedgerStatus{Origin: signer.Origin(), Key: signer.VerifierKey()},
	}
	var tallies []store.TargetTally
	due := map[string]*api.Time{}
	err := s.store.View(ctx, func(tx *store.Tx) (err error) {
		if tallies, err = tx.Targets(); err != nil {
			return err
		}
		locks, err := tx.ActiveLocks(now)
		if err != nil {
			return err
		}
		out.Locks = len(locks)
		if err := s.addServers(&out, tx); err != nil {
			return err
		}
		if out.Queues.ExpiredFrom, err = passed(now)(tx.NextExpiry()); err != nil {
			return err
		}
		for _, t := range tallies {
			if due[t.Target], err = passed(now)(tx.NextDue(t.Target)); err != nil {
				return err
			}
		}
		out.Ledger.Size, err = tx.LedgerSize()
		return err
	})
	if err != nil {
		return out, err
	}
	if view := s.guard.View(); view != nil {
		out.Revision = view.Revision
	}
	reasons := s.ready.reasons(ctx)
	out.Ready = len(reasons) == 0
	out.Warnings = reasons
	out.Queues.Store = s.store.Waiting()
	s.addTargets(&out, tallies, due, now)
	s.addIssuers(&out)
	s.addLocation(&out)
	s.addAlerts(&out)
	if off, jumped := s.clock.Jumped(); jumped {
		out.Warnings = append(out.Warnings, fmt.Sprintf("the wall clock jumped by %s; expiries are held back until a target's clock confirms it", off.Round(time.Second)))
	}
	if s.cfg.IsDev() {
		out.Warnings = append(out.Warnings, "this is a development server: do not give it targets that matter")
	}
	return out, nil
}

// addServers adds the servers that share the store.
func (s *Server) addServers(out *api.Status, tx *store.Tx) error {
	all, err := tx.Replicas()
	for _, r := range all {
		out.Servers = append(out.Servers, api.ServerStatus{
			Boot: r.Boot, Name: r.Name, SeenAt: api.At(r.SeenAt), Self: r.Boot == s.store.Boot(), Keeps: r.Keeps,
		})
	}
	return err
}

// passed gives a time of the store where it has passed, and nil where it has not or there is none.
func passed(now time.Time) func(at time.Time, some bool, err error) (*api.Time, error) {
	return func(at time.Time, some bool, err error) (*api.Time, error) {
		if err != nil || !some || at.After(now) {
			return nil, err
		}
		t := api.At(at)
		return &t, nil
	}
}

// addTargets adds the targets of the fleet, and those that leases live at and that are not in it.
func (s *Server) addTargets(out *api.Status, tallies []store.TargetTally, due map[string]*api.Time, now time.Time) {
	byName := map[string]*api.TargetStatus{}
	for _, m := range s.fleet.Members() {
		byName[m.Name()] = targetStatus(out, m.Health(now), now)
	}
	for name, why := range s.deployment.Faults() {
		byName[name] = &api.TargetStatus{Name: name, Health: healthFailing, Error: why}
		out.Warnings = append(out.Warnings, fmt.Sprintf("target %q is not in service: %s", name, why))
	}
	for _, tally := range tallies {
		t := byName[tally.Target]
		if t == nil {
			t = &api.TargetStatus{Name: tally.Target, Health: healthUnknown}
			byName[tally.Target] = t
		}
		t.DueFrom = due[tally.Target]
		t.Leases = api.LeaseCounts{Pending: tally.Pending, Active: tally.Active, Revoking: tally.Revoking}
		out.Leases.Pending += tally.Pending
		out.Leases.Active += tally.Active
		out.Leases.Revoking += tally.Revoking
		if tally.OldestRevoking.IsZero() {
			continue
		}
		at := api.At(tally.OldestRevoking)
		t.OldestRevoking = &at
		if age := now.Sub(tally.OldestRevoking); age > stuck {
			out.Warnings = append(out.Warnings, fmt.Sprintf("target %q: a lease has waited for the proof of its end for %s", tally.Target, age.Round(time.Second)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out.Targets = append(out.Targets, *byName[name])
	}
}

// targetStatus is the health of one target, with a warning where it calls for one.
func targetStatus(out *api.Status, h revoker.Health, now time.Time) *api.TargetStatus {
	t := &api.TargetStatus{Name: h.Name, Kind: h.Kind, Health: healthUnknown, Draining: h.Draining, Error: h.LastError}
	switch {
	case h.Unreachable || h.LastError != "":
		t.Health = healthFailing
	case !h.Swept.IsZero():
		t.Health = healthOK
	}
	if h.Unreachable {
		retry := api.At(now.Add(h.RetryIn))
		t.RetryAt = &retry
	}
	if !h.Quarantined.IsZero() {
		out.Warnings = append(out.Warnings, fmt.Sprintf("the store was restored: until %[2]s what it does not know at target %[1]q lives to its own expiry", h.Name, api.At(h.Quarantined)))
	}
	if h.Residue.Objects > 0 {
		out.Warnings = append(out.Warnings, fmt.Sprintf("target %q holds %d objects that dead leases own", h.Name, h.Residue.Objects))
	}
	return t
}

func (s *Server) addIssuers(out *api.Status) {
	view := s.guard.View()
	for name, state := range s.verifiers.Keys() {
		i := api.IssuerStatus{Name: name, Health: healthOK}
		if view != nil {
			i.URL = view.Access.Issuers[name].URL
		}
		if state == nil { // it has no keys of its own that could fail to come
			out.Issuers = append(out.Issuers, i)
			continue
		}
		i.Health, i.Keys = healthUnknown, state.Keys
		switch {
		case state.Failing:
			i.Health, i.Error = healthFailing, state.LastError
			out.Warnings = append(out.Warnings, fmt.Sprintf("issuer %q does not give its keys: %s", name, state.LastError))
		case state.Keys > 0:
			i.Health = healthOK
		}
		if !state.KeysAt.IsZero() {
			at := api.At(state.KeysAt)
			i.FetchedAt = &at
		}
		out.Issuers = append(out.Issuers, i)
	}
	slices.SortFunc(out.Issuers, func(a, b api.IssuerStatus) int { return cmp.Compare(a.Name, b.Name) })
}

// probe finds out whether leases can be acquired. Its answer is good for a moment, so that asking costs little
// however often it is done.
type probe struct {
	store *store.Store
	guard *admission.Guard

	mu    sync.Mutex // guards the fields below
	until time.Time
	wrote bool
}

func newProbe(s *store.Store, g *admission.Guard) *probe { return &probe{store: s, guard: g} }

// reasons returns why no lease can be acquired now, and nothing when it can.
func (p *probe) reasons(ctx context.Context) []string {
	var reasons []string
	if p.guard.View() == nil {
		reasons = append(reasons, "no access configuration is active: everything is denied")
	}
	if !p.writes(ctx) {
		reasons = append(reasons, "the store cannot be written")
	}
	return reasons
}

// writes reports whether the store takes writes. It writes for real: a disk that is full or read-only shows at
// nothing less.
func (p *probe) writes(ctx context.Context) bool {
	const good = 5 * time.Second
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.until) {
		return p.wrote
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	p.wrote = p.store.Update(ctx, func(tx *store.Tx) error { return tx.Probe() }) == nil
	p.until = time.Now().Add(good)
	return p.wrote
}
