package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/daypass/daypass/target"
)

// standing is what the administrator and its server are, as far as Check judges them.
type standing struct {
	super, createRole, createDB, replication, bypassRLS bool
	signals                                             bool     // may end the sessions of others
	reserved                                            []string // predefined roles that it does not need, nor may hand out
	public                                              []string // databases that everybody may connect to
	logged, encryption, commit                          string
	prepared, standbys                                  int
	connections, locks, kept                            int  // max_connections, max_locks_per_transaction, reserved_connections
	keeps                                               bool // may use reserved connections
}

// Check tells what the administrator lacks and what it has too much of.
func (p *Postgres) Check(ctx context.Context) ([]target.Finding, error) {
	var found []target.Finding
	err := p.control(ctx, func(ctx context.Context, c *conn) error {
		s, err := p.look(ctx, c)
		if err != nil {
			return err
		}
		found = append(p.lacks(s), p.exceeds(c, s)...)
		found = append(found, p.surroundings(c, s)...)
		left, err := p.leftovers(ctx, c)
		if err != nil {
			return err
		}
		found = append(found, left...)
		if err := p.furnish(ctx, c); err != nil {
			if broken(err) {
				return err
			}
			found = append(found, target.Finding{Severity: target.Problem, Message: "daypass cannot make its own roles: " + err.Error(), Fix: "docs/howto/postgres-administrator.sql"})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", p.place.title(), explain(err))
	}
	return found, nil
}

func (p *Postgres) look(ctx context.Context, c *conn) (standing, error) {
	var s standing
	err := c.QueryRow(ctx, `select rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,
			rolsuper or pg_has_role('pg_signal_backend', 'USAGE'),
			array(select r.rolname::text from pg_roles r where starts_with(r.rolname, 'pg_') and r.rolname not in ('pg_signal_backend', 'pg_database_owner', 'pg_use_reserved_connections')
				and not exists (select from pg_roles l where l.rolname = any($1) and pg_has_role(l.oid, r.oid, 'MEMBER')) and not u.rolsuper and pg_has_role(u.oid, r.oid, 'MEMBER') order by 1),
			array(select datname::text from pg_database where datallowconn and has_database_privilege('public', oid, 'CONNECT') and datname <> current_database() order by 1),
			current_setting('log_statement'), current_setting('password_encryption'), current_setting('synchronous_commit'),
			current_setting('max_prepared_transactions')::int, (select count(*) from pg_stat_replication),
			current_setting('max_connections')::int, current_setting('max_locks_per_transaction')::int, coalesce(current_setting('reserved_connections', true), '0')::int,
			exists (select from pg_roles r where r.rolname = 'pg_use_reserved_connections' and pg_has_role(r.oid, 'USAGE'))
		from pg_roles u where rolname = current_user`, append([]string{}, p.cfg.AllowRoles...)).Scan(&s.super, &s.createRole, &s.createDB, &s.replication, &s.bypassRLS, &s.signals,
		&s.reserved, &s.public, &s.logged, &s.encryption, &s.commit, &s.prepared, &s.standbys,
		&s.connections, &s.locks, &s.kept, &s.keeps)
	return s, err
}

// lacks are the findings without which something does not work.
func (p *Postgres) lacks(s standing) []target.Finding {
	var found []target.Finding
	user := quote(p.place.user)
	if !s.super && !s.createRole {
		found = append(found, target.Finding{Severity: target.Problem, Message: "the administrator may not create roles", Fix: "alter role " + user + " createrole"})
	}
	if !s.signals {
		found = append(found, target.Finding{Severity: target.Problem, Message: "the administrator may not end sessions, so that they would outlive their leases", Fix: "grant pg_signal_backend to " + user})
	}
	return found
}

// exceeds are the findings of more power than is needed.
func (p *Postgres) exceeds(c *conn, s standing) []target.Finding {
	var found []target.Finding
	user := quote(p.place.user)
	warn := func(message, fix string) {
		found = append(found, target.Finding{Severity: target.Warning, Message: message, Fix: fix})
	}
	for _, attribute := range []struct {
		has  bool
		word string
	}{{s.super, "superuser"}, {s.createDB, "createdb"}, {s.replication, "replication"}, {s.bypassRLS, "bypassrls"}} {
		if attribute.has {
			warn("the administrator is "+attribute.word+", which daypass does not need", "alter role "+user+" no"+attribute.word)
		}
	}
	if len(s.reserved) > 0 {
		warn("the administrator is a member of "+strings.Join(s.reserved, ", ")+", which daypass does not need", "revoke "+s.reserved[0]+" from "+user)
	}
	if !c.modern() && !s.super {
		warn("before PostgreSQL 16 a login with createrole can reset passwords of others and grant itself predefined roles: it is close to a superuser", "guard its password as a superuser's, or upgrade to 16 or later")
	}
	if !p.place.local() && p.place.sslmode != "verify-full" {
		warn("sslmode="+p.place.sslmode+" lets another server of the same authority take the place of this one", "sslmode=verify-full")
	}
	if host, _, sslmode := p.place.told(p.cfg.Client); sslmode != "verify-full" && sslmode != "verify-ca" && !(endpoint{host: host}).local() {
		warn("workloads are told sslmode="+sslmode+" for "+host+", so that another server can take its place and read what they send", "client: {sslmode: verify-full, ca: {file: …}}")
	}
	if p.place.channelBinding == "disable" {
		warn("channel_binding=disable lets whoever holds a certificate of the server's name pass the login on", "leave channel_binding away")
	}
	if s.encryption != "scram-sha-256" {
		warn("password_encryption="+s.encryption+": passwords that people set would not be kept as scram-sha-256, the only kind that daypass logs in with", "alter system set password_encryption = 'scram-sha-256' (as a superuser)")
	}
	return found
}

// surroundings are findings of the server that an operator should know.
func (p *Postgres) surroundings(c *conn, s standing) []target.Finding {
	var found []target.Finding
	note := func(message, fix string) {
		found = append(found, target.Finding{Severity: target.Note, Message: message, Fix: fix})
	}
	if len(s.public) > 0 {
		note("every login can connect to these databases too, since the public may: "+strings.Join(s.public, ", "), "revoke connect on database "+quote(s.public[0])+" from public")
	}
	if s.logged == "ddl" || s.logged == "all" {
		note("log_statement="+s.logged+" writes password verifiers to the server's log", "alter role "+quote(p.place.user)+" set log_statement = 'none' (as a superuser)")
	}
	if s.prepared > 0 {
		note("prepared transactions are on: one that a dead lease left keeps its locks, and its role stays as residue", "max_prepared_transactions = 0")
	}
	switch {
	case !c.modern():
		note(fmt.Sprintf("before PostgreSQL 16 no connections can be kept for daypass: leases that fill the server (max_connections=%d) keep a daypass out that starts then, until somebody ends one", s.connections),
			"keep the sum of what leases may open (connection_limit, 20 when absent) below it, or upgrade to 16 or later")
	case s.kept == 0:
		note("no connections are kept for daypass: leases that fill the server keep a daypass out that starts then, until somebody ends one", "alter system set reserved_connections = 10 (as a superuser, and restart)")
	case !s.keeps:
		note("the administrator may not use the connections that are reserved", "grant pg_use_reserved_connections to "+quote(p.place.user))
	}
	note(fmt.Sprintf("any login can fill the server's table of locks (max_locks_per_transaction=%d), and nobody's rights or sessions can be ended until it lets go or is ended from the server's own machine", s.locks), "watch the number of rows in pg_locks")
	if s.standbys > 0 {
		found = append(found, target.Finding{Severity: target.Warning, Message: "there are standbys: sessions on them are not seen from here, and are not promised to end", Fix: "refuse logins of daypass in pg_hba.conf of the standbys"})
	}
	return found
}

// leftovers are what dead leases own, which a DBA must look at: who takes over a function, a trigger or an index
// expression lends it the rights of the new owner.
func (p *Postgres) leftovers(ctx context.Context, c *conn) ([]target.Finding, error) {
	const most = 20
	rows, err := c.Query(ctx, `select r.rolname::text, coalesce(b.datname::text, current_database()::text), count(*), count(*) over ()
		from pg_roles r join pg_shdepend d on d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid and d.deptype = 'o'
		left join pg_database b on b.oid = d.dbid
		where not r.rolcanlogin and (starts_with(r.rolname, $1) or starts_with(r.rolname, $2)) group by 1, 2 order by 1, 2 limit $3`,
		p.names.loginPrefix(), p.names.stashPrefix(), most)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []target.Finding
	var role, database string
	var objects, all int
	for rows.Next() {
		if err := rows.Scan(&role, &database, &objects, &all); err != nil {
			return nil, err
		}
		found = append(found, target.Finding{
			Severity: target.Note,
			Message:  fmt.Sprintf("%s, which is dead, owns %d objects in database %s; functions, triggers and index expressions among them would get the rights of a new owner", role, objects, database),
			Fix:      fmt.Sprintf("in %s: reassign owned by %s to … (a role of yours), or: drop owned by %s", database, quote(role), quote(role)),
		})
	}
	if all > most {
		found = append(found, target.Finding{Severity: target.Note, Message: fmt.Sprintf("and %d more of such", all-most)})
	}
	return found, rows.Err()
}
