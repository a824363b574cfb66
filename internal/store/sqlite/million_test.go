package sqlite_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/sqlite"
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
			b.ResetTimer()
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), envMeasure+"="+file.path, fmt.Sprintf("%s=%d", envCount, b.N))
			child.Stderr = os.Stderr
			out, err := child.Output()
			if err != nil {
				b.Fatal(err)
			}
			var m measured
			if err := json.Unmarshal(out, &m); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(m.Open, "ms-open")
			b.ReportMetric(m.Ask, "ms-ask")
			b.ReportMetric(m.Rate, "leases/s")
			b.ReportMetric(m.Resident, "MiB-resident")
		})
	}
}

// The environment of the child that measures: its memory is that of the store alone.
const (
	envMeasure = "DAYPASS_STORE_MEASURE" // the store's path
	envCount   = "DAYPASS_STORE_COUNT"   // how many leases to acquire
)

// measured is what the child tells.
type measured struct{ Open, Ask, Rate, Resident float64 }

// measure opens a store, asks what the revoker asks, and acquires leases from 64 callers.
func measure(path string) (m measured, err error) {
	signer, err := storetest.FixedSigner()
	if err != nil {
		return m, err
	}
	count, err := strconv.Atoi(os.Getenv(envCount))
	if err != nil {
		return m, err
	}
	start := time.Now()
	s, err := sqlite.Open(context.Background(), path, sqlite.Options{Options: store.Options{Signer: signer}, Ballast: 1 << 20})
	if err != nil {
		return m, err
	}
	m.Open = float64(time.Since(start).Microseconds()) / 1000
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var run errgroup.Group
	run.Go(func() error { return s.Run(ctx) })
	start = time.Now()
	if err := s.View(ctx, revokerAsks); err != nil {
		return m, err
	}
	m.Ask = float64(time.Since(start).Microseconds()) / 1000
	start = time.Now()
	var callers errgroup.Group
	callers.SetLimit(64)
	for range count {
		callers.Go(func() error { return storetest.Acquire(context.Background(), s) })
	}
	if err := callers.Wait(); err != nil {
		return m, err
	}
	m.Rate = float64(count) / time.Since(start).Seconds()
	m.Resident, err = resident()
	cancel()
	return m, errors.Join(err, run.Wait(), s.Close())
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
func resident() (float64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kib float64
	_, err = fmt.Sscan(rest, &kib)
	return kib / 1024, err
}
