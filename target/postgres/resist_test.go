package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

// soon is how long one revocation may take when somebody resists.
func soon(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// crowd are rights with which a lease may open hundreds of sessions.
const crowd = `{"grants":[{"privileges":["select"],"on":"tables","schema":"public"}],"connection_limit":1000,"scram_iterations":1}`

// squat is what takes, or queues for, every advisory lock of daypass that it sees.
const squat = `select pg_advisory_lock(c.key, o.key) from pg_locks l,
	lateral (select (case when classid::int8 > 2147483647 then classid::int8 - 4294967296 else classid::int8 end)::int as key) c,
	lateral (select (case when objid::int8 > 2147483647 then objid::int8 - 4294967296 else objid::int8 end)::int as key) o
	where l.locktype = 'advisory' and l.objsubid = 2 and l.granted`

// The lock of the instance is an advisory lock: any login may take any, and everybody sees the keys of all.
func TestALeaseThatHoldsAndQueuesForTheLockOfTheInstanceStopsNobody(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, credential := r.grant(t, p, crowd)
		for range 120 {
			conn, err := login(t.Context(), credential)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close(context.Background()) })
			if _, err := conn.Exec(t.Context(), fmt.Sprintf("set application_name = 'daypass/%s/999999'", r.instance)); err != nil {
				t.Fatal(err)
			}
			busy(t, conn, squat)
		}
		eventually(t, "the lease queues for the lock", func() bool {
			return ask[int](t, r, "select count(*) from pg_locks where locktype = 'advisory' and not granted") >= 120
		})
		p.Close() // a restart of the broker
		r.boot.Add(1)
		next := r.open(t)
		if _, err := next.Grant(soon(t, 10*time.Second), order(targettest.Lease(), readers)); err != nil {
			t.Errorf("a lease that holds the lock stops others: %v", err)
		}
		if err := next.Revoke(soon(t, 20*time.Second), lease); err != nil {
			t.Errorf("a lease that holds the lock cannot be ended: %v", err)
		}
	})
}

// stubborn is a statement that looks at no signal for a long time: each product takes a while in which the server does
// not look, nor does it between the products of one row.
func stubborn() string {
	return "select length((" + strings.Repeat("n*n+", 600) + "0)::text) from (select repeat('7', 65000)::numeric as n offset 0) x"
}

func TestASessionThatHearsNoSignalDelaysNoOtherLease(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		bad, conn := entered(t, r, p, readers)
		busy(t, conn, stubborn())
		eventually(t, "the session is busy", func() bool {
			return ask[bool](t, r, "select exists (select from pg_stat_activity where usename = $1 and state = 'active')", r.name(bad))
		})
		var leases []string
		for range 6 {
			lease, _ := r.grant(t, p, readers)
			leases = append(leases, lease)
		}
		var all sync.WaitGroup
		begun := time.Now()
		all.Go(func() { p.Revoke(soon(t, 30*time.Second), bad); t.Logf("the stubborn one took %v", time.Since(begun)) })
		for _, lease := range leases {
			all.Go(func() {
				if err := p.Revoke(soon(t, 10*time.Second), lease); err != nil {
					t.Errorf("a neighbour of a stubborn session: after %v: %v", time.Since(begun), err)
				}
			})
		}
		all.Wait()
	})
}

// A lease that takes all connections of the server keeps us from making new ones.
func TestALeaseThatTakesAllConnectionsIsEnded(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, credential := r.grant(t, p, crowd)
		for {
			conn, err := login(t.Context(), credential)
			if err != nil {
				break
			}
			t.Cleanup(func() { conn.Close(context.Background()) })
		}
		if err := p.Revoke(soon(t, 20*time.Second), lease); err != nil {
			t.Errorf("a lease that holds all connections cannot be ended: %v", err)
		}
	})
}

// After a restart of daypass there is no connection that it already has. From 16 on some are kept for it.
func TestALeaseThatTakesAllConnectionsIsEndedAlsoAfterARestart(t *testing.T) {
	for _, version := range []int{15, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			settings := map[string]string{"max_connections": "60"}
			if version >= 16 {
				settings["reserved_connections"] = "10"
			}
			r := newRig(t, testbed.OwnPostgres(t, testbed.PostgresOptions{Version: version, Settings: settings}))
			p := r.open(t)
			lease, credential := r.grant(t, p, crowd)
			p.Close()
			var last *pgx.Conn
			for {
				conn, err := login(t.Context(), credential)
				if err != nil {
					break
				}
				last = conn
				t.Cleanup(func() { conn.Close(context.Background()) })
			}
			r.boot.Add(1)
			next := r.open(t)
			err := next.Revoke(soon(t, 20*time.Second), lease)
			if version < 16 {
				if err == nil || !strings.Contains(err.Error(), "no connection left for daypass") {
					t.Errorf("a full server that keeps nothing free: %v", err)
				}
				for range 3 { // somebody ends what is needed to begin with
					last.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where usename = current_user and pid <> pg_backend_pid() limit 5")
				}
				err = next.Revoke(soon(t, 20*time.Second), lease)
			}
			if err != nil {
				t.Errorf("a lease that holds all connections cannot be ended: %v", err)
			}
		})
	}
}

