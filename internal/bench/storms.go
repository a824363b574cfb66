package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/rig"
	"github.com/daypass/daypass/internal/store/storetest"
)

// A storm is one sick or greedy part. Beside it other workloads acquire at another target at a steady pace; what
// they wait is what counts.
type storm struct {
	name string
	run  func(context.Context, settings, *town) error
	opt  rig.Options
}

// storms runs them one after the other, each in a town of its own.
func storms(ctx context.Context, s settings) error {
	all := []storm{
		{name: "ending", run: endAtOnce},
		{name: "down", run: targetDown},
		{name: "locked", run: lockMany},
		{name: "flood", run: floodOfTokens},
		{name: "greedy", run: greedyWorkload, opt: rig.Options{Limits: "{leases_per_principal: 100, acquire_rate: 10/s}"}},
	}
	fmt.Printf("\n## Storms, and what others wait meanwhile (%d workloads that acquire %d times a second at another PostgreSQL)\n\n| what happens | others p50 | p99 | longest | p50 when calm | p99 when calm | p99 ratio | failed |\n|---|--:|--:|--:|--:|--:|--:|--:|\n",
		others, others*int(time.Second/othersEvery))
	for _, one := range all {
		if s.storm != "" && s.storm != one.name {
			continue
		}
		if err := weather(ctx, s, one); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
	}
	return nil
}

func weather(ctx context.Context, s settings, one storm) (err error) {
	opt := one.opt
	if len(s.versions) == 1 {
		opt.Version = s.versions[0]
	}
	t, err := foundTown(ctx, opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	return one.run(ctx, s, t)
}

// report prints a row: how others fared while something happened, against when nothing did.
func report(what string, calm, during sample) {
	ratio := float64(during.quantile(0.99)) / float64(max(1, calm.quantile(0.99)))
	fmt.Printf("| %s | %s | %s | %s | %s | %s | %.1f | %d of %d |\n", what, ms(during.quantile(0.5)), ms(during.quantile(0.99)), ms(during.quantile(1)),
		ms(calm.quantile(0.5)), ms(calm.quantile(0.99)), ratio, during.failed, during.failed+len(during.laps))
	if during.failure != nil {
		fmt.Printf("\nlast error: %v\n\n", during.failure)
	}
}

// endAtOnce has very many leases of a target without a call end in the same second.
func endAtOnce(ctx context.Context, s settings, t *town) error {
	t.KillBroker()
	db, err := openStoreFile(t.Site)
	if err != nil {
		return err
	}
	at := time.Now().Add(calmTime + 20*time.Second + time.Duration(s.ending)*100*time.Microsecond)
	err = errors.Join(seedEnding(ctx, db, s.ending, at), db.Close())
	if err != nil {
		return err
	}
	if err := t.StartBroker(); err != nil {
		return err
	}
	if err := t.Ready(ctx); err != nil {
		return err
	}
	if err := t.warm(ctx); err != nil {
		return err
	}
	calm := t.calm(ctx)
	if left := time.Until(at); left < 0 {
		return fmt.Errorf("the leases ended %v too early: the machine is slow", -left)
	}
	sleep(ctx, time.Until(at))
	stop := t.beside(ctx)
	took, err := t.untilRevoked(ctx, "tokens", at.Add(time.Second))
	report(fmt.Sprintf("%d leases end in the same second; all `revoked` after %.1f s", s.ending, took.Seconds()), calm, stop())
	return err
}

// openStoreFile opens the file of a rig's store. The broker must not run.
func openStoreFile(site *rig.Site) (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+site.Path("daypass.db"))
}

