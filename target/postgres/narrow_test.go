package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/target/postgres"
	"github.com/daypass/daypass/target/targettest"
)

// as grants a lease of one role whose rights change, and gives what runs statements with it, in a session that is
// opened anew when it was ended.
func as(t *testing.T, r *rig, p *postgres.Postgres, rights string) (lease string, may func(string) bool) {
	t.Helper()
	lease, conn, again := acting(t, r, p, rights)
	return lease, func(statement string) bool {
		done := does(t, conn, statement)
		if conn.IsClosed() {
			conn = again()
			done = does(t, conn, statement)
		}
		return done
	}
}

func TestNarrowingARoleHitsItsLiveLeasesAndWideningDoesNot(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		const insert, read, count, later = "insert into public.orders values (7)", "select * from public.orders", "select nextval('public.numbers')", "select * from public.later"
		wide := fmt.Sprintf(`{"grants":[{"privileges":["SELECT","INSERT"],"on":"tables","schema":"public","future":true},{"privileges":["USAGE"],"on":"sequences","schema":"public"},
			{"privileges":["CREATE"],"on":"database"}],"in_role":[%q],"scram_iterations":1}`, r.reader)
		const narrow = `{"grants":[{"privileges":["SELECT"],"on":"tables","schema":"public","names":["orders"]}],"scram_iterations":1}`
		bystander, _ := r.grant(t, p, wide) // of another role
		lease, may := as(t, r, p, wide)
		if !may(insert) || !may(read) || !may(count) || !may("select * from public.items") {
			t.Fatal("the wide role is not wide")
		}
		told(t, p, narrow)
		_, later1 := as(t, r, p, narrow)
		r.must(t, "set role "+r.owner, "create table public.later (id int)")
		if may(insert) || may(count) || may("select * from public.items") || may(later) || may("create schema mine") || !may(read) {
			t.Error("a live lease holds what its role has lost, or lost more")
		}
		if n := ask[int](t, r, "select count(*) from pg_auth_members m join pg_roles g on g.oid = m.roleid where g.rolname = $1", r.reader); n != 2 {
			t.Errorf("%d members of in_role, want the administrator and the group of the bystander", n)
		}
		// Cleaning changes nothing of that, nor does a restart, nor a role that has gone.
		for range 2 {
			if _, err := p.Clean(t.Context()); err != nil {
				t.Fatal(err)
			}
			if may(insert) || !may(read) || strings.Contains(r.log.String(), "not in order") {
				t.Errorf("after cleaning:\n%s", r.log.String())
			}
			p.Close()
			r.boot.Add(1)
			p = r.open(t)
			if err := p.Narrow(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		// Widened again: who comes now has it all, who lives has no more than before.
		told(t, p, wide)
		_, whole := as(t, r, p, wide)
		if !whole(insert) || !whole(count) || !whole(later) {
			t.Error("the role that was narrow once is not whole")
		}
		if later1(insert) || later1(later) || !later1(read) {
			t.Error("widening a role reached a live lease, or took from it")
		}
		if !ask[bool](t, r, "select has_table_privilege($1, 'public.items', 'insert')", r.name(bystander)) {
			t.Error("another role was narrowed")
		}
		revoke(t, p, lease)
	})
}

// told tells a target what the changing role holds now.
func told(t *testing.T, p *postgres.Postgres, rights string) {
	t.Helper()
	if err := p.Narrow(t.Context(), map[string]json.RawMessage{"changing": json.RawMessage(rights)}); err != nil {
		t.Fatal(err)
	}
}

// acting grants a lease of the changing role, and returns its session and what opens another.
func acting(t *testing.T, r *rig, p *postgres.Postgres, rights string) (lease string, conn *pgx.Conn, again func() *pgx.Conn) {
	t.Helper()
	g := order(targettest.Lease(), rights)
	g.Role = "changing"
	credential, err := p.Grant(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	again = func() *pgx.Conn {
		t.Helper()
		conn, err := login(t.Context(), credential)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		return conn
	}
	return g.Lease, again(), again
}

func does(t *testing.T, conn *pgx.Conn, statement string) bool {
	_, err := conn.Exec(t.Context(), statement)
	return err == nil
}

func TestARoleThatLosesItsOwnerTakesItFromLiveLeases(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		const reads = `"grants":[{"privileges":["SELECT"],"on":"tables","schema":"public","names":["orders"]}],"scram_iterations":1`
		owning := fmt.Sprintf(`{%s,"owner":%q}`, reads, r.owner)
		_, other := r.grant(t, p, owning) // of another role
		lease, conn, again := acting(t, r, p, owning)
		told(t, p, owning)
		if !does(t, conn, "create table public.one (id int)") {
			t.Fatal("the lease does not act as the owner")
		}
		told(t, p, "{"+reads+"}")
		if does(t, conn, "select 1") {
			t.Error("a session that acts as the owner lives on")
		}
		conn = again()
		told(t, p, "{"+reads+"}")
		if !does(t, conn, "select * from public.orders") {
			t.Error("the lease lost what its role holds, or its session, once more")
		}
		for _, statement := range []string{"create table public.two (id int)", "drop table public.one", "set role " + r.owner, "select * from public.secrets_of_others"} {
			if does(t, conn, statement) {
				t.Errorf("without the owner: %s", statement)
			}
		}
		if err := use(t.Context(), other, "create table public.three (id int)"); err != nil {
			t.Errorf("a lease of another role: %v", err)
		}
		// The role may have it again, for those who come.
		told(t, p, owning)
		if _, conn, _ := acting(t, r, p, owning); !does(t, conn, "create table public.four (id int)") {
			t.Error("a lease of the role that has its owner again does not act as it")
		}
		revoke(t, p, lease)
	})
}

