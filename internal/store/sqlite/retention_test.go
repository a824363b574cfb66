package sqlite_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/storetest"
)

// seedEnded puts n leases that were revoked and n decisions into a store that is not open. They are from before
// the [storetest.Start] of these tests.
func seedEnded(t testing.TB, file file, n int) {
	t.Helper()
	db, err := file.SQL()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("pragma synchronous = off"); err != nil {
		t.Fatal(err)
	}
	if err := storetest.Seed(t.Context(), db, n); err != nil {
		t.Fatal(err)
	}
	old := storetest.Start().AddDate(0, -6, 0).UnixMicro()
	for _, text := range []string{
		fmt.Sprintf(`update leases set state = 'revoked', reason = 'expired', live = 0, ended_at = %d, revoked_at = %d, wake = %d + seq
			where state = 'active'`, old, old, old),
		`delete from tallies`,
		fmt.Sprintf(`insert into decisions (id, at, revision, issuer, issuer_url, subject, action, resource, outcome, reasons, input, salt, lease, count)
			select 'd' || id, %d, revision, issuer, issuer_url, subject, 'acquire', role, 'allow', x'', claims, token_hash, id, 1 from leases
			where state = 'revoked' and 'd' || id not in (select id from decisions)`, old),
	} {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
}

// retain deletes what is older than the start of these tests.
func retain(t testing.TB, s *store.Store) store.Pruned {
	t.Helper()
	gone, err := s.Retain(t.Context(), storetest.Start(), storetest.Start())
	if err != nil {
		t.Fatal(err)
	}
	return gone
}

func TestTheRoomOfWhatRetentionDeletesIsUsedAgain(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	const n = 2000
	var sizes []int64
	for range 3 {
		seedEnded(t, file, n)
		s := storetest.Serve(t, file, nil)
		if gone := retain(t, s.Store); gone.Leases != n || gone.Decisions != n {
			t.Errorf("%+v are gone", gone)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, pages(t, file))
	}
	if sizes[2] > sizes[0]+sizes[0]/20 {
		t.Errorf("the file has %v pages after each round of the same size", sizes)
	}
}

func TestRetentionLeavesWhatLivesAndWhatIsYoung(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	seedEnded(t, file, 500)
	s := storetest.Serve(t, file, nil)
	leases := storetest.Insert(t, s.Store, storetest.NewLease("reader", "db"), storetest.NewLease("reader", "db"), storetest.NewLease("reader", "db"))
	storetest.Move(t, s.Store, leases[0], storetest.Start(), lease.Granted)
	storetest.Move(t, s.Store, leases[1], storetest.Start().AddDate(-1, 0, 0), lease.Ended)
	storetest.Move(t, s.Store, leases[2], storetest.Start(), lease.Ended, lease.Proved)
	if gone := retain(t, s.Store); gone.Leases != 500 || gone.Decisions != 500 {
		t.Errorf("%+v are gone", gone)
	}
	storetest.View(t, s.Store, func(tx *store.Tx) error {
		left, _, err := tx.Leases(store.Filter{}, "", 10)
		if len(left) != len(leases) {
			t.Errorf("%d leases are left", len(left))
		}
		return err
	})
}

// BenchmarkRetain acquires from 16 callers, first in quiet and then while 200,000 leases and as many decisions are
// deleted, and compares how long the slowest of a hundred waits.
func BenchmarkRetain(b *testing.B) {
	file := newFile(b)
	storetest.Create(b, file)
	const n = 200_000
	seedEnded(b, file, n)
	s := storetest.Serve(b, file, nil)
	for b.Loop() {
		quiet := latencies(b, s.Store, func() { <-time.After(10 * time.Second) })
		begun := time.Now()
		busy := latencies(b, s.Store, func() { b.Logf("%+v are gone", retain(b, s.Store)) })
		b.ReportMetric(time.Since(begun).Seconds(), "s-retain")
		for name, all := range map[string][]time.Duration{"quiet": quiet, "busy": busy} {
			for _, percent := range []int{50, 99} {
				b.ReportMetric(float64(all[len(all)*percent/100].Microseconds())/1000, fmt.Sprintf("ms-p%d-%s", percent, name))
			}
			b.ReportMetric(float64(len(all)), "acquired-"+name)
		}
		b.ReportMetric(float64(busy[len(busy)*99/100])/float64(quiet[len(quiet)*99/100]), "p99-ratio")
	}
}

// latencies are how long acquisitions took, in order, from 16 callers while during runs.
func latencies(b *testing.B, s *store.Store, during func()) (all []time.Duration) {
	b.Helper()
	ctx, stop := context.WithCancel(b.Context())
	var mu sync.Mutex
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for ctx.Err() == nil {
				begun := time.Now()
				if err := storetest.Acquire(context.WithoutCancel(ctx), s); err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				all = append(all, time.Since(begun))
				mu.Unlock()
			}
		})
	}
	during()
	stop()
	callers.Wait()
	slices.Sort(all)
	return all
}
