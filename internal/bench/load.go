package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/rig"
)

// sample is what callers did in a slice of time.
type sample struct {
	took    time.Duration
	laps    []time.Duration // one per piece of work that went well
	failed  int
	failure error // the last
}

// join adds another slice.
func (s *sample) join(o sample) {
	s.took += o.took
	s.laps = append(s.laps, o.laps...)
	s.failed += o.failed
	if o.failure != nil {
		s.failure = o.failure
	}
}

func (s *sample) rate() float64 { return float64(len(s.laps)) / s.took.Seconds() }

// quantile is the q-th of the laps.
func (s *sample) quantile(q float64) time.Duration {
	if len(s.laps) == 0 {
		return 0
	}
	slices.Sort(s.laps)
	return s.laps[min(int(q*float64(len(s.laps))), len(s.laps)-1)]
}

// load calls work from so many callers, each in a loop, until the slice is over or each has done most laps.
func load(ctx context.Context, callers int, slice time.Duration, most int, work func(ctx context.Context, caller int) error) sample {
	var mu sync.Mutex
	var all sample
	begun := time.Now()
	var working sync.WaitGroup
	for caller := range callers {
		working.Go(func() {
			var mine sample
			for lap := 0; lap < most && time.Since(begun) < slice && ctx.Err() == nil; lap++ {
				start := time.Now()
				if err := work(ctx, caller); err != nil {
					mine.failed++
					mine.failure = err
					continue
				}
				mine.laps = append(mine.laps, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			all.join(mine)
		})
	}
	working.Wait()
	all.took = time.Since(begun)
	return all
}

const endless = 1 << 30

// workloads are clients, one for each caller, each with a token of its own.
func workloads(r *rig.Rig, callers int) ([]*client.Client, error) {
	all := make([]*client.Client, callers)
	for i := range all {
		var err error
		if all[i], err = r.Workload(strconv.Itoa(i)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// acquireRole is the work of acquiring a lease of a role.
func acquireRole(clients []*client.Client, role string) func(context.Context, int) error {
	return func(ctx context.Context, caller int) error {
		_, err := clients[caller].Acquire(ctx, api.AcquireRequest{Role: role})
		return err
	}
}

// fill acquires leases of a role until n live.
func fill(ctx context.Context, r *rig.Rig, role string, n int) error {
	const callers = 64
	clients, err := workloads(r, callers)
	if err != nil {
		return err
	}
	s := load(ctx, callers, 10*time.Minute, n/callers, acquireRole(clients, role))
	if s.failure != nil {
		return fmt.Errorf("fill: %d failed, the last: %w", s.failed, s.failure)
	}
	return nil
}

// clear ends all leases by a lock, waits for the proofs, and lifts the lock.
func clearLeases(ctx context.Context, r *rig.Rig) error {
	lock, err := r.Admin.Lock(ctx, api.LockRequest{Match: api.Match{Target: "orders-db"}, Reason: "between two measurements"})
	if err != nil {
		return err
	}
	if err := awaitLive(ctx, r, 0); err != nil {
		return err
	}
	_, err = r.Admin.Unlock(ctx, lock.ID)
	return err
}

// awaitLive waits until at most n leases may live.
func awaitLive(ctx context.Context, r *rig.Rig, n int) error {
	return r.Await(ctx, fmt.Sprintf("%d live leases", n), func(ctx context.Context) bool {
		status, err := r.Admin.Status(ctx)
		return err == nil && status.Leases.Pending+status.Leases.Active+status.Leases.Revoking <= n
	})
}

// isDenied reports whether the broker refused because of a lock or a policy.
func isDenied(err error) bool {
	problem, ok := errors.AsType[*api.Problem](err)
	return ok && problem.Code == "denied"
}
