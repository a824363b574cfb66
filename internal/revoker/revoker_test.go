package revoker_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

func TestAnExpiredLeaseIsRevoked(t *testing.T) {
	w := newWorld(t, "")
	_, m := w.target("vault", targettest.NewSystem(time.Now))
	l, _ := w.grant(m, "vault", time.Millisecond)
	w.run()
	if got := w.awaitState(l.ID, lease.Revoked); got.Reason != lease.Expired {
		t.Errorf("the reason is %q", got.Reason)
	}
}

func TestAnEndedLeaseIsRevokedAtOnceAndAwaited(t *testing.T) {
	w := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	_, m := w.target("vault", system)
	w.run()
	l, credential := w.grant(m, "vault", time.Hour)
	proved, forget := w.revoker.Await(l.ID)
	defer forget()
	w.end(l)
	select {
	case <-proved:
	case <-time.After(30 * time.Second):
		t.Fatal("nobody was told of the proof")
	}
	if w.read(l.ID).State != lease.Revoked || system.Try(credential) == nil {
		t.Error("the proof was told before it was true")
	}
}

// THREAT_MODEL promise 1: what a crash left pending is ended, whether its grant happened or not.
func TestLeasesThatACrashLeftPendingEnd(t *testing.T) {
	before := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	_, m := before.target("vault", system)
	never := before.insert("vault", time.Hour)
	landed := before.insert("vault", time.Hour)
	_, err := m.Grant(t.Context(), target.Grant{Lease: string(landed.ID), Rights: targettest.MemoryRights(), TTL: time.Hour})
	must(t, err)
	before.stop()

	after := newWorld(t, before.path)
	after.target("vault", system)
	after.run()
	for _, l := range []store.Lease{never, landed} {
		if got := after.awaitState(l.ID, lease.Revoked); got.Reason != lease.Interrupted {
			t.Errorf("the reason is %q", got.Reason)
		}
	}
	if left := system.Leases(); len(left) != 0 {
		t.Errorf("credentials live: %v", left)
	}
}

func TestAPendingLeaseWhoseEndCouldNotBeRecordedEndsAtItsExpiry(t *testing.T) {
	w := newWorld(t, "")
	w.target("vault", targettest.NewSystem(time.Now))
	l := w.insert("vault", time.Millisecond)
	w.run()
	w.awaitState(l.ID, lease.Revoked)
}

// THREAT_MODEL promise 6: a dead target keeps its own leases waiting and nobody else's.
func TestASickTargetWaitsAlone(t *testing.T) {
	w := newWorld(t, "")
	sickSystem := targettest.NewSystem(time.Now)
	_, sick := w.target("sick", sickSystem)
	_, well := w.target("well", targettest.NewSystem(time.Now))
	w.run()
	var stuck []store.Lease
	for range 40 {
		l, _ := w.grant(sick, "sick", time.Hour)
		stuck = append(stuck, l)
	}
	sick.SetDown(true)
	for _, l := range stuck {
		w.end(l)
	}
	w.await("the sick target's breaker to open", func() bool {
		m, _ := w.fleet.Member("sick")
		return m.Health(time.Now()).Unreachable
	})
	for range 20 {
		l, _ := w.grant(well, "well", time.Hour)
		w.end(l)
		w.awaitState(l.ID, lease.Revoked)
	}
	for _, l := range stuck {
		if state := w.read(l.ID).State; state != lease.Revoking {
			t.Errorf("a lease of the dead target is %s", state)
		}
	}
	sick.SetDown(false)
	for _, l := range stuck {
		w.awaitState(l.ID, lease.Revoked)
	}
	if left := sickSystem.Leases(); len(left) != 0 {
		t.Errorf("credentials live: %v", left)
	}
}

// THREAT_MODEL promise 5: nothing but proof leaves revoking, however often the target fails.
func TestARevocationIsTriedUntilItIsProved(t *testing.T) {
	w := newWorld(t, "")
	_, m := w.target("vault", targettest.NewSystem(time.Now))
	w.run()
	poison, _ := w.grant(m, "vault", time.Hour)
	var tries atomic.Int32
	m.SetHook(func(_ context.Context, step targettest.Step, id string) error {
		if step == targettest.BeforeRevoke && id == string(poison.ID) && tries.Add(1) <= 2 {
			return errors.New("the role owns objects")
		}
		return nil
	})
	w.end(poison)
	other, _ := w.grant(m, "vault", time.Hour)
	w.end(other)
	w.awaitState(other.ID, lease.Revoked)
	got := w.awaitState(poison.ID, lease.Revoked)
	if tries.Load() != 3 || got.Attempt != 2 {
		t.Errorf("tried %d times, %d on the record", tries.Load(), got.Attempt)
	}
}

