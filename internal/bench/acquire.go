package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/internal/rig"
)

// turns is how often floor and broker take turns, so that both see the same moods of the machine.
const turns = 2

// acquire measures acquisitions of a PostgreSQL login against the same SQL by hand.
func acquire(ctx context.Context, s settings) error {
	fmt.Printf("\n## Acquire a PostgreSQL login (`IN ROLE`)\n\n| PostgreSQL | SCRAM rounds | callers | by hand /s | Daypass /s | ratio | p50 by hand | p50 Daypass | p99 Daypass | broker CPU per lease | errors |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, version := range s.versions {
		if err := acquireAt(ctx, s, version); err != nil {
			return err
		}
	}
	return nil
}

func acquireAt(ctx context.Context, s settings, version int) (err error) {
	r, err := rig.Start(ctx, rig.Options{Version: version, Fsync: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for _, kind := range []struct {
		role   string
		rounds int
	}{{"member", 4096}, {"member-fast", 1}} {
		for _, callers := range []int{1, 16, 64} {
			byHand, ours, cpu, err := compare(ctx, s, r, kind.role, kind.rounds, callers)
			if err != nil {
				return err
			}
			fmt.Printf("| %d | %d | %d | %.0f | %.0f | %.2f | %s | %s | %s | %s | %d |\n", version, kind.rounds, callers, byHand.rate(), ours.rate(),
				ours.rate()/byHand.rate(), ms(byHand.quantile(0.5)), ms(ours.quantile(0.5)), ms(ours.quantile(0.99)), ms(cpu/time.Duration(max(1, len(ours.laps)))), byHand.failed+ours.failed)
			if ours.failure != nil {
				fmt.Printf("\nlast error: %v\n", ours.failure)
			}
		}
	}
	return nil
}

// compare lets floor and broker take turns. It also returns the processor time that the broker took.
func compare(ctx context.Context, s settings, r *rig.Rig, role string, rounds, callers int) (byHand, ours sample, cpu time.Duration, err error) {
	for range turns {
		h, err := newHand(ctx, r, callers, rounds)
		if err != nil {
			return byHand, ours, cpu, err
		}
		byHand.join(load(ctx, callers, s.slice/turns, endless, h.create))
		if err := h.drop(ctx); err != nil {
			return byHand, ours, cpu, err
		}
		clients, err := workloads(r, callers)
		if err != nil {
			return byHand, ours, cpu, err
		}
		before := processorTime(r.BrokerPID())
		ours.join(load(ctx, callers, s.slice/turns, endless, acquireRole(clients, role)))
		cpu += processorTime(r.BrokerPID()) - before
		if err := clearLeases(ctx, r); err != nil {
			return byHand, ours, cpu, err
		}
	}
	return byHand, ours, cpu, nil
}

// live measures acquisitions of a role with grants on ten tables while many logins live, against membership with
// none, and shows what happens by hand.
func live(ctx context.Context, s settings) error {
	fmt.Printf("\n## Acquire with %d live logins (16 callers, 1 SCRAM round)\n\n| PostgreSQL | live | role | /s | p50 | p99 | errors |\n|--:|--:|---|--:|--:|--:|--:|\n", s.live)
	for _, version := range s.versions {
		r, err := rig.Start(ctx, rig.Options{Version: version, Fsync: true})
		if err != nil {
			return err
		}
		err = liveAt(ctx, s, r, version)
		if err != nil {
			return err
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	return nil
}

func liveAt(ctx context.Context, s settings, r *rig.Rig, version int) error {
	const callers = 16
	clients, err := workloads(r, callers)
	if err != nil {
		return err
	}
	row := func(n int, what string, of sample) {
		fmt.Printf("| %d | %d | %s | %.0f | %s | %s | %d |\n", version, n, what, of.rate(), ms(of.quantile(0.5)), ms(of.quantile(0.99)), of.failed)
	}
	row(0, "`in_role`", load(ctx, callers, s.slice, endless, acquireRole(clients, "member-fast")))
	row(0, "`grants`", load(ctx, callers, s.slice, endless, acquireRole(clients, "grants-fast")))
	if err := clearLeases(ctx, r); err != nil {
		return err
	}
	if err := fill(ctx, r, "grants-fast", s.live); err != nil {
		return err
	}
	if clients, err = workloads(r, callers); err != nil {
		return err
	}
	row(s.live, "`grants`", load(ctx, callers, s.slice, endless, acquireRole(clients, "grants-fast")))
	row(s.live, "`in_role`", load(ctx, callers, s.slice, endless, acquireRole(clients, "member-fast")))
	if err := clearLeases(ctx, r); err != nil {
		return err
	}
	h, err := newHand(ctx, r, callers, 1)
	if err != nil {
		return err
	}
	defer h.pool.Close() // what it made goes with the server
	row(0, "grants by hand", load(ctx, callers, s.slice, endless, h.createGranted))
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