// Before 16 a session can act as any role that it is a member of, and goes on when the membership is gone.
func TestALeaseDoesNotGoOnActingAsARoleThatItsRoleHasLost(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		const kept = `"grants":[{"privileges":["SELECT"],"on":"tables","schema":"public","names":["items"]}],"scram_iterations":1`
		_, conn, again := acting(t, r, p, fmt.Sprintf(`{%s,"in_role":[%q]}`, kept, r.reader))
		does(t, conn, "set role "+r.reader)
		if !does(t, conn, "select * from public.orders") {
			t.Fatal("the lease does not read")
		}
		told(t, p, "{"+kept+"}")
		if does(t, conn, "select * from public.orders") {
			t.Error("the session reads on")
		}
		if conn := again(); !does(t, conn, "select * from public.items") || does(t, conn, "select * from public.orders") {
			t.Error("another session has less than the role, or more")
		}
	})
}

// What fails on the way is done again, whole, and by the process that comes next, too.
func TestNarrowingThatFailedIsDoneAgain(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		const reads = `{"grants":[{"privileges":["SELECT"],"on":"tables","schema":"public"}],"scram_iterations":1}`
		_, conn, _ := acting(t, r, p, fmt.Sprintf(`{"owner":%q,"scram_iterations":1}`, r.owner))
		r.must(t, "revoke pg_signal_backend from "+r.admin)
		if err := p.Narrow(t.Context(), map[string]json.RawMessage{"changing": json.RawMessage(reads)}); err == nil || !does(t, conn, "select 1") {
			t.Errorf("sessions that nobody may end: %v", err)
		}
		p.Close()
		r.boot.Add(1)
		r.must(t, "grant pg_signal_backend to "+r.admin)
		p = r.open(t)
		if _, err := p.Clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		told(t, p, reads)
		if does(t, conn, "select 1") {
			t.Error("the session acts as the owner still")
		}
	})
}

// A DBA's change must not keep the rest from being taken.
func TestNarrowingDoesNotWaitForWhatHasGone(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		r.must(t, "create schema passing authorization "+r.owner, "set role "+r.owner, "create table passing.by (id int)")
		p := r.open(t)
		const gone = `{"privileges":["SELECT"],"on":"tables","schema":"passing"}`
		const orders = `{"privileges":["SELECT"],"on":"tables","schema":"public","names":["orders"]}`
		_, conn, _ := acting(t, r, p, fmt.Sprintf(`{"grants":[%s,%s,{"privileges":["INSERT"],"on":"tables","schema":"public"}],"scram_iterations":1}`, gone, orders))
		r.must(t, "drop schema passing cascade")
		told(t, p, fmt.Sprintf(`{"grants":[%s,%s],"scram_iterations":1}`, gone, orders))
		if does(t, conn, "insert into public.orders values (7)") || !does(t, conn, "select * from public.orders") {
			t.Error("the lease holds what its role has lost, or lost more")
		}
	})
}

// A login that is being made while its role is narrowed belongs to no list yet. The next call, which the fleet makes when
// such a grant ends, must see it.
func TestALoginThatWasBeingMadeIsNarrowedByTheNextCall(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		const reads = `{"grants":[{"privileges":["SELECT"],"on":"tables","schema":"public"}],"scram_iterations":1}`
		owning := fmt.Sprintf(`{"owner":%q,"scram_iterations":1}`, r.owner)
		acting(t, r, p, owning) // its group is there
		g := order(targettest.Lease(), owning)
		g.Role = "changing"
		blocker, err := pgx.Connect(t.Context(), r.server.Superuser(r.database))
		if err != nil {
			t.Fatal(err)
		}
		defer blocker.Close(context.Background())
		if _, err := blocker.Exec(t.Context(), "begin; create role "+r.name(g.Lease)); err != nil {
			t.Fatal(err)
		}
		made := make(chan error, 1)
		go func() { _, err := p.Grant(t.Context(), g); made <- err }()
		for !ask[bool](t, r, "select exists (select from pg_stat_activity where usename = $1 and wait_event_type = 'Lock')", r.admin) {
			<-time.After(5 * time.Millisecond)
		}
		told(t, p, reads)
		if _, err := blocker.Exec(t.Context(), "rollback"); err != nil {
			t.Fatal(err)
		}
		if err := <-made; err != nil {
			t.Fatal(err)
		}
		told(t, p, reads)
		if ask[bool](t, r, "select pg_has_role($1, $2, 'MEMBER')", r.name(g.Lease), r.owner) {
			t.Error("it acts as the owner that its role has lost")
		}
	})
}
