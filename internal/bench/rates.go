package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"

	"github.com/daypass/daypass/api"
)

// rates compares one server on SQLite, one on PostgreSQL and three on PostgreSQL: the whole broker with a target, the
// whole broker without a call to a target, and the store alone.
func rates(ctx context.Context, s settings) (err error) {
	var places []*place
	defer func() {
		for _, p := range places {
			err = errors.Join(err, p.close())
		}
	}()
	for _, servers := range []int{0, 1, 3} {
		p, err := onFile, error(nil)
		if servers > 0 {
			p = func(ctx context.Context) (*place, error) { return onPostgres(ctx, servers) }
		}
		made, err := p(ctx)
		if err != nil {
			return err
		}
		places = append(places, made)
	}
	fmt.Printf("\n## Acquire on each kind of store\n\n| acquisition | callers | SQLite, 1 server | PostgreSQL, 1 server | PostgreSQL, 3 servers | ratio of 1 | of 3 | p50 | p50 | p50 |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, kind := range []struct{ what, role string }{
		{"no target is called", "token"}, {"a PostgreSQL 15 login, 1 SCRAM round", "member-fast"},
	} {
		for _, callers := range []int{1, 16, 64} {
			if err := ratesOf(ctx, s, places, kind.what, kind.role, callers); err != nil {
				return err
			}
		}
	}
	return storeAlone(ctx)
}

// ratesOf is a row. The places take turns.
func ratesOf(ctx context.Context, s settings, places []*place, what, role string, callers int) error {
	got := make([]sample, len(places))
	for range turns {
		for i, p := range places {
			clients, err := p.workloads(callers, p.urls...)
			if err != nil {
				return err
			}
			got[i].join(load(ctx, callers, s.slice/turns, endless, acquireRole(clients, role)))
			if err := p.clear(ctx); err != nil {
				return err
			}
		}
	}
	base := got[0].rate()
	fmt.Printf("| %s | %d | %.0f /s | %.0f /s | %.0f /s | %.2f | %.2f | %s | %s | %s |\n", what, callers, base, got[1].rate(), got[2].rate(),
		got[1].rate()/base, got[2].rate()/base, ms(got[0].quantile(0.5)), ms(got[1].quantile(0.5)), ms(got[2].quantile(0.5)))
	for i, p := range places {
		if got[i].failure != nil {
			return fmt.Errorf("%s on %s: %d failed, the last: %w", what, p.name, got[i].failed, got[i].failure)
		}
	}
	return nil
}

// clear ends all leases by locks and waits for the proofs.
func (p *place) clear(ctx context.Context) error {
	var locks []string
	for _, target := range []string{"orders-db", "tokens"} {
		lock, err := p.admin.Lock(ctx, api.LockRequest{Match: api.Match{Target: target}, Reason: "between two measurements"})
		if err != nil {
			return err
		}
		locks = append(locks, lock.ID)
	}
	if err := p.awaitNone(ctx); err != nil {
		return err
	}
	for _, id := range locks {
		if _, err := p.admin.Unlock(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (p *place) awaitNone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for sleep(ctx, 50*time.Millisecond) {
		status, err := p.admin.Status(ctx)
		if err == nil && status.Leases.Pending+status.Leases.Active+status.Leases.Revoking == 0 {
			return nil
		}
	}
	return fmt.Errorf("waited in vain for the end of all leases: %w", ctx.Err())
}

var leasesPerSecond = regexp.MustCompile(`(?m)^(Benchmark\S+).*?([0-9.]+) leases/s`)

// storeAlone runs the benchmarks of the store in the same minutes.
func storeAlone(ctx context.Context) error {
	fmt.Printf("\n| the store alone | acquisitions /s |\n|---|--:|\n")
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "Acquire/.*64.callers|Acquire/.*_1_callers|Acquire/1.callers", "-benchtime", "2s",
		"github.com/daypass/daypass/internal/store/sqlite", "github.com/daypass/daypass/internal/store/postgres").CombinedOutput()
	if err != nil {
		return fmt.Errorf("benchmarks of the store: %w\n%s", err, out)
	}
	found := leasesPerSecond.FindAllSubmatch(out, -1)
	if len(found) == 0 {
		return fmt.Errorf("benchmarks of the store: no figure in\n%s", out)
	}
	for _, m := range found {
		rate, err := strconv.ParseFloat(string(m[2]), 64)
		if err != nil {
			return err
		}
		fmt.Printf("| %s | %.0f |\n", m[1], rate)
	}
	return nil
}
