package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/postgres"
	"github.com/daypass/daypass/target/targettest"
)

// findings joins what Check found, one line each.
func findings(t *testing.T, p *postgres.Postgres) string {
	t.Helper()
	found, err := p.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range found {
		text.WriteString(string(f.Severity) + ": " + f.Message + "\n")
	}
	return text.String()
}

func TestCheckNamesWhatIsMissingAndWhatIsTooMuch(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		text := findings(t, p)
		if strings.Contains(text, "problem") || !strings.Contains(text, "template1") && !strings.Contains(text, "postgres") {
			t.Errorf("the administrator of the how-to:\n%s", text)
		}
		if close := strings.Contains(text, "close to a superuser"); close != (r.server.Version < 16) {
			t.Errorf("createrole on this version:\n%s", text)
		}
		if !strings.Contains(text, "max_locks_per_transaction=64") || !strings.Contains(text, "connections") {
			t.Errorf("nothing of what leases can use up:\n%s", text)
		}
		r.must(t, "alter role "+r.admin+" createdb", "grant pg_monitor to "+r.admin, "revoke pg_signal_backend from "+r.admin)
		text = findings(t, p)
		for _, want := range []string{"problem: the administrator may not end sessions", "createdb", "pg_monitor"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in:\n%s", want, text)
			}
		}
		lease, credential := r.grant(t, p, readers)
		conn, err := login(t.Context(), credential)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		if err := p.Revoke(t.Context(), lease); err == nil {
			t.Error("a lease whose session cannot be ended was called revoked")
		}
		r.must(t, "grant pg_signal_backend to "+r.admin)
		revoke(t, p, lease)
		r.must(t, "alter role "+r.admin+" nocreaterole")
		if text := findings(t, p); !strings.Contains(text, "problem: the administrator may not create roles") {
			t.Errorf("without createrole:\n%s", text)
		}
	})
}

func TestTwoDatabasesOfOneServerAreTwoTargets(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, _ := r.grant(t, p, readers)
		config := r.config(r.server.Address())
		config.Settings.URL = strings.Replace(config.Settings.URL, r.database, r.server.Database(t), 1)
		config.Mark.Target = "users-db"
		q := r.openConfig(t, config)
		other, _ := r.grant(t, q, `{"in_role":["`+r.reader+`"]}`)
		var seen int
		for found, err := range q.Leases(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if found == lease || found == other {
				seen++
			}
		}
		if seen != 2 {
			t.Errorf("%d of the leases of the server are listed", seen)
		}
		if _, err := p.Clean(t.Context()); err != nil {
			t.Error(err)
		}
		revoke(t, p, lease)
		revoke(t, q, other)
	})
}

func TestTombstonesGoWhenTheyHaveServed(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease := targettest.Lease()
		revoke(t, p, lease)
		stands := func() bool {
			return ask[bool](t, r, "select exists (select from pg_roles where rolname = $1)", r.name(lease))
		}
		if left, err := p.Clean(t.Context()); err != nil || left != (target.Residue{}) || !stands() {
			t.Errorf("a fresh tombstone: %+v, %v, stands %v", left, err, stands())
		}
		r.must(t, "alter role "+r.name(lease)+" valid until '2001-01-01'")
		if _, err := p.Clean(t.Context()); err != nil || stands() {
			t.Errorf("an old tombstone: %v, stands %v", err, stands())
		}
	})
}

func TestConnectionsBoundThemselvesAndSync(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		r.must(t, "alter role "+r.admin+" set synchronous_commit = off")
		p := r.open(t)
		r.grant(t, p, readers)
		n := ask[int](t, r, "select count(*) from pg_stat_activity where application_name = $1 and usename = $2", "daypass/"+r.instance+"/1", r.admin)
		if n < 2 {
			t.Errorf("%d connections bear our name", n)
		}
		settings, err := postgres.SessionSettings(t.Context(), p, "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout",
			"client_connection_check_interval", "synchronous_commit", "standard_conforming_strings", "search_path")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(settings, " "), "15s 5s 20s 2s on on pg_catalog"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestExpiryIsOnTheServersClockPlusGrace(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, _ := r.grant(t, p, readers)
		left := ask[float64](t, r, "select extract(epoch from rolvaliduntil - clock_timestamp())::float8 from pg_roles where rolname = $1", r.name(lease))
		if left < 3590 || left > 3601 {
			t.Errorf("the login expires in %.1f s, want an hour and a second of grace", left)
		}
		if err := p.Renew(t.Context(), lease, 2*time.Hour); err != nil {
			t.Fatal(err)
		}
		left = ask[float64](t, r, "select extract(epoch from rolvaliduntil - clock_timestamp())::float8 from pg_roles where rolname = $1", r.name(lease))
		if left < 7190 || left > 7201 {
			t.Errorf("after renewal the login expires in %.1f s", left)
		}
	})
}
