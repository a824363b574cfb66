package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// Run holds a kind of database to the store's promises. fresh returns a new, empty database.
func Run(t *testing.T, fresh func(t testing.TB) Database) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, db Database)
	}{
		{"a lease lives its whole life", testLife},
		{"a lease that was granted before its record is one like others", testGranted},
		{"ended and proved together are one write and two entries", testDead},
		{"a move of a lease that changed is stale", testStale},
		{"an error that a caller passes over leaves no entry", testPassedOver},
		{"a lease that was never read back can be moved", testUnread},
		{"a move that the life does not allow is refused", testRefused},
		{"a renewal raises the bound first", testRenew},
		{"an error undoes only its own update", testIsolation},
		{"a panic undoes only its own update", testPanic},
		{"a member of a group sees what came before it", testTalliesInGroup},
		{"tallies and ledger hold under concurrent lives", testConcurrent},
		{"a view cannot write", testViewCannotWrite},
		{"a view sees one moment", testSnapshot},
		{"an update whose context has ended is not done", testContext},
		{"a full queue refuses at once", testFullQueue},
		{"very many changes that can wait let others pass", testLater},
		{"a store that stopped refuses", testStopped},
		{"boots are counted and interrupted leases are found", testBoots},
		{"another ledger key is refused", testWrongKey},
		{"an epoch is durable", testEpoch},
		{"due and expired leases come in order and within the limit", testDue},
		{"lists page through everything once", testPaging},
		{"locks match, stand, expire and are lifted", testLocks},
		{"what a lock would end is counted as it is listed", testCount},
		{"leases are found by who acts in them", testActors},
		{"a lease in which nobody acts costs nothing of it", testUnacted},
		{"a fault at any statement leaves actors and lease as one", testActorFaults},
		{"leases of before the table of actors are found too", testUnlistedActors},
		{"decisions are kept, counted and committed to", testDecisions},
		{"revisions are activated and found", testRevisions},
		{"keys, sealed values and marks are kept", testRecords},
		{"posture is kept, and its changes are found", testPosture},
		{"posture grows old once", testPostureAge},
		{"leases are found by the posture they hang on", testPostureLeases},
		{"leases are found with what they were decided on", testReview},
		{"an ID is used up once", testSpent},
		{"of many that use an ID up at once one is the first", testSpentRace},
		{"used IDs are forgotten when their time is over", testSpentSweeps},
		{"a device has a name, a key and a term", testDevices},
		{"of many that use an enrolment up at once one has a device", testEnrolmentRace},
		{"texts that no database keeps are made such that all do", testTexts},
		{"prune takes the dead and leaves the ledger", testPrune},
		{"entries have proofs", testProofs},
		{"a fault at any statement leaves all or nothing", testFaults},
		{"a lost answer of a commit stops the store, and a restart tells", testUnknown},
		{"a read whose connection breaks can be tried again, and says so", testLostView},
		{"a rotation is followed from the old key and from the new one", testRotation},
		{"a rotation that is undone leaves the old key", testRotationUndone},
		{"of two rotations in one group one is refused", testRotationsTogether},
		{"a fault at any statement of a rotation leaves one key whole", testRotationFaults},
		{"a retired key that is put back is refused", testRetiredKey},
		{"a rotation more than an export can carry is refused", testRotationsFull},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := fresh(t)
			Create(t, db)
			c.test(t, db)
		})
	}
}

// audit ends the test unless the invariants hold.
func audit(t testing.TB, db Database, s *store.Store) {
	t.Helper()
	raw, err := db.SQL()
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := Audit(t.Context(), s, raw, Signer(t)); err != nil {
		t.Fatal(err)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("got %v, want an error of kind %s", err, kind)
	}
}