func TestALostAnswerOfARevocationIsAskedAgain(t *testing.T) {
	w := newWorld(t, "")
	_, m := w.target("vault", targettest.NewSystem(time.Now))
	w.run()
	l, _ := w.grant(m, "vault", time.Hour)
	var lost atomic.Bool
	m.SetHook(func(_ context.Context, step targettest.Step, _ string) error {
		if step == targettest.AfterRevoke && lost.CompareAndSwap(false, true) {
			return targettest.ErrLost
		}
		return nil
	})
	w.end(l)
	w.awaitState(l.ID, lease.Revoked)
}

func TestAPanicInATargetStopsNothing(t *testing.T) {
	w := newWorld(t, "")
	_, m := w.target("vault", targettest.NewSystem(time.Now))
	w.run()
	l, _ := w.grant(m, "vault", time.Hour)
	var panicked atomic.Bool
	m.SetHook(func(_ context.Context, step targettest.Step, _ string) error {
		if step == targettest.BeforeRevoke && panicked.CompareAndSwap(false, true) {
			panic("a bug in the target")
		}
		return nil
	})
	w.end(l)
	w.awaitState(l.ID, lease.Revoked)
}

func TestLocksAreEnforcedAlsoAfterARestart(t *testing.T) {
	before := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	_, m := before.target("vault", system)
	l, _ := before.grant(m, "vault", time.Hour)
	must(t, before.store.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.PutLock(store.Lock{ID: "lock1", Role: "reader", Reason: "incident", CreatedAt: before.clock.Now(), CreatedBy: "uid:0"})
		return err
	}))
	before.stop() // killed before it enforced the lock

	after := newWorld(t, before.path)
	after.target("vault", system)
	after.run()
	if got := after.awaitState(l.ID, lease.Revoked); got.Reason != lease.Locked {
		t.Errorf("the reason is %q", got.Reason)
	}
}

func TestThousandsOfLeasesThatExpireTogether(t *testing.T) {
	w := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	w.target("vault", system)
	const n = 2000
	must(t, w.store.Update(t.Context(), func(tx *store.Tx) error {
		now := w.clock.Now()
		for range n {
			l := store.Lease{ID: lease.NewID(time.Now().Unix()), State: lease.Pending, Role: "reader", Target: "vault", IssuerURL: "https://ci.example.com",
				Subject: "alice", CreatedAt: now, ExpiresAt: now.Add(time.Millisecond), RenewableUntil: now, NativeUntil: now, TokenHash: []byte(lease.NewID(time.Now().Unix()))}
			if _, err := tx.InsertLease(&l); err != nil {
				return err
			}
		}
		return nil
	}))
	w.run()
	w.await("all to be revoked", func() bool {
		live := -1
		must(t, w.store.View(t.Context(), func(tx *store.Tx) (err error) {
			live, err = tx.Live(store.Scope{Target: "vault"})
			return err
		}))
		return live == 0
	})
}

func TestASweepDestroysStraysAndNotesWhatIsMissing(t *testing.T) {
	w := newWorld(t, "")
	// What the planted login says of its expiry has passed: one that lives on would tell of a restored store.
	system := targettest.NewSystem(func() time.Time { return time.Now().Add(-2 * time.Hour) })
	member, m := w.target("vault", system)
	kept, credential := w.grant(m, "vault", time.Hour)
	dropped, _ := w.grant(m, "vault", time.Hour)
	system.Drop(string(dropped.ID)) // by an administrator's hand
	stray := string(lease.NewID(time.Now().Unix()))
	system.Plant(stray)
	pending := w.insert("vault", time.Hour) // granted while the sweep runs
	system.Plant(string(pending.ID))

	must(t, w.revoker.Sweep(t.Context(), member))
	if system.Alive(stray) {
		t.Error("the stray lives")
	}
	if !system.Alive(string(pending.ID)) {
		t.Error("a credential that a pending lease covers was destroyed")
	}
	must(t, system.Try(credential))
	if w.read(kept.ID).State != lease.Active || w.read(dropped.ID).State != lease.Active {
		t.Error("the sweep ended a lease")
	}
	if w.entries(ledger.TargetStray) != 1 || w.entries(ledger.TargetMissing) != 1 {
		t.Errorf("the ledger has %d strays and %d missing", w.entries(ledger.TargetStray), w.entries(ledger.TargetMissing))
	}
}

// slowLister is a target whose list takes so long that things happen meanwhile.
type slowLister struct {
	*targettest.Memory
	meanwhile func()
}

func (l slowLister) Leases(ctx context.Context) iter.Seq2[string, error] {
	listed := slices.Collect(func(yield func(string) bool) {
		for id := range l.Memory.Leases(ctx) {
			if !yield(id) {
				return
			}
		}
	})
	l.meanwhile()
	return func(yield func(string, error) bool) {
		for _, id := range listed {
			if !yield(id, nil) {
				return
			}
		}
	}
}

