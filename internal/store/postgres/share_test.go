package postgres_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/storetest"
)

func insert(l store.Lease) func(*store.Tx) error {
	return func(tx *store.Tx) error { made := l; _, err := tx.InsertLease(&made); return err }
}

func audited(t *testing.T, d database, s *store.Store) {
	t.Helper()
	db, err := d.SQL()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := storetest.Audit(t.Context(), s, db, s.Signer()); err != nil {
		t.Error(err)
	}
}

// Many processes at once write one ledger, and what each counts is the truth.
func TestProcessesWriteOneLedger(t *testing.T) {
	d := newDatabase(t, 15)
	storetest.Create(t, d)
	var all []*storetest.Running
	for range 4 {
		all = append(all, storetest.Serve(t, d, nil))
	}
	var busy sync.WaitGroup
	for _, s := range all {
		for range 8 {
			busy.Go(func() {
				for range 10 {
					if err := storetest.Acquire(t.Context(), s.Store); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	busy.Wait()
	storetest.View(t, all[0].Store, func(tx *store.Tx) error {
		live, err := tx.Live(store.Scope{Target: "orders-db"})
		if live != 4*8*10 {
			t.Errorf("%d leases live", live)
		}
		replicas, err2 := tx.Replicas()
		if len(replicas) != 4 {
			t.Errorf("the processes are %+v", replicas)
		}
		return errors.Join(err, err2)
	})
	audited(t, d, all[0].Store)
}

// A process that stops in the middle of a group, as SIGSTOP makes it, keeps the others waiting for seconds only, and
// what it goes on with when it wakes up is refused.
func TestAProcessThatStopsGivesTheBatonBack(t *testing.T) {
	d := newDatabase(t, 15)
	storetest.Create(t, d)
	faults := &storetest.Faults{}
	stopped, other := storetest.Serve(t, d, faults.Wrap), storetest.Serve(t, d, nil)
	asleep, wake := make(chan struct{}), make(chan struct{})
	var once sync.Once
	faults.Decide(func(text string) storetest.Fault {
		if text == "commit" {
			once.Do(func() { close(asleep); <-wake })
		}
		return storetest.None
	})
	late := storetest.NewLease("reader", "db")
	outcome := make(chan error)
	go func() { outcome <- stopped.Update(t.Context(), insert(late)) }()
	<-asleep
	begun := time.Now()
	l := storetest.NewLease("reader", "db")
	if err := other.Update(t.Context(), insert(l)); err != nil {
		t.Errorf("the other process: %v", err)
	}
	if waited := time.Since(begun); waited > 10*time.Second {
		t.Errorf("the other process waited for %v", waited)
	}
	close(wake)
	if err := <-outcome; !fault.Is(err, fault.StoreUnavailable) {
		t.Errorf("the process that woke up was told %v", err)
	}
	if err := stopped.Update(t.Context(), insert(storetest.NewLease("reader", "db"))); err != nil {
		t.Errorf("it goes on: %v", err)
	}
	storetest.View(t, other.Store, func(tx *store.Tx) error {
		if _, err := tx.Lease(late.ID); !fault.Is(err, fault.NotFound) {
			t.Errorf("what was refused is there: %v", err)
		}
		return nil
	})
	audited(t, d, other.Store)
}

// What a process was granting when it died is found, and not before it is certain that it died.
func TestThePendingLeasesOfADeadProcessAreFound(t *testing.T) {
	d := newDatabase(t, 15)
	storetest.Create(t, d)
	dead, other := storetest.Serve(t, d, nil), storetest.Serve(t, d, nil)
	l := storetest.Insert(t, dead.Store, storetest.NewLease("reader", "db"))[0]
	found := func() (all []store.Lease) {
		storetest.View(t, other.Store, func(tx *store.Tx) (err error) {
			all, err = tx.Interrupted(other.Boot(), 10)
			return err
		})
		return all
	}
	if all := found(); len(all) != 0 {
		t.Errorf("taken from a process that lives: %v", all)
	}
	if err := dead.Stop(); err != nil {
		t.Fatal(err)
	}
	if all := found(); len(all) != 1 || all[0].ID != l.ID || all[0].State != lease.Pending {
		t.Errorf("after it left: %v", all)
	}
}

// Work is one process's at a time, and passes on when it says goodbye.
func TestWorkIsClaimedByOne(t *testing.T) {
	d := newDatabase(t, 15)
	storetest.Create(t, d)
	first, second := storetest.Serve(t, d, nil), storetest.Serve(t, d, nil)
	keeps := func(s *store.Store, during time.Duration) (ours bool) {
		if err := s.Update(t.Context(), func(tx *store.Tx) (err error) { ours, err = tx.Keep("db", during); return err }); err != nil {
			t.Fatal(err)
		}
		return ours
	}
	if !keeps(first.Store, time.Hour) || keeps(second.Store, time.Hour) || !keeps(first.Store, time.Hour) {
		t.Error("two processes have one piece of work")
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	if !keeps(second.Store, -time.Second) {
		t.Error("the work of one that left is nobody's")
	}
	third := storetest.Serve(t, d, nil)
	if !keeps(third.Store, time.Hour) || keeps(second.Store, time.Hour) {
		t.Error("a claim that has run out still holds")
	}
}

// However many processes start at once on a schema that is behind, it is brought up to date once.
func TestProcessesThatStartTogetherMigrateOnce(t *testing.T) {
	d := newDatabase(t, 15)
	storetest.Create(t, d)
	d.do(t, "drop table posture; drop table posture_sources; drop table posture_leases; drop table spent; drop table devices; drop table replicas; drop table keepers; drop table lease_actors; delete from meta where name = 'unlisted_actors'; delete from goose_db_version where version_id > 3")
	var starting sync.WaitGroup
	for range 6 {
		starting.Go(func() {
			s, err := d.Open(t.Context(), store.Options{Signer: storetest.Signer(t)}, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	storetest.Serve(t, d, nil)
}