func testLife(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	made := NewLease("reader", "db")
	made.KeyHash, made.BodyHash, made.RenewByHandle = []byte("key"), []byte("body"), true
	l := Insert(t, s.Store, made)[0]
	if l.State != lease.Pending || l.Version != 1 || l.Boot != s.Boot() || !l.ExpiresAt.Equal(made.ExpiresAt) || !l.RenewByHandle {
		t.Errorf("recorded as %+v", l)
	}
	l.ExpiresAt, l.Revocation = l.ExpiresAt.Add(-time.Minute), "assisted"
	l = Move(t, s.Store, l, Start().Add(time.Second), lease.Granted, lease.Ended)
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		return tx.Retry(l.ID, 3, Start().Add(time.Hour), "the target did not answer")
	}))
	View(t, s.Store, func(tx *store.Tx) error {
		for _, read := range []func() (store.Lease, error){
			func() (store.Lease, error) { return tx.Lease(l.ID) },
			func() (store.Lease, error) { return tx.LeaseByKey(made.IssuerURL, made.Subject, []byte("key")) },
		} {
			got, err := read()
			if err != nil {
				return err
			}
			if got.ID != l.ID || got.State != lease.Revoking || got.Reason != lease.Released || got.Attempt != 3 ||
				!got.NextAttempt.Equal(Start().Add(time.Hour)) || got.LastError != "the target did not answer" ||
				got.Revocation != "assisted" || got.Version != 3 {
				t.Errorf("read %+v", got)
			}
		}
		_, err := tx.Lease(lease.NewID(Start().Unix()))
		wantKind(t, err, fault.NotFound)
		return nil
	})
	l = Move(t, s.Store, l, Start().Add(2*time.Hour), lease.Proved)
	if l.State != lease.Revoked || !l.RevokedAt.Equal(Start().Add(2*time.Hour)) {
		t.Errorf("ended as %+v", l)
	}
	audit(t, db, s.Store)
	check(t, s.Stop())
}

func testDead(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	l := Move(t, s.Store, Insert(t, s.Store, NewLease("reader", "db"))[0], Start(), lease.Granted)
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		moved := l
		leaves, err := tx.MoveAll(&moved, store.Why{Reason: lease.Expired, Now: Start()}, lease.Ended, lease.Proved)
		if err == nil && len(leaves) != 2 {
			err = fmt.Errorf("%d entries", len(leaves))
		}
		return err
	}))
	View(t, s.Store, func(tx *store.Tx) error {
		got, err := tx.Lease(l.ID)
		if got.State != lease.Revoked || got.Reason != lease.Expired || got.EndedAt.IsZero() || got.RevokedAt.IsZero() {
			t.Errorf("ended as %+v", got)
		}
		return err
	})
	audit(t, db, s.Store)
}

func testStale(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	old := Insert(t, s.Store, NewLease("reader", "db"))[0]
	Move(t, s.Store, old, Start(), lease.Granted)
	for name, try := range map[string]func(*store.Tx, *store.Lease) error{
		"move": func(tx *store.Tx, l *store.Lease) error {
			_, err := tx.Move(l, lease.Ended, store.Why{Reason: lease.Failed, Now: Start()})
			return err
		},
		"renew":  func(tx *store.Tx, l *store.Lease) error { return tx.Renew(l, Start()) },
		"extend": func(tx *store.Tx, l *store.Lease) error { _, err := tx.Extend(l, Start(), Start()); return err },
	} {
		err := s.Update(t.Context(), func(tx *store.Tx) error { l := old; return try(tx, &l) })
		if wantKind(t, err, fault.Conflict); !errors.Is(err, store.ErrStale) {
			t.Errorf("%s: %v", name, err)
		}
	}
	audit(t, db, s.Store)
}