// seedEnding writes leases of the role token that end within the second from a time on.
func seedEnding(ctx context.Context, db *sql.DB, n int, at time.Time) error {
	const forget = `delete from tallies` // they are counted anew below
	if _, err := db.ExecContext(ctx, forget); err != nil {
		return err
	}
	if err := storetest.Seed(ctx, db, n); err != nil {
		return err
	}
	const ends = `$1 + seq % 1000000`
	if _, err := db.ExecContext(ctx, `update leases set target = 'tokens', role = 'token', revocation = 'bounded', expires_at = `+ends+`, wake = `+ends+`,
		renewable_until = `+ends+`, native_until = `+ends+` where live = 1 and target like 'db-%'`, at.UnixMicro()); err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, forget); err != nil {
		return err
	}
	for _, scope := range []struct{ columns, group string }{
		{"target, '', '', ''", "target"}, {"'', role, '', ''", "role"}, {"'', '', issuer_url, subject", "issuer_url, subject"},
		{"'', role, issuer_url, subject", "role, issuer_url, subject"},
	} {
		if _, err := db.ExecContext(ctx, `insert into tallies (target, role, issuer_url, subject, pending, active, revoking)
			select `+scope.columns+`, 0, sum(state = 'active'), sum(state = 'revoking') from leases where live = 1 group by `+scope.group); err != nil {
			return err
		}
	}
	return nil
}

// untilRevoked waits until no lease of a target may live, and returns how long after since that was.
func (t *town) untilRevoked(ctx context.Context, target string, since time.Time) (time.Duration, error) {
	err := t.AwaitFor(ctx, 5*time.Minute, "the end of all leases of "+target, func(ctx context.Context) bool {
		sleep(ctx, 100*time.Millisecond) // asking is work too
		n, err := t.live(ctx, target)
		return err == nil && n == 0
	})
	return time.Since(since), err
}

// live counts the leases of a target that may live.
func (t *town) live(ctx context.Context, target string) (int, error) {
	status, err := t.Admin.Status(ctx)
	if err != nil {
		return 0, err
	}
	for _, one := range status.Targets {
		if one.Name == target {
			return one.Leases.Pending + one.Leases.Active + one.Leases.Revoking, nil
		}
	}
	return 0, fmt.Errorf("the status does not name target %q", target)
}

// targetDown kills a target, makes very many revocations due there, waits until it is asked as seldom as it ever is,
// and has it return.
func targetDown(ctx context.Context, s settings, t *town) error {
	if err := fill(ctx, t.Rig, "member-fast", s.due); err != nil {
		return err
	}
	calm := t.calm(ctx)
	if err := t.Postgres.Kill(ctx); err != nil {
		return err
	}
	stop := t.beside(ctx)
	if _, err := t.Admin.Lock(ctx, api.LockRequest{Match: api.Match{Target: "orders-db"}, Reason: "benchmark"}); err != nil {
		return err
	}
	sleep(ctx, s.down)
	report(fmt.Sprintf("a target is down for %s, %d revocations are due there", s.down, s.due), calm, stop())
	if err := t.Postgres.Start(ctx); err != nil {
		return err
	}
	stop = t.beside(ctx)
	returned := time.Now()
	before, err := t.live(ctx, "orders-db")
	if err != nil {
		return err
	}
	err = t.AwaitFor(ctx, 2*time.Minute, "the first revocation", func(ctx context.Context) bool {
		n, err := t.live(ctx, "orders-db")
		return err == nil && n < before
	})
	if err != nil {
		return err
	}
	first := time.Since(returned)
	took, err := t.untilRevoked(ctx, "orders-db", returned)
	report(fmt.Sprintf("it returns: the first is proved after %.1f s, all after %.1f s", first.Seconds(), took.Seconds()), calm, stop())
	return err
}

// lockMany locks a target where very many logins live.
func lockMany(ctx context.Context, s settings, t *town) error {
	if err := fill(ctx, t.Rig, "member-fast", s.live); err != nil {
		return err
	}
	calm := t.calm(ctx)
	stop := t.beside(ctx)
	begun := time.Now()
	if _, err := t.Admin.Lock(ctx, api.LockRequest{Match: api.Match{Target: "orders-db"}, Reason: "benchmark"}); err != nil {
		return err
	}
	clients, err := workloads(t.Rig, 1)
	if err != nil {
		return err
	}
	if _, err := clients[0].Acquire(ctx, api.AcquireRequest{Role: "member-fast"}); !isDenied(err) {
		return fmt.Errorf("after the lock an acquisition was not denied: %w", err)
	}
	refused := time.Since(begun)
	took, err := t.untilRevoked(ctx, "orders-db", begun)
	report(fmt.Sprintf("a lock over %d live logins; new ones refused after %s, all dead and proved after %.1f s", s.live, ms(refused), took.Seconds()), calm, stop())
	return err
}