func TestALeaseThatDiesWhileTheTargetIsListedIsNoStray(t *testing.T) {
	w := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	m := targettest.NewMemory(system)
	lister := slowLister{Memory: m, meanwhile: func() {}}
	w.fleet.Put(revoker.NewMember("vault", "memory", m))
	w.run()
	l, _ := w.grant(m, "vault", time.Hour)
	lister.meanwhile = func() {
		w.end(l)
		w.awaitState(l.ID, lease.Revoked)
	}
	must(t, w.revoker.Sweep(t.Context(), revoker.NewMember("vault", "memory", lister)))
	if n := w.entries(ledger.TargetStray); n != 0 {
		t.Errorf("the ledger has %d strays", n)
	}
}

// A target that fails over or is restored can bring a revoked login back.
func TestASweepKillsARevokedLeaseAgain(t *testing.T) {
	w := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	member, m := w.target("vault", system)
	w.run()
	l, _ := w.grant(m, "vault", time.Hour)
	w.end(l)
	w.awaitState(l.ID, lease.Revoked)
	system.Plant(string(l.ID))
	must(t, w.revoker.Sweep(t.Context(), member))
	if system.Alive(string(l.ID)) {
		t.Error("the login that came back lives")
	}
}

// DESIGN §3: a target that knows a newer boot than the store means a restored or copied store.
func TestARestoredStoreDestroysNothingItDoesNotKnow(t *testing.T) {
	w := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	member, m := w.target("vault", system)
	mark, err := w.revoker.Mark(t.Context(), "vault")
	must(t, err)
	later := mark
	later.Boot += 5
	_, err = m.Mark(t.Context(), later)
	must(t, err)
	unknown := string(lease.NewID(time.Now().Unix()))
	system.Plant(unknown)
	renewedSince, _ := w.grant(m, "vault", time.Millisecond)
	released, _ := w.grant(m, "vault", time.Hour)

	must(t, w.revoker.Sweep(t.Context(), member))
	if !system.Alive(unknown) {
		t.Error("a credential made after the backup was destroyed")
	}
	if w.store.Epoch() <= mark.Epoch || w.entries(ledger.Epoch) != 1 {
		t.Error("no new epoch was opened")
	}
	if member.Health(time.Now()).Quarantined.IsZero() {
		t.Error("nobody is told of the quarantine")
	}
	w.run()
	w.end(released) // what is ended now on purpose still dies
	w.awaitState(released.ID, lease.Revoked)
	w.awaitState(renewedSince.ID, lease.Revoking)
	w.await("the expired lease to be held back", func() bool { return w.read(renewedSince.ID).LastError != "" })
	if !system.Alive(string(renewedSince.ID)) {
		t.Error("a lease that may have been renewed after the backup was revoked")
	}
	w.stop()

	again := newWorld(t, w.path)
	member, _ = again.target("vault", system)
	must(t, again.revoker.Sweep(t.Context(), member))
	if !system.Alive(unknown) {
		t.Error("a restart ended the quarantine")
	}
}

func TestATargetThatLeavesTheFleetIsLeftAlone(t *testing.T) {
	w := newWorld(t, "")
	_, m := w.target("vault", targettest.NewSystem(time.Now))
	w.run()
	l, _ := w.grant(m, "vault", time.Hour)
	w.fleet.Remove("vault")
	w.end(l)
	w.target("other", targettest.NewSystem(time.Now))
	if state := w.read(l.ID).State; state != lease.Revoking {
		t.Errorf("the lease is %s", state)
	}
	w.fleet.Put(revoker.NewMember("vault", "memory", m))
	w.awaitState(l.ID, lease.Revoked)
}

func TestADeadTargetRefusesGrantsAtOnceAndSaysWhenToComeBack(t *testing.T) {
	w := newWorld(t, "")
	member, m := w.target("vault", targettest.NewSystem(time.Now))
	m.SetDown(true)
	grant := target.Grant{Rights: targettest.MemoryRights(), TTL: time.Hour}
	var refusal *fault.Error
	for range 10 {
		grant.Lease = string(lease.NewID(time.Now().Unix()))
		_, err := member.Grant(t.Context(), grant)
		refusal, _ = errors.AsType[*fault.Error](err)
		if refusal == nil || refusal.Kind != fault.TargetUnavailable {
			t.Fatalf("got %v", err)
		}
	}
	if refusal.RetryAfter <= 0 || !errors.Is(refusal, target.ErrNotDone) {
		t.Errorf("the breaker is closed after ten failures: %v", refusal)
	}
	health := member.Health(time.Now())
	if !health.Unreachable || health.LastError == "" {
		t.Errorf("the health is %+v", health)
	}
}