func testPassedOver(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	old := Insert(t, s.Store, NewLease("reader", "db"), NewLease("reader", "db"))
	Move(t, s.Store, old[0], Start(), lease.Granted)
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		for _, l := range old {
			_, err := tx.Move(&l, lease.Ended, store.Why{Reason: lease.Locked, Now: Start()})
			if err != nil && !errors.Is(err, store.ErrStale) {
				return err
			}
			if _, err := tx.Extend(&l, Start(), Start()); err == nil {
				return errors.New("extended what is not active")
			}
		}
		return nil
	}))
	again, other := NewLease("reader", "db"), NewLease("reader", "db")
	again.ID = old[0].ID
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.InsertLease(&other); err != nil {
			return err
		}
		_, _ = tx.InsertLease(&again) // the database refuses it, and whoever goes on has still done nothing
		return nil
	})
	if err == nil {
		t.Error("what the database refused was passed over")
	}
	View(t, s.Store, func(tx *store.Tx) error {
		_, err := tx.Lease(other.ID)
		wantKind(t, err, fault.NotFound)
		return nil
	})
	audit(t, db, s.Store)
}

func testUnread(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	l := NewLease("reader", "db")
	Insert(t, s.Store, l)
	l.Version = 1
	Move(t, s.Store, l, Start(), lease.Granted, lease.Ended, lease.Proved)
	audit(t, db, s.Store)
}

func testRefused(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	l := Insert(t, s.Store, NewLease("reader", "db"))[0]
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		moved := l
		_, err := tx.Move(&moved, lease.Proved, store.Why{Now: Start()})
		return err
	})
	wantKind(t, err, fault.Conflict)
	err = s.Update(t.Context(), func(tx *store.Tx) error {
		moved := l
		_, err := tx.Move(&moved, lease.Ended, store.Why{Now: Start()})
		return err
	})
	if err == nil {
		t.Error("an end without a reason was accepted")
	}
	audit(t, db, s.Store)
}

func testRenew(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	l := Move(t, s.Store, Insert(t, s.Store, NewLease("reader", "db"))[0], Start(), lease.Granted)
	native, expires := l.NativeUntil.Add(time.Hour), l.ExpiresAt.Add(time.Hour)
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		renewed := l
		if err := tx.Renew(&renewed, native); err != nil {
			return err
		}
		if err := tx.Renew(&renewed, Start()); err != nil {
			return err
		}
		_, err := tx.Extend(&renewed, expires, Start())
		return err
	}))
	View(t, s.Store, func(tx *store.Tx) error {
		got, err := tx.Lease(l.ID)
		if !got.NativeUntil.Equal(native) || !got.ExpiresAt.Equal(expires) || got.Version != 5 {
			t.Errorf("renewed to %+v", got)
		}
		wake, ok, wakeErr := tx.NextWake()
		if !ok || !wake.Equal(expires) {
			t.Errorf("next wake %v %v", wake, ok)
		}
		return errors.Join(err, wakeErr)
	})
	audit(t, db, s.Store)
}

func testViewCannotWrite(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	for name, write := range map[string]func(*store.Tx) error{
		"a lease":  func(tx *store.Tx) error { _, err := tx.InsertLease(new(NewLease("reader", "db"))); return err },
		"an entry": func(tx *store.Tx) error { _, err := tx.Append(ledger.Entry{Event: ledger.Boot}); return err },
		"a value":  func(tx *store.Tx) error { return tx.PutSealed("x", nil) },
		"an epoch": func(tx *store.Tx) error { _, err := tx.NewEpoch(); return err },
		"a lock":   func(tx *store.Tx) error { _, err := tx.PutLock(store.Lock{ID: "k", Role: "reader"}); return err },
	} {
		if err := s.View(t.Context(), write); err == nil {
			t.Errorf("a view wrote %s", name)
		}
	}
	audit(t, db, s.Store)
}

func testSnapshot(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	View(t, s.Store, func(tx *store.Tx) error {
		before, err := tx.LedgerSize()
		if err != nil {
			return err
		}
		Insert(t, s.Store, NewLease("reader", "db"))
		after, err := tx.LedgerSize()
		if before != after {
			t.Errorf("a view saw %d entries, then %d", before, after)
		}
		return err
	})
}

