package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/target"
)

// Functions and views run with the rights of their owner: those of a dead lease must reach nothing of another's.
func TestWhatDeadLeasesLeaveIsNotOpenToTheNextOne(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		r.must(t, "create schema victims", "create schema attackers", "grant usage on schema victims to public")
		p := r.open(t)
		r.must(t, "grant create, usage on schema attackers, victims to public")
		victim, theirs := entered(t, r, p, readers)
		if _, err := theirs.Exec(t.Context(), "create table victims.customers as select 'card number' as secret"); err != nil {
			t.Fatal(err)
		}
		attacker, ours := entered(t, r, p, readers)
		for _, statement := range []string{
			"create function attackers.steal() returns setof text language plpgsql security definer as $$ begin return query select secret::text from victims.customers; end $$",
			"create function attackers.spoil() returns void language plpgsql security definer as $$ begin drop table victims.customers; end $$",
		} {
			if _, err := ours.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		revoke(t, p, victim)
		revoke(t, p, attacker)
		if _, err := p.Clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, again := entered(t, r, p, readers)
		var secret string
		if err := again.QueryRow(t.Context(), "select * from attackers.steal()").Scan(&secret); err == nil {
			t.Errorf("a lease read what another lease left: %q", secret)
		}
		if _, err := again.Exec(t.Context(), "select attackers.spoil()"); err == nil {
			t.Error("a lease dropped what another lease left")
		}
	})
}

// The server itself calls functions of whoever owns a table, when somebody analyses it: as the owner.
func TestWhatDeadLeasesLeaveIsNotOpenToTheirIndexes(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		r.must(t, "create schema victims", "create schema attackers", "grant create, usage on schema attackers, victims to public")
		p := r.open(t)
		victim, theirs := entered(t, r, p, readers)
		if _, err := theirs.Exec(t.Context(), "create table victims.customers as select 'card number'::text as secret"); err != nil {
			t.Fatal(err)
		}
		attacker, ours := entered(t, r, p, readers)
		_, second := entered(t, r, p, readers)
		run := func(conn *pgx.Conn, statements ...string) {
			t.Helper()
			for _, statement := range statements {
				if _, err := conn.Exec(t.Context(), statement); err != nil {
					t.Fatalf("%v in %s", err, statement)
				}
			}
		}
		run(second, "create table attackers.box (secret text)", "grant insert on attackers.box to public")
		run(ours, "create table attackers.trap (x int)",
			"create function attackers.inner() returns int language plpgsql volatile as $$ begin insert into attackers.box select secret from victims.customers; return 1; exception when others then insert into attackers.box values (current_user || ' ' || sqlerrm); return 1; end $$",
			"create function attackers.outer(x int) returns int language sql immutable as 'select 1'",
			"create index on attackers.trap ((attackers.outer(x)))",
			"insert into attackers.trap select generate_series(1, 10)",
			"create or replace function attackers.outer(x int) returns int language sql immutable as 'select attackers.inner()'")
		revoke(t, p, victim)
		revoke(t, p, attacker)
		if left, err := p.Clean(t.Context()); err != nil {
			t.Fatal(err)
		} else {
			t.Logf("left: %+v", left)
		}
		r.must(t, "analyze attackers.trap") // a DBA's, or autovacuum's
		rows, _ := second.Query(t.Context(), "select distinct secret from attackers.box")
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		t.Logf("the box holds %q, %v", found, err)
		if strings.Contains(strings.Join(found, " "), "card number") {
			t.Errorf("a lease got what another lease left: %q", found)
		}
	})
}

func TestALeaseCannotWedgeItsEnd(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		r.must(t, "grant create on schema public to public")
		other := r.server.Database(t)
		if err := r.server.Exec(t.Context(), other, "grant create on schema public to public"); err != nil {
			t.Fatal(err)
		}
		p := r.open(t)
		lease, credential := r.grant(t, p, readers)
		neighbour, _ := r.grant(t, p, readers)
		conn, err := loginDatabase(t.Context(), credential, r.database)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		for _, statement := range []string{"create table public.left_behind (id int)", "grant all on public.left_behind to public",
			"create function public.steal() returns int language sql security definer as 'select 1'",
			"alter default privileges grant all on tables to public", "select lo_create(0)",
			// And hold its own row, in a transaction that stays open.
			"begin", fmt.Sprintf("alter role %s password 'mine'", r.name(lease)), "lock table public.left_behind"} {
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Fatalf("%v in %s", err, statement)
			}
		}
		leaveInOther(t, r, other, lease)
		var both sync.WaitGroup
		both.Go(func() { revoke(t, p, lease) })
		both.Go(func() { revoke(t, p, neighbour) })
		both.Wait()
		if r.alive(t, lease) || r.alive(t, neighbour) {
			t.Fatal("a lease that left objects and held its own row lives")
		}
		revoke(t, p, lease)
		for range 2 { // the second pass finds nothing to do
			left, err := p.Clean(t.Context())
			if err != nil || left != (target.Residue{Leases: 1, Objects: 5}) || strings.Contains(r.log.String(), "not disarmed") {
				t.Errorf("residue %+v, %v\n%s", left, err, r.log.String())
			}
		}
		self := r.name(lease)
		for _, owner := range []string{"select pg_get_userbyid(relowner)::text from pg_class where relname = 'left_behind'",
			"select pg_get_userbyid(proowner)::text from pg_proc where proname = 'steal'"} {
			if owner := ask[string](t, r, owner); owner != self {
				t.Errorf("what the lease left belongs to %s", owner)
			}
		}
		for _, not := range []string{"select prosecdef or has_function_privilege('public', oid, 'execute') from pg_proc where proname = 'steal'",
			"select has_table_privilege('public', 'public.left_behind', 'select')", "select rolcanlogin from pg_roles where rolname = '" + self + "'",
			"select exists (select from pg_auth_members m join pg_roles r on r.oid = m.member where m.roleid = '" + self + "'::regrole and m.inherit_option)"} {
			if r.server.Version < 16 {
				not = strings.Replace(not, " and m.inherit_option", "", 1)
			}
			if ask[bool](t, r, not) {
				t.Errorf("true: %s", not)
			}
		}
		text := findings(t, p)
		for _, database := range []string{r.database, other} {
			if !strings.Contains(text, "note: "+self+", which is dead, owns") || !strings.Contains(text, "in database "+database) {
				t.Errorf("nothing of what the lease owns in %s in:\n%s", database, text)
			}
			// As the note says.
			if err := r.server.Exec(t.Context(), database, "drop owned by "+self); err != nil {
				t.Fatal(err)
			}
		}
		r.must(t, "alter role "+self+" valid until '2001-01-01'") // the tombstone has stood long enough
		if left, err := p.Clean(t.Context()); err != nil || left != (target.Residue{}) {
			t.Errorf("residue %+v, %v", left, err)
		}
		if ask[bool](t, r, "select exists (select from pg_roles where rolname = $1)", self) {
			t.Error("an empty dead login stays")
		}
	})
}

// leaveInOther makes the lease own a table in another database too, where it would block DROP ROLE for ever.
func leaveInOther(t *testing.T, r *rig, database, lease string) {
	t.Helper()
	err := r.server.Exec(t.Context(), database, "create table public.left_behind (id int)", "alter table public.left_behind owner to "+r.name(lease))
	if err != nil {
		t.Fatal(err)
	}
}
