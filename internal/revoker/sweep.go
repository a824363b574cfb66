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
		wait = r.sweepEvery
		if err := s.run(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("a target could not be reconciled", "target", m.name, "err", err)
			wait = min(wait, 30*time.Second)
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
}

// run makes one pass: mark, strays, missing, remains.
func (s *sweep) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	if err := s.mark(ctx); err != nil {
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

// mark leaves this boot's mark at the target. A target that has seen a later boot or epoch than this store knows
// tells that the store was restored or copied: a new epoch is opened, and until every credential that the lost
// records may speak of has expired by itself, nothing unknown to the store is destroyed there.
func (s *sweep) mark(ctx context.Context) error {
	marker, ok := s.member.target.(target.Marker)
	if !ok {
		return nil
	}
	mine, err := s.revoker.Mark(ctx, s.member.name)
	if err != nil {
		return err
	}
	if err := s.recallQuarantine(ctx); err != nil {
		return err
	}
	seen, err := marker.Mark(ctx, mine)
	if err != nil {
		return err
	}
	if !newer(seen, mine) {
		return nil
	}
	until := s.revoker.clock.Now().Add(s.revoker.quarantine())
	if err := s.revoker.openEpoch(ctx, s.member.name, seen, until); err != nil {
		return err
	}
	s.member.quarantine(until)
	s.revoker.log.Error("this store is older than the target remembers: it was restored or copied; nothing unknown to it is destroyed there for now",
		"target", s.member.name, "seen_boot", seen.Boot, "boot", mine.Boot, "until", until)
	if mine, err = s.revoker.Mark(ctx, s.member.name); err != nil {
		return err
	}
	_, err = marker.Mark(ctx, mine)
	return err
}

// recallQuarantine takes up a quarantine that an earlier boot began.
func (s *sweep) recallQuarantine(ctx context.Context) error {
	var until time.Time
	err := s.revoker.store.View(ctx, func(tx *store.Tx) (err error) {
		until, err = tx.Quarantine(s.member.name)
		return err
	})
	if err == nil {
		s.member.quarantine(until)
	}
	return err
}

// Mark returns the mark of this boot for a target.
func (r *Revoker) Mark(ctx context.Context, targetName string) (target.Mark, error) {
	m := target.Mark{Instance: r.store.Instance(), Epoch: r.store.Epoch()}
	err := r.store.Update(ctx, func(tx *store.Tx) (err error) {
		// The newest boot and not ours: a target that has seen another process of this store has seen nothing strange.
		if m.Boot, err = tx.NewestBoot(); err != nil {
			return err
		}
		m.Target, _, err = tx.TargetMark(targetName)
		return err
	})
	return m, err
}

// openEpoch makes this store newer than what the target has seen, and remembers to hold back from it.
func (r *Revoker) openEpoch(ctx context.Context, targetName string, seen target.Mark, until time.Time) error {
	return r.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.RaiseEpoch(seen.Epoch); err != nil {
			return err
		}
		return tx.SetQuarantine(targetName, until)
	})
}

func newer(seen, mine target.Mark) bool {
	if seen.Instance != mine.Instance || seen.Target != mine.Target {
		return false
	}
	return seen.Epoch > mine.Epoch || seen.Epoch == mine.Epoch && seen.Boot > mine.Boot
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
	if s.member.inQuarantine(s.revoker.clock.Now()) {
		s.revoker.log.Warn("a stray is kept: the target is in quarantine", "lease", id, "target", s.member.name)
		return nil
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

// quarantine keeps what is unknown to the store alive at the target until a time.
func (m *Member) quarantine(until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.quarantined = until
}

func (m *Member) inQuarantine(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return now.Before(m.quarantined)
}

// holdsBack reports whether, and until when, a lease must not be revoked: in quarantine a lease that expired by a
// restored store's word may have been renewed after the backup, up to the end of its renewable life.
func (m *Member) holdsBack(l store.Lease, now time.Time) (until time.Time, held bool) {
	if l.Reason != lease.Expired || !m.inQuarantine(now) || !now.Before(l.RenewableUntil) {
		return time.Time{}, false
	}
	return l.RenewableUntil, true
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
