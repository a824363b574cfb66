package revoker

import (
	"context"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/target"
)

// A store that was restored from a copy is older than the targets. They hold credentials that it has no record of,
// and credentials that were renewed after the copy. Nothing of that is ended on the word of the store alone: for as
// long as any of it can have been promised to live, the target is in quarantine, and its own expiries decide.
//
// Three things tell of a restore: the store itself, when the copy was put back by our command; the mark at the
// target, when it is of a later boot; and a credential without a record, since a lease is recorded before its
// credential is made.

const (
	meetTime = 2 * time.Minute  // how long what expired waits for the first look at its target
	recheck  = 30 * time.Second // between two looks at a lease that is held back: a lock may have come
)

// meet compares the mark at the target with this boot's and leaves this one there. Before that has happened, or was
// tried for some minutes, nothing at the target is ended because its time is up.
func (s *sweep) meet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	if err := s.recallQuarantine(ctx); err != nil {
		return err
	}
	if marker, ok := s.member.target.(target.Marker); ok {
		if err := s.mark(ctx, marker); err != nil {
			return err
		}
	}
	s.member.meet()
	s.revoker.Wake(s.member.name)
	return nil
}

// mark opens a new epoch where the target has seen a later boot or epoch than this store knows.
func (s *sweep) mark(ctx context.Context, marker target.Marker) error {
	mine, err := s.revoker.Mark(ctx, s.member.name)
	if err != nil {
		return err
	}
	seen, err := marker.Mark(ctx, mine)
	if err != nil || seen.Instance != mine.Instance || seen.Target != mine.Target || !seen.After(mine) {
		return err
	}
	// Another server of our store may have begun between the two: its boot is in the store before it is at the target.
	if mine, err = s.revoker.Mark(ctx, s.member.name); err != nil || !seen.After(mine) {
		return err
	}
	s.revoker.log.Error("the target remembers a later start than this store knows", "target", s.member.name,
		"seen_boot", seen.Boot, "boot", mine.Boot, "seen_epoch", seen.Epoch, "epoch", mine.Epoch)
	if err := s.openEpoch(ctx, seen.Epoch); err != nil {
		return err
	}
	if mine, err = s.revoker.Mark(ctx, s.member.name); err != nil {
		return err
	}
	_, err = marker.Mark(ctx, mine)
	return err
}

// Mark returns the mark of this boot for a target.
func (r *Revoker) Mark(ctx context.Context, targetName string) (target.Mark, error) {
	m := target.Mark{Instance: r.store.Instance()}
	err := r.store.Update(ctx, func(tx *store.Tx) (err error) {
		// The newest boot and not ours: a target that has seen another process of this store has seen nothing strange.
		if m.Boot, err = tx.NewestBoot(); err != nil {
			return err
		}
		if m.Epoch, err = tx.NewestEpoch(); err != nil {
			return err
		}
		m.Target, _, err = tx.TargetMark(targetName)
		return err
	})
	return m, err
}

// openEpoch makes this store newer than an epoch that was seen, and remembers to hold back at the target.
func (s *sweep) openEpoch(ctx context.Context, seen int64) error {
	until := s.revoker.clock.Now().Add(s.revoker.quarantine())
	err := s.revoker.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.RaiseEpoch(seen); err != nil {
			return err
		}
		return tx.SetQuarantine(s.member.name, until)
	})
	if err != nil {
		return err
	}
	s.member.quarantine(until)
	s.revoker.log.Error("this store is older than the target: it was restored or copied; nothing unknown to it is destroyed there before its own expiry",
		"target", s.member.name, "until", until)
	return nil
}

// recallQuarantine takes up a quarantine that an earlier boot began, and begins one where a copy was put back.
func (s *sweep) recallQuarantine(ctx context.Context) error {
	var until, restored time.Time
	err := s.revoker.store.View(ctx, func(tx *store.Tx) (err error) {
		if until, err = tx.Quarantine(s.member.name); err == nil {
			restored, err = tx.RestoredAt()
		}
		return err
	})
	if err != nil {
		return err
	}
	if !restored.IsZero() {
		if whole := restored.Add(s.revoker.quarantine()); whole.After(until) {
			until = whole
		}
	}
	s.member.quarantine(until)
	return nil
}

// spare reports whether a credential that the store has no record of must live on: until its own expiry, where the
// target tells it, and else until the end of the quarantine. Outside of a quarantine such a credential is what tells
// of a restore, when it expires as one of ours does.
func (s *sweep) spare(ctx context.Context, id string) (bool, error) {
	now := s.revoker.clock.Now()
	quarantined := s.member.inQuarantine(now)
	until, err := s.member.expiry(ctx, id)
	switch {
	case err != nil:
		return false, err
	case until.IsZero() && !quarantined:
		return false, nil
	case !until.IsZero() && !now.Before(until):
		return false, nil
	case !quarantined && until.After(now.Add(s.revoker.quarantine())):
		return false, nil // no credential of ours lives as long
	case !quarantined:
		mine, err := s.revoker.Mark(ctx, s.member.name)
		if err == nil {
			err = s.openEpoch(ctx, mine.Epoch)
		}
		if err != nil {
			return false, err
		}
	}
	if !until.IsZero() && (s.again.IsZero() || until.Before(s.again)) {
		s.again = until
	}
	s.revoker.log.Warn("a credential that the store does not know is left to its expiry: the store was restored",
		"lease", id, "target", s.member.name, "until", until)
	return true, nil
}

// expiry returns when the target itself ends a credential; zero where it does not, or cannot tell.
func (m *Member) expiry(ctx context.Context, id string) (until time.Time, err error) {
	expirer, ok := m.target.(target.Expirer)
	if !ok {
		return time.Time{}, nil
	}
	err = contained(func() (err error) { until, err = expirer.Expiry(ctx, id); return err })
	return until, err
}

// doubtful reports whether a restored store may be wrong about the end of a lease: it may have been renewed after the
// copy, or been granted when the copy was made. Every other end is somebody's decision, and stands.
func doubtful(l store.Lease) bool { return l.Reason == lease.Expired || l.Reason == lease.Interrupted }

// heldBack reports whether, and until when to look again, a lease must not be revoked: in quarantine one whose end is
// doubtful, while its credential lives at the target, but not beyond the end of its renewable life or a lock.
func (r *Revoker) heldBack(ctx context.Context, m *Member, l store.Lease) (again time.Time, held bool) {
	now := r.clock.Now()
	if !doubtful(l) || !m.inQuarantine(now) || !now.Before(l.RenewableUntil) {
		return time.Time{}, false
	}
	again = now.Add(recheck)
	if l.RenewableUntil.Before(again) {
		again = l.RenewableUntil
	}
	if _, ok := m.target.(target.Expirer); ok {
		until, err := m.expiry(ctx, string(l.ID))
		switch {
		case err != nil:
			return again, true
		case !now.Before(until): // or none is alive
			return time.Time{}, false
		case until.Before(again):
			again = until
		}
	}
	locked := false
	err := r.store.View(ctx, func(tx *store.Tx) (err error) {
		_, locked, err = tx.MatchingLock(l, now)
		return err
	})
	return again, err != nil || !locked
}

// meet notes that the target was compared with the store.
func (m *Member) meet() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.met = true
}

func (m *Member) hasMet() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.met
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