func testContext(t *testing.T, db Database) {
	s, err := db.Open(t.Context(), store.Options{Signer: Signer(t)}, nil)
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	l := NewLease("reader", "db")
	given := make(chan error)
	go func() {
		given <- s.Update(ctx, func(tx *store.Tx) error { _, err := tx.InsertLease(&l); return err })
	}()
	for s.Waiting() == 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	running, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(running) }()
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Lease(l.ID)
		wantKind(t, err, fault.NotFound)
		return nil
	}))
	stop()
	check(t, <-ended)
	check(t, s.Close())
}

func testFullQueue(t *testing.T, db Database) {
	s, err := db.Open(t.Context(), store.Options{Signer: Signer(t), Queue: 2}, nil)
	check(t, err)
	var wg sync.WaitGroup
	nothing := func(*store.Tx) error { return nil }
	for range 2 {
		wg.Go(func() {
			if err := s.Update(t.Context(), nothing); err != nil {
				t.Error(err)
			}
		})
	}
	for s.Waiting() < 2 {
		runtime.Gosched()
	}
	wantKind(t, s.Update(t.Context(), nothing), fault.TooMany)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check(t, s.Run(ctx)) // drains what is queued, then ends
	wg.Wait()
	check(t, s.Close())
}

func testStopped(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	check(t, s.Stop())
	wantKind(t, s.Update(t.Context(), func(*store.Tx) error { return nil }), fault.StoreUnavailable)
	wantKind(t, s.View(t.Context(), func(*store.Tx) error { return nil }), fault.StoreUnavailable)
}

func testBoots(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	l := Insert(t, s.Store, NewLease("reader", "db"))[0]
	first, instance := s.Boot(), s.Instance()
	check(t, s.Stop())
	s = Serve(t, db, nil)
	if s.Boot() != first+1 || s.Instance() != instance || len(instance) != 6 {
		t.Errorf("boot %d of %q came after boot %d of %q", s.Boot(), s.Instance(), first, instance)
	}
	Insert(t, s.Store, NewLease("reader", "db"))
	View(t, s.Store, func(tx *store.Tx) error {
		found, err := tx.Interrupted(s.Boot(), 10)
		if len(found) != 1 || found[0].ID != l.ID {
			t.Errorf("interrupted: %v", found)
		}
		return err
	})
	audit(t, db, s.Store)
}

func testWrongKey(t *testing.T, db Database) {
	other, _, err := ledger.GenerateSigner(Origin)
	check(t, err)
	_, err = db.Open(t.Context(), store.Options{Signer: other}, nil)
	if !errors.Is(err, store.ErrWrongKey) {
		t.Fatalf("opened with another key: %v", err)
	}
	audit(t, db, Serve(t, db, nil).Store)
}

func testEpoch(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	before := s.Epoch()
	check(t, s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.NewEpoch(); return err }))
	_ = s.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.NewEpoch()
		return errors.Join(err, errors.New("not after all"))
	})
	if s.Epoch() != before+1 {
		t.Errorf("epoch %d after %d", s.Epoch(), before)
	}
	check(t, s.Stop())
	if s = Serve(t, db, nil); s.Epoch() != before+1 {
		t.Errorf("epoch %d after a restart", s.Epoch())
	}
}

func testTexts(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	l := NewLease("reader", "db")
	l.Run = "a\x00b\xffc"
	l = Move(t, s.Store, Insert(t, s.Store, l)[0], Start(), lease.Granted, lease.Ended)
	if l.Run != "a\uFFFDb\uFFFDc" {
		t.Errorf("kept as %q", l.Run)
	}
	check(t, s.Update(t.Context(), func(tx *store.Tx) error { return tx.Retry(l.ID, 1, Start().Add(time.Hour), "\x00\xfe") }))
	View(t, s.Store, func(tx *store.Tx) error {
		if _, _, err := tx.Leases(store.Filter{Role: "\x00", Issuer: "\xff"}, "", 10); err != nil {
			return err
		}
		got, err := tx.Lease(l.ID)
		if got.Attempt != 1 || got.LastError != "\uFFFD\uFFFD" {
			t.Errorf("kept %d, %q", got.Attempt, got.LastError)
		}
		return err
	})
	audit(t, db, s.Store)
}
