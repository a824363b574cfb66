package main

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/rig"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

// Others are workloads that have nothing to do with a storm, and want to notice nothing of it: so many callers, each a
// principal of its own, that acquire a lease and release it at fixed times.
const (
	others      = 10
	othersEvery = 200 * time.Millisecond // for each: 50 in a second
)

// beside begins work at fixed times until the returned function is called, which gives what was measured. What is slow
// delays nothing that comes after it, as it is with workloads that know nothing of each other.
func beside(ctx context.Context, callers int, every time.Duration, work func(ctx context.Context, caller int) error) (stop func() sample) {
	var mu sync.Mutex
	var all sample
	running, end := context.WithCancel(ctx)
	begun := time.Now()
	var working sync.WaitGroup
	lap := func(caller int, due time.Time) {
		err := work(context.WithoutCancel(running), caller) // what was begun is brought to its end
		took := time.Since(due)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			all.failed++
			all.failure = err
			return
		}
		all.laps = append(all.laps, took)
	}
	for caller := range callers {
		working.Go(func() {
			keepTime(running, begun.Add(every*time.Duration(caller)/time.Duration(callers)), every, func(due time.Time) {
				working.Go(func() { lap(caller, due) })
			})
		})
	}
	return func() sample {
		end()
		working.Wait()
		all.took = time.Since(begun)
		return all
	}
}

// keepTime calls work at fixed times until ctx ends, and tells it when it was due.
func keepTime(ctx context.Context, due time.Time, every time.Duration, work func(due time.Time)) {
	for ; sleep(ctx, time.Until(due)); due = due.Add(every) {
		work(due)
	}
}

// sleep reports false where ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// fresh gives tokens of one workflow's run, a new one before the last is old.
func fresh(site *rig.Site, run testissuer.Run) client.TokenSource {
	var mu sync.Mutex
	var token secret.Text
	var made time.Time
	return client.TokenFunc(func(context.Context) (secret.Text, error) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(made) > 2*time.Minute {
			token, made = site.Token(run), time.Now()
		}
		return token, nil
	})
}

// principals are clients with fresh tokens, each of a repository of its own: acme/<name>-0 and so on.
func principals(site *rig.Site, url, name string, n int) (all []*client.Client, err error) {
	all = make([]*client.Client, n)
	for i := range all {
		run := testissuer.Run{Repository: "acme/" + name + "-" + strconv.Itoa(i)}
		if all[i], err = client.New(client.Options{URL: url, Token: fresh(site, run)}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// acquireAndRelease is the work of a workload with a short job. Only the acquisition is waited for.
func acquireAndRelease(clients []*client.Client, role string) func(context.Context, int) error {
	return func(ctx context.Context, caller int) error {
		held, err := clients[caller].Acquire(ctx, api.AcquireRequest{Role: role})
		if err != nil {
			return err
		}
		go func() { _, _ = held.Release(ctx, 0) }() // one that fails ends by its expiry
		return nil
	}
}
