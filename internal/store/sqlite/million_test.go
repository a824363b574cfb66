package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/storetest"
)

// BenchmarkLive compares a store with many live leases to an empty one: how long until it is open, the memory of
// the process, what acquiring costs, and what the revoker asks every second.
func BenchmarkLive(b *testing.B) {
	for _, n := range []int{0, 100_000, 1_000_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			file := newFile(b)
			storetest.Create(b, file)
			db, err := file.SQL()
			if err != nil {
				b.Fatal(err)
			}
			for _, pragma := range []string{"synchronous = off", "journal_mode = wal", "cache_size = -400000"} {
				if _, err := db.Exec("pragma " + pragma); err != nil {
					b.Fatal(err)
				}
			}
			db.SetMaxOpenConns(1)
			if err := storetest.Seed(b.Context(), db, n); err != nil {
				b.Fatal(err)
			}
			if err := db.Close(); err != nil {
				b.Fatal(err)
			}
			start := time.Now()
			s := storetest.Serve(b, file, nil)
			b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "ms-open")
			asked := time.Now()
			if err := s.View(context.Background(), revokerAsks); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(time.Since(asked).Microseconds())/1000, "ms-ask")
			before := resident(b)
			callers(b, 64, func() error { return acquire(s.Store) })
			b.ReportMetric(resident(b)-before, "MiB-grown")
			b.ReportMetric(resident(b), "MiB-resident")
		})
	}
}

// revokerAsks is what the revoker reads in every round.
func revokerAsks(tx *store.Tx) error {
	now := storetest.Start().Add(time.Minute)
	if _, err := tx.Expired(now, 500); err != nil {
		return err
	}
	if _, err := tx.Interrupted(1, 500); err != nil {
		return err
	}
	if _, err := tx.Due("db-1", now, 500); err != nil {
		return err
	}
	_, _, err := tx.NextWake()
	return err
}

// resident is the memory of this process in MiB.
func resident(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("resident memory is read from /proc, which this system has not")
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}
