package revoker

import (
	"context"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/target"
)

// sweepTime is how long one reconciliation of a target may take.
const sweepTime = 10 * time.Minute

// runSweeps reconciles one target at once and then from time to time, until it leaves the fleet.
func (r *Revoker) runSweeps(ctx context.Context, m *Member) {
	s := &sweep{revoker: r, member: m, noted: map[string]bool{}}
	var begun time.Time
	wait := time.Duration(0)
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-m.retired:
			timer.Stop()
			return
		case <-timer.C:
		}
		if !r.awaitClaim(ctx, m.name, m.retired) {
			return
		}
		if begun.IsZero() {
			begun = time.Now()
		}
		wait = r.sweepEvery
		if err := s.run(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("a target could not be reconciled", "target", m.name, "err", err)
			wait = min(wait, 30*time.Second)
		}
		if time.Since(begun) > meetTime {
			m.meet() // a target whose mark cannot be had must not keep what expired for ever
		}
		if !s.again.IsZero() {
			wait = max(time.Second, min(wait, s.again.Sub(r.clock.Now())))
		}
	}
}

// Sweep reconciles one target now. Tests and benchmarks use it to see a settled world.
func (r *Revoker) Sweep(ctx context.Context, m *Member) error {
	return (&sweep{revoker: r, member: m, noted: map[string]bool{}}).run(ctx)
}

// sweep compares what a target holds with what the store says.
type sweep struct {
	revoker *Revoker
	member  *Member
	noted   map[string]bool // missing leases that are on the record already
	again   time.Time       // when the first of the credentials that were spared expires; zero where none was
}

// run makes one pass: mark, strays, missing, remains.
func (s *sweep) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	s.again = time.Time{}
	if err := s.meet(ctx); err != nil {
		return err
	}
	if lister, ok := s.member.target.(target.Lister); ok {
		if err := s.reconcile(ctx, lister); err != nil {
			return err
		}
	}
	if cleaner, ok := s.member.target.(target.Cleaner); ok {
		residue, err := cleaner.Clean(ctx)
		if err != nil {
			return err
		}
		s.member.settle(residue)
		s.revoker.figures.residue.WithLabelValues(s.member.name).Set(float64(residue.Objects))
	}
	s.member.sweptAt(s.revoker.clock.Now())
	return nil
}

// reconcile destroys strays and notes missing leases. For strays the target is listed before the store is read,
// so that a lease made meanwhile is never taken for one; for missing leases the store is read before and after.
func (s *sweep) reconcile(ctx context.Context, lister target.Lister) error {
	expected, err := s.active(ctx)
	if err != nil {
		return err
	}
	begun := s.revoker.clock.Now()
	for id, err := range lister.Leases(ctx) {
		if err != nil {
			return err
		}
		delete(expected, id)
		if err := s.judge(ctx, id, begun); err != nil {
			return err
		}
	}
	missing := 0
	for id := range expected {
		gone, err := s.confirmMissing(ctx, id)
		if err != nil {
			return err
		}
		if gone {
			missing++
		}
	}
	s.revoker.figures.missing.WithLabelValues(s.member.name).Set(float64(missing))
	return nil
}

// active reads the IDs of the leases that the target must hold.
func (s *sweep) active(ctx context.Context) (map[string]bool, error) {
	ids := map[string]bool{}
	cursor := ""
	for {
		var found []store.Lease
		err := s.revoker.store.View(ctx, func(tx *store.Tx) (err error) {
			found, cursor, err = tx.Leases(store.Filter{Target: s.member.name, State: lease.Active, Live: true}, cursor, page)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, l := range found {
			ids[string(l.ID)] = true
		}
		if cursor == "" {
			return ids, nil
		}
	}
}

// judge destroys what lives at the target under an ID that the store does not know, or knows to be dead. A lease that
// died while the target was listed was alive when it was seen; should it live after all, the next sweep sees it.
func (s *sweep) judge(ctx context.Context, id string, begun time.Time) error {
	known, err := s.read(ctx, id)
	if err != nil || known.ID != "" && (known.State.MayLive() || !known.RevokedAt.Before(begun)) {
		return err
	}
	if known.ID == "" {
		if spared, err := s.spare(ctx, id); err != nil || spared {
			return err
		}
	}
	s.revoker.log.Warn("a stray is destroyed", "lease", id, "target", s.member.name)
	s.revoker.figures.strays.WithLabelValues(s.member.name).Inc()
	if err := s.record(ctx, ledger.TargetStray, id); err != nil {
		return err
	}
	callCtx, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	return s.member.revoke(callCtx, id)
}

// confirmMissing notes a lease that the store calls active, before and after the target was listed, and that the
// target does not hold. The lease stays as it is: its expiry still ends it.
func (s *sweep) confirmMissing(ctx context.Context, id string) (bool, error) {
	l, err := s.read(ctx, id)
	if err != nil || l.State != lease.Active {
		return false, err
	}
	if s.noted[id] {
		return true, nil
	}
	s.noted[id] = true
	s.revoker.log.Warn("an active lease has no credential at its target", "lease", id, "target", s.member.name)
	return true, s.record(ctx, ledger.TargetMissing, id)
}

// read returns the lease, or the zero Lease where the store has none.
func (s *sweep) read(ctx context.Context, id string) (l store.Lease, err error) {
	err = s.revoker.store.View(ctx, func(tx *store.Tx) (err error) {
		l, err = tx.Lease(lease.ID(id))
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return store.Lease{}, nil
	}
	return l, err
}

func (s *sweep) record(ctx context.Context, event ledger.Event, id string) error {
	now := s.revoker.clock.Now()
	return s.revoker.store.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.Append(ledger.Entry{Time: now, Event: event, Lease: id, Target: s.member.name})
		return err
	})
}

func (m *Member) settle(residue target.Residue) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.residue = residue
}

func (m *Member) sweptAt(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.swept = now
}
