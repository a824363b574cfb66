package storetest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

// Callers runs b.N operations from n goroutines and reports operations per second.
func Callers(b *testing.B, n int, op func() error) float64 {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	failed := make(chan error, n)
	b.ResetTimer()
	start := time.Now()
	for range n {
		go func() {
			for left.Add(-1) >= 0 {
				if err := op(); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range n {
		if err := <-failed; err != nil {
			b.Fatal(err)
		}
	}
	rate := float64(b.N) / time.Since(start).Seconds()
	b.StopTimer()
	b.ReportMetric(rate, "leases/s")
	return rate
}

// Acquire records an acquisition as the broker does: limits, locks, revision, decision and lease, then the grant's
// outcome.
func Acquire(ctx context.Context, s *store.Store) error {
	l := NewLease("orders-readonly", "orders-db")
	err := s.Update(ctx, func(tx *store.Tx) error {
		if _, locked, err := tx.MatchingLock(l, l.CreatedAt); err != nil || locked {
			return fmt.Errorf("locked %v: %w", locked, err)
		}
		if _, err := tx.ActiveID(); err != nil {
			return err
		}
		if _, err := tx.Live(store.Scope{Role: l.Role}); err != nil {
			return err
		}
		if _, err := tx.Live(store.Scope{Role: l.Role, IssuerURL: l.IssuerURL, Subject: l.Subject}); err != nil {
			return err
		}
		_, err := tx.PutDecision(store.Decision{ID: l.Decision, At: l.CreatedAt, Outcome: "allow", Input: l.Claims, Lease: string(l.ID)})
		if err != nil {
			return err
		}
		_, err = tx.InsertLease(&l)
		return err
	})
	if err != nil {
		return err
	}
	return s.Update(ctx, func(tx *store.Tx) error {
		granted := l
		_, err := tx.Move(&granted, lease.Granted, store.Why{Now: l.CreatedAt})
		return err
	})
}
