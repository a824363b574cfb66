package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/rig"
)

// locks measures the kill switch over many live logins.
func locks(ctx context.Context, s settings) error {
	fmt.Printf("\n## Lock %d live PostgreSQL logins\n\n| PostgreSQL | new leases refused after | all dead and proved after | dropped by hand, grouped | ratio |\n|--:|--:|--:|--:|--:|\n", s.live)
	for _, version := range s.versions {
		if err := locksAt(ctx, s, version); err != nil {
			return err
		}
	}
	return nil
}

func locksAt(ctx context.Context, s settings, version int) (err error) {
	r, err := rig.Start(ctx, rig.Options{Version: version, Fsync: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	byHand, err := dropByHand(ctx, r, s.live)
	if err != nil {
		return err
	}
	if err := fill(ctx, r, "member-fast", s.live); err != nil {
		return err
	}
	clients, err := workloads(r, 1)
	if err != nil {
		return err
	}
	begun := time.Now()
	if _, err := r.Admin.Lock(ctx, api.LockRequest{Match: api.Match{Target: "orders-db"}, Reason: "benchmark"}); err != nil {
		return err
	}
	if _, err := clients[0].Acquire(ctx, api.AcquireRequest{Role: "member-fast"}); !isDenied(err) {
		return fmt.Errorf("after the lock an acquisition was not denied: %w", err)
	}
	refused := time.Since(begun)
	if err := awaitLive(ctx, r, 0); err != nil {
		return err
	}
	dead := time.Since(begun)
	fmt.Printf("| %d | %s | %.1f s | %.1f s | %.2f |\n", version, ms(refused), dead.Seconds(), byHand.Seconds(), dead.Seconds()/byHand.Seconds())
	return nil
}

// dropByHand makes logins by hand and times how long it takes to drop them, a hundred in a statement. On 16 and later
// a single creator makes so few in a second that it stops after a minute; the time is then for as many as asked.
func dropByHand(ctx context.Context, r *rig.Rig, n int) (time.Duration, error) {
	const callers = 16
	h, err := newHand(ctx, r, callers, 1)
	if err != nil {
		return 0, err
	}
	made := load(ctx, callers, time.Minute, n/callers, h.create)
	begun := time.Now()
	err = h.drop(ctx)
	return time.Duration(float64(time.Since(begun)) * float64(n) / float64(max(1, len(made.laps)))), err
}
