package revoker_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/target/targettest"
)

// backUp writes a backup of the world's store, which goes on.
func (w *world) backUp() string {
	w.t.Helper()
	to := filepath.Join(w.t.TempDir(), "backup")
	_, err := sqlite.Backup(w.t.Context(), w.path, to, nil)
	must(w.t, err)
	return to
}

// restore makes a world of a backup.
func restore(t *testing.T, backup string) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daypass.db")
	_, err := sqlite.Restore(t.Context(), backup, path, sqlite.Restoring{Approve: func(store.Facts) error { return nil }})
	must(t, err)
	return newWorld(t, path)
}

// lives reports whether the system has a login of a lease, expired or not.
func lives(system *targettest.System, id lease.ID) bool {
	return slices.Contains(system.Leases(), string(id))
}

// The backup is of the same boot as the mark at the target, so that no mark can tell.
func TestAfterARestoreNothingIsEndedBeforeTheTargetSays(t *testing.T) {
	const brief = 3 * time.Second
	system := targettest.NewSystem(time.Now)
	before := newWorld(t, "")
	member, m := before.target("vault", system)
	must(t, before.revoker.Sweep(t.Context(), member))
	renewed, _ := before.grant(m, "vault", time.Millisecond)
	granting := before.insert("vault", time.Hour) // recorded; its credential comes after the backup
	released, _ := before.grant(m, "vault", time.Hour)
	leaving, _ := before.grant(m, "vault", time.Hour)
	before.move(&leaving, lease.Ended, lease.Released) // decided, and not done yet
	backup := before.backUp()
	unknown := lease.NewID(time.Now().Unix())
	system.Plant(string(unknown))
	system.Plant(string(granting.ID))
	system.Drop(string(released.ID))
	for _, id := range []lease.ID{renewed.ID, granting.ID, unknown} {
		must(t, m.Renew(t.Context(), string(id), brief))
	}
	ends := time.Now().Add(brief)
	before.stop()

	w := restore(t, backup)
	member, m = w.target("vault", system)
	w.run()
	w.awaitState(leaving.ID, lease.Revoked)
	w.await("the expired and the interrupted lease to be held back", func() bool {
		return w.read(renewed.ID).LastError != "" && w.read(granting.ID).LastError != ""
	})
	must(t, w.revoker.Sweep(t.Context(), member))
	for name, id := range map[string]lease.ID{"renewed": renewed.ID, "being granted": granting.ID, "unknown": unknown} {
		if !lives(system, id) && time.Now().Before(ends) {
			t.Errorf("the credential that was %s at the time of the backup is gone", name)
		}
	}
	if w.entries(ledger.Epoch) != 1 || w.entries(ledger.TargetMissing) == 0 || member.Health(time.Now()).Quarantined.IsZero() {
		t.Errorf("%d epochs, %d missing, quarantine until %v", w.entries(ledger.Epoch), w.entries(ledger.TargetMissing), member.Health(time.Now()).Quarantined)
	}
	if fresh, credential := w.grant(m, "vault", time.Hour); system.Try(credential) != nil {
		t.Errorf("lease %s was made after the restore and does not work", fresh.ID)
	}
	w.awaitState(renewed.ID, lease.Revoked)
	w.awaitState(granting.ID, lease.Revoked)
	w.await("the unknown credential to go at its expiry", func() bool { return !lives(system, unknown) })
	if now := time.Now(); now.Before(ends) {
		t.Errorf("all were gone %v before their time", ends.Sub(now))
	}
	if w.entries(ledger.TargetStray) != 1 {
		t.Errorf("the ledger has %d strays", w.entries(ledger.TargetStray))
	}
}

// A copy of the whole disk that is started tells nothing of itself, and the mark at the target may be its own.
func TestACredentialWithoutARecordTellsOfARestore(t *testing.T) {
	w := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	member, _ := w.target("vault", system)
	must(t, w.revoker.Sweep(t.Context(), member))
	if w.entries(ledger.Epoch) != 0 {
		t.Fatal("a first start opened an epoch")
	}
	unknown := lease.NewID(time.Now().Unix())
	system.Plant(string(unknown))
	for range 2 {
		must(t, w.revoker.Sweep(t.Context(), member))
	}
	if !lives(system, unknown) || w.entries(ledger.Epoch) != 1 || w.entries(ledger.TargetStray) != 0 {
		t.Errorf("alive %v, %d epochs, %d strays", lives(system, unknown), w.entries(ledger.Epoch), w.entries(ledger.TargetStray))
	}
	if member.Health(time.Now()).Quarantined.IsZero() {
		t.Error("nobody is told of the quarantine")
	}
}

// No lease of ours lives for ever, so what claims to is not from before a restore.
func TestAStrayThatLivesTooLongIsDestroyed(t *testing.T) {
	w := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	member, m := w.target("vault", system)
	id := lease.NewID(time.Now().Unix())
	system.Plant(string(id))
	must(t, m.Renew(t.Context(), string(id), 48*time.Hour))
	must(t, w.revoker.Sweep(t.Context(), member))
	if lives(system, id) || w.entries(ledger.Epoch) != 0 {
		t.Errorf("alive %v, %d epochs", lives(system, id), w.entries(ledger.Epoch))
	}
}

func TestALockEndsWhatARestoreHoldsBack(t *testing.T) {
	system := targettest.NewSystem(time.Now)
	before := newWorld(t, "")
	_, m := before.target("vault", system)
	l, _ := before.grant(m, "vault", time.Millisecond)
	backup := before.backUp()
	before.stop()
	w := restore(t, backup)
	must(t, w.store.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.PutLock(store.Lock{ID: "l1", Target: "vault", Reason: "leaked", CreatedAt: w.clock.Now(), CreatedBy: "uid:0"})
		return err
	}))
	w.target("vault", system)
	w.run()
	w.awaitState(l.ID, lease.Revoked)
}

// The expirer and the queue run before the first look at a target can tell that the store is old.
func TestWhatExpiredWaitsForTheFirstLookAtItsTarget(t *testing.T) {
	w := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	m := targettest.NewMemory(system)
	l, _ := w.grant(m, "vault", time.Millisecond)
	mark, err := w.revoker.Mark(t.Context(), "vault")
	must(t, err)
	mark.Boot += 5
	_, err = m.Mark(t.Context(), mark)
	must(t, err)
	w.run()
	w.awaitState(l.ID, lease.Revoking) // it expired while no target was there
	w.fleet.Put(revoker.NewMember("vault", "memory", m))
	w.await("the lease to be held back", func() bool { return w.read(l.ID).LastError != "" })
	if !lives(system, l.ID) {
		t.Error("a lease that was renewed after the backup was revoked before the mark was read")
	}
}
