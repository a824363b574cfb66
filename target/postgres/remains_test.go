package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
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