func TestALoginHasNoMoreThanTwentySessionsUnlessItsRoleSaysSo(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		_, credential := r.grant(t, r.open(t), readers)
		for i := range 21 {
			conn, err := login(t.Context(), credential)
			if (err == nil) != (i < 20) {
				t.Fatalf("session %d: %v", i+1, err)
			}
			if err == nil {
				t.Cleanup(func() { conn.Close(context.Background()) })
			}
		}
	})
}

// A prepared transaction keeps its locks when its session has ended.
func TestAPreparedTransactionOfALeaseDoesNotKeepItAlive(t *testing.T) {
	for _, version := range []int{15, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			r := newRig(t, testbed.OwnPostgres(t, testbed.PostgresOptions{Version: version, Settings: map[string]string{"max_prepared_transactions": "5"}}))
			p := r.open(t)
			lease, conn := entered(t, r, p, readers)
			neighbour, _ := r.grant(t, p, readers)
			for _, statement := range []string{"begin", fmt.Sprintf("alter role %s password 'mine'", r.name(lease)), "prepare transaction 'stay'"} {
				if _, err := conn.Exec(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			var both sync.WaitGroup
			begun := time.Now()
			both.Go(func() {
				if err := p.Revoke(soon(t, 30*time.Second), lease); err != nil {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
			})
			both.Go(func() {
				if err := p.Revoke(soon(t, 10*time.Second), neighbour); err != nil {
					t.Errorf("the neighbour after %v: %v", time.Since(begun), err)
				}
			})
			both.Wait()
			if ask[bool](t, r, "select exists (select from pg_roles where rolname = $1 and rolcanlogin)", r.name(lease)) {
				t.Error("the login may still log in")
			}
		})
	}
}

// Renewals run on the one connection that everything rare needs.
func TestALeaseThatHoldsItsRowAndRenewsStopsNobody(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, conn := entered(t, r, p, readers)
		for _, statement := range []string{"begin", fmt.Sprintf("alter role %s password 'mine'", r.name(lease))} {
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range 20 {
			go p.Renew(ctx, lease, time.Hour)
		}
		eventually(t, "a renewal waits", func() bool {
			return ask[bool](t, r, "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and usename = $1)", r.admin)
		})
		begun := time.Now()
		if _, err := p.Now(soon(t, 20*time.Second)); err != nil {
			t.Errorf("the target's clock: after %v: %v", time.Since(begun), err)
		}
		if _, err := p.Grant(soon(t, 10*time.Second), order(targettest.Lease(), strings.Replace(readers, "tables", "sequences", 1))); err != nil {
			t.Errorf("a grant of a new role: after %v: %v", time.Since(begun), err)
		}
	})
}

// Any login may take as many advisory locks as the server's table of locks has room for. Nobody can end it by SQL then,
// and the error says what to do.
func TestALeaseThatFillsTheLockTableIsNamed(t *testing.T) {
	for _, version := range []int{15, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			r := newRig(t, testbed.OwnPostgres(t, testbed.PostgresOptions{Version: version, Settings: map[string]string{"max_connections": "50"}}))
			p := r.open(t)
			lease, conn := entered(t, r, p, readers)
			for range 2 { // connections to end leases with
				first, _ := r.grant(t, p, readers)
				revoke(t, p, first)
			}
			conn.Exec(t.Context(), "do $$ begin for i in 1..10000000 loop perform pg_advisory_lock(1, i); end loop; exception when others then null; end $$")
			for i := range 5 {
				conn.Exec(t.Context(), fmt.Sprintf("select pg_advisory_lock(2, %d)", i))
			}
			if err := p.Revoke(soon(t, 20*time.Second), lease); err == nil || !strings.Contains(err.Error(), "table of locks is full") {
				t.Errorf("revoke: %v", err)
			}
			if _, err := p.Grant(soon(t, 20*time.Second), order(targettest.Lease(), readers)); !errors.Is(err, target.ErrNotDone) || !strings.Contains(err.Error(), "table of locks is full") {
				t.Errorf("grant: %v", err)
			}
			conn.Close(t.Context()) // as its process would end
			eventually(t, "the lease ends", func() bool { return p.Revoke(t.Context(), lease) == nil })
		})
	}
}
