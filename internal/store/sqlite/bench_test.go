package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/storetest"
)

// Recording a lease with its ledger entry, against the floor of the same run: half of it before, half after.
func BenchmarkInsertLease(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("%d callers", n), func(b *testing.B) {
			file := newFile(b)
			storetest.Create(b, file)
			s := storetest.Serve(b, file, nil)
			before := floor(b, max(b.N/2, 64))
			rate := storetest.Callers(b, n, func() error {
				l := storetest.NewLease("orders-readonly", "orders-db")
				return s.Update(context.Background(), func(tx *store.Tx) error {
					_, err := tx.InsertLease(&l)
					return err
				})
			})
			b.StopTimer()
			after := floor(b, max(b.N/2, 64))
			b.ReportMetric(rate/(2/(1/before+1/after)), "of-floor")
		})
	}
}

// A whole acquisition as the broker does it: limits, locks, revision, decision and lease, then the grant's outcome.
func BenchmarkAcquire(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("%d callers", n), func(b *testing.B) {
			file := newFile(b)
			storetest.Create(b, file)
			s := storetest.Serve(b, file, nil)
			storetest.Callers(b, n, func() error { return storetest.Acquire(b.Context(), s.Store) })
		})
	}
}

// floor is the same bytes as blobs, appended in groups of 64 to a table without indexes, with the same sync: what
// SQLite can do at best. It returns rows per second.
func floor(b *testing.B, n int) float64 {
	b.Helper()
	db, err := sql.Open("sqlite", filepath.Join(b.TempDir(), "floor.db")+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`create table floor (id integer primary key, row blob, leaf blob)`); err != nil {
		b.Fatal(err)
	}
	row, leaf := make([]byte, 600), make([]byte, 300)
	start := time.Now()
	for done := 0; done < n; {
		tx, err := db.Begin()
		if err != nil {
			b.Fatal(err)
		}
		insert, err := tx.Prepare(`insert into floor (row, leaf) values ($1, $2)`)
		if err != nil {
			b.Fatal(err)
		}
		for i := 0; i < 64 && done < n; i++ {
			if _, err := insert.Exec(row, leaf); err != nil {
				b.Fatal(err)
			}
			done++
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n) / time.Since(start).Seconds()
}
