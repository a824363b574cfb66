package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/daypass/daypass/target/postgres"
)

// entered is a session of a lease that lasts until the test ends.
func entered(t *testing.T, r *rig, p *postgres.Postgres, rights string) (string, *pgx.Conn) {
	t.Helper()
	lease, credential := r.grant(t, p, rights)
	conn, err := login(t.Context(), credential)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return lease, conn
}

// busy runs a statement on a connection of its own until it ends or the test does.
func busy(t *testing.T, conn *pgx.Conn, statement string) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn.Exec(ctx, statement)
	}()
	t.Cleanup(func() { cancel(); <-done }) // before the connection is closed
}

// What a lease may try with nothing but its login.
func TestALeaseCannotTouchWhatIsOurs(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, conn := entered(t, r, p, readers)
		neighbour, _ := r.grant(t, p, readers)
		group := ask[string](t, r, "select rolname::text from pg_roles where rolname like 'dpg_"+r.instance+"%'")
		mark := ask[string](t, r, "select rolname::text from pg_roles where rolname like 'dpm_"+r.instance+"%'")
		boss := ask[int](t, r, "select pid from pg_stat_activity where usename = $1 limit 1", r.admin)
		self := r.name(lease)
		for _, statement := range []string{
			"set session authorization " + r.admin, "set role " + r.admin, "set role " + r.name(neighbour),
			"create role dp_" + r.instance + "_aaaaaaaaaaaaaaaaaaaa login", "create role dpc_" + r.instance + "_99 createrole",
			"alter role " + self + " valid until 'infinity'", "alter role " + self + " createrole", "alter role " + self + " connection limit -1",
			"alter role " + self + " rename to dp_mine", "alter role " + r.name(neighbour) + " password 'mine'", "drop role " + self,
			"alter role " + group + " login password 'mine'", "grant " + group + " to public", "grant " + group + " to " + r.reader,
			"revoke " + group + " from " + r.name(neighbour), "comment on role " + mark + " is '{}'", "comment on role " + self + " is 'x'",
			"drop role " + mark,
			fmt.Sprintf("do $$ begin if not pg_terminate_backend(%d) then raise 'no'; end if; end $$", boss),
			"select rolpassword from pg_authid", "alter system set log_statement = 'all'",
			"copy public.orders to program 'id'", "select pg_read_file('/etc/passwd')", "create event trigger e on ddl_command_start execute function f()",
			"create subscription s connection '' publication p", "select pg_create_physical_replication_slot('s')",
			"alter role all set search_path = 'pg_temp'", "alter database " + r.database + " set search_path = 'pg_temp'",
			"insert into public.orders values (2)",
		} {
			if _, err := conn.Exec(t.Context(), statement); err == nil {
				t.Errorf("a lease may: %s", statement)
				conn.Exec(t.Context(), "reset role")
			}
		}
		// These succeed, with a warning, and must change nothing.
		for _, statement := range []string{"grant select on public.orders to public", "revoke all on public.orders from " + group,
			"drop owned by " + group, "reassign owned by " + group + " to " + self} {
			conn.Exec(t.Context(), statement)
		}
		if ask[bool](t, r, "select has_table_privilege('public', 'public.orders', 'select')") {
			t.Error("a lease opened a table to everybody")
		}
		_, credential := r.grant(t, p, readers)
		if err := use(t.Context(), credential, "select * from public.orders"); err != nil {
			t.Errorf("a lease took the rights of the others: %v", err)
		}
	})
}

// Sessions that do not want to go, of every kind that a client alone can make.
func TestSessionsOfEveryKindDieWithTheirLease(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, credential := r.grant(t, p, readers)
		background := context.Background()
		enter := func() *pgx.Conn {
			conn, err := login(t.Context(), credential)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close(background) })
			return conn
		}
		for _, statement := range []string{
			"select pg_sleep(1000)", "select count(*) from generate_series(1, 1e12)",
			"do $$ begin loop begin perform pg_sleep(1000); exception when others then null; end; end loop; end $$",
			"do $$ begin loop begin perform pg_sleep(1000); exception when query_canceled or admin_shutdown then null; end; end loop; end $$",
			"select pg_advisory_lock(1), pg_sleep(1000)", "select pg_advisory_lock(1)",
		} {
			busy(t, enter(), statement)
		}
		idle := enter()
		if _, err := idle.Exec(t.Context(), "begin; create temp table t (id int); declare c cursor with hold for select 1"); err != nil {
			t.Fatal(err)
		}
		stuck := enter() // in the middle of a COPY whose client says nothing
		if _, err := idle.Exec(t.Context(), "commit"); err != nil {
			t.Fatal(err)
		}
		stuck.PgConn().Frontend().SendQuery(&pgproto3.Query{String: "create temp table t (id int); copy t from stdin"})
		if err := stuck.PgConn().Frontend().Flush(); err != nil {
			t.Fatal(err)
		}
		deaf := enter() // whose client reads nothing of much
		deaf.PgConn().Frontend().SendQuery(&pgproto3.Query{String: "select repeat('x', 1000000) from generate_series(1, 1000)"})
		if err := deaf.PgConn().Frontend().Flush(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the sessions are busy", func() bool {
			return ask[int](t, r, "select count(*) from pg_stat_activity where usename = $1", r.name(lease)) >= 8
		})
		begun := time.Now()
		revoke(t, p, lease)
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		if r.alive(t, lease) {
			t.Error("a session lives")
		}
	})
}

// Before 16 a login may give itself away, so that others have its rights.
func TestALoginThatGaveItselfAwayTakesItsRightsAlong(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, conn := entered(t, r, p, readers)
		friend, theirs := entered(t, r, p, `{"grants":[{"privileges":["usage"],"on":"sequences","schema":"public"}],"scram_iterations":1}`)
		_, err := conn.Exec(t.Context(), fmt.Sprintf("grant %s to %s", r.name(lease), r.name(friend)))
		t.Logf("a login that gives itself away: %v", err) // some minor versions of 15 allow it
		revoke(t, p, lease)
		if _, err := theirs.Exec(t.Context(), "select * from public.orders"); err == nil {
			t.Error("a friend still has the rights of a dead lease")
		}
		revoke(t, p, friend)
	})
}

// Many leases that hold their own rows do not keep each other, or others, alive.
func TestManyLeasesThatHoldTheirRowsEndTogether(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		var leases []string
		for range 8 {
			lease, conn := entered(t, r, p, readers)
			if _, err := conn.Exec(t.Context(), fmt.Sprintf("begin; alter role %s password 'mine'", r.name(lease))); err != nil {
				t.Fatal(err)
			}
			quiet, _ := r.grant(t, p, readers)
			leases = append(leases, lease, quiet)
		}
		var all sync.WaitGroup
		for _, lease := range leases {
			all.Go(func() {
				if err := p.Revoke(t.Context(), lease); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, lease := range leases {
			if r.alive(t, lease) {
				t.Errorf("lease %s lives", lease)
			}
		}
	})
}

// A role that somebody dropped leaves its sessions behind, without a name.
func TestASessionWhoseRoleWasDroppedEndsWithItsLease(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, conn := entered(t, r, p, readers)
		other, theirs := entered(t, r, p, readers)
		r.must(t, "drop role "+r.name(lease))
		revoke(t, p, lease)
		if _, err := conn.Exec(t.Context(), "select 1"); err == nil {
			t.Error("the lease is called revoked, and its session lives")
		}
		if _, err := theirs.Exec(t.Context(), "select 1"); err != nil {
			t.Errorf("the session of lease %s: %v", other, err)
		}
	})
}
