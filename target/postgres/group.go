package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// groupSet remembers which groups are in order, so that a grant costs no look at its group. A group that turns
// out to be gone is forgotten and made again.
type groupSet struct {
	mu    sync.Mutex
	known map[string]group
}

// group is a role of ours that holds the rights of one Daypass role.
type group struct {
	name   string
	role   string // of Daypass
	rights Rights // the part that groups hold
}

// groupOf is the group of a role that has rights.
func (p *Postgres) groupOf(role string, rights Rights) group {
	return group{name: p.names.group(role, rights.ofGroup()), role: role, rights: Rights{Grants: rights.Grants, InRole: rights.InRole, Owner: rights.Owner}}
}

func (s *groupSet) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.known[name]
	return known
}

func (s *groupSet) put(g group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]group{}
	}
	s.known[g.name] = g
}

func (s *groupSet) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, name)
}

func (s *groupSet) all() []group {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []group
	for _, g := range s.known {
		all = append(all, g)
	}
	return all
}

// ensureGroup makes the group or brings it in order. A new group needs everything that its rights name; one that
// exists keeps what it has when a table has gone since, so that a DBA's change stops nobody.
func (p *Postgres) ensureGroup(ctx context.Context, g group) error {
	if p.groups.has(g.name) {
		return nil
	}
	err := p.control(ctx, func(ctx context.Context, c *conn) error {
		if p.groups.has(g.name) {
			return nil
		}
		if err := p.furnish(ctx, c); err != nil {
			return err
		}
		if err := p.buildGroup(ctx, c, g); err != nil {
			return err
		}
		p.groups.put(g)
		return nil
	})
	if err != nil {
		return fmt.Errorf("group of the role: %w", err)
	}
	return nil
}

// buildGroup does the work of ensureGroup in one transaction.
func (p *Postgres) buildGroup(ctx context.Context, c *conn, g group) error {
	var exists bool
	var about string
	err := c.QueryRow(ctx, "select count(*) > 0, coalesce(min(shobj_description(oid, 'pg_authid')), '') from pg_roles where rolname = $1", g.name).Scan(&exists, &about)
	if err != nil {
		return err
	}
	if err := p.checkRoles(ctx, c, g.rights); err != nil {
		return err
	}
	var script strings.Builder
	script.WriteString("begin;")
	if !exists {
		fmt.Fprintf(&script, "create role %s nologin;", quote(g.name))
	}
	if about != p.about(g) {
		fmt.Fprintf(&script, "comment on role %s is %s;", quote(g.name), literal(p.about(g)))
	}
	for i, privileges := range g.rights.Grants {
		missing, err := p.writePrivileges(ctx, c, &script, g.name, privileges)
		if err != nil {
			return err
		}
		if len(missing) > 0 && !exists && len(privileges.Names) > 0 {
			return fmt.Errorf("grants[%d]: the administrator cannot grant %s on %s: they do not exist, or its grant option is missing",
				i, strings.Join(privileges.Privileges, ", "), strings.Join(missing, ", "))
		}
		if len(missing) > 0 {
			p.log.WarnContext(ctx, "a role reaches less than it names", "target", p.place.title(), "role", g.role, "without", strings.Join(missing, ", "))
		}
	}
	p.writeMemberships(&script, c, g)
	script.WriteString("commit")
	if err := c.script(ctx, script.String()); err != nil {
		if !broken(err) {
			_ = c.script(ctx, "rollback") // a connection that cannot even do that is seen at its next use
		}
		return err
	}
	return nil
}

// aboutGroup is the comment on a group: what it is for, since its name must not tell.
type aboutGroup struct {
	Database string `json:"database"`
	Rights   Rights `json:"rights"`
	Role     string `json:"role"`
}

func (p *Postgres) about(g group) string {
	text, err := json.Marshal(aboutGroup{Role: g.role, Database: p.place.database, Rights: g.rights})
	if err != nil {
		panic(err) // made of strings and booleans
	}
	return string(text)
}

// writeMemberships gives the group the roles that exist, and lets the creators hand out the group and the owner.
func (p *Postgres) writeMemberships(script *strings.Builder, c *conn, g group) {
	for _, role := range g.rights.InRole {
		fmt.Fprintf(script, "grant %s to %s", quote(role), quote(g.name))
		if c.modern() {
			script.WriteString(" with inherit true, set false")
		}
		script.WriteString(";")
	}
	if !c.modern() {
		return
	}
	given := []string{g.name}
	if g.rights.Owner != "" {
		given = append(given, g.rights.Owner)
	}
	fmt.Fprintf(script, "grant %s to %s with admin true, inherit false, set false;", quoteAll(given), quoteAll(p.names.creators()))
}

// checkRoles refuses memberships that would give more than anybody means: predefined roles and roles with power beyond
// data, directly or by way of others, unless the server's own configuration lists one on the way. No list allows
// superusers or roles of ours. Whoever inherits from the superuser that made the server owns the functions of its
// catalog, and can put code of its own into one that superusers call; our creators and our administrator make and end
// every lease. Neither leaves anything that a lease would be a part of.
func (p *Postgres) checkRoles(ctx context.Context, c *conn, rights Rights) error {
	wanted := slices.Clone(rights.InRole)
	if rights.Owner != "" {
		wanted = append(wanted, rights.Owner)
	}
	if len(wanted) == 0 {
		return nil
	}
	rows, err := c.Query(ctx, "select rolname from pg_roles where rolname = any($1)", wanted)
	if err != nil {
		return err
	}
	found, err := collect[string](rows)
	if err != nil {
		return err
	}
	for _, name := range wanted {
		if !slices.Contains(found, name) {
			return fmt.Errorf("role %q does not exist at the server", name)
		}
	}
	var never, powerful []string
	err = c.QueryRow(ctx, `with recursive reached (oid, listed) as (
			select oid, rolname = any($2) from pg_roles where rolname = any($1)
			union select r.oid, u.listed or r.rolname = any($2) from reached u join pg_auth_members m on m.member = u.oid join pg_roles r on r.oid = m.roleid),
		judged as (select r.rolname::text as name, listed, r.rolsuper or r.oid = $4 or r.rolname ~ ('^dp[a-z]?_' || $3 || '(_|$)') as never,
			r.rolcreaterole or r.rolreplication or r.rolbypassrls or r.rolcreatedb or starts_with(r.rolname, 'pg_') as powerful
			from reached join pg_roles r using (oid))
		select array(select name from judged where never group by name order by name = any($1) desc, name limit 1), -- one is enough, and one of ours leads to all
			array(select distinct name from judged where powerful and not listed order by name)`,
		wanted, append([]string{}, p.cfg.AllowRoles...), p.names.instance, c.me).Scan(&never, &powerful)
	switch {
	case err != nil:
		return err
	case len(never) > 0:
		return fmt.Errorf("in_role and owner lead to %s: superusers and the roles of daypass are for no lease, listed in daypass.yaml or not", strings.Join(never, ", "))
	case len(powerful) > 0:
		all := strings.Join(powerful, ", ")
		return fmt.Errorf("in_role and owner lead to %s, which may do more than read and write data; to allow it, write postgres: {allow_roles: [%s]} into daypass.yaml and start the server again", all, all)
	}
	return nil
}

// objectsQuery is the query of one kind of thing: its identifier, its name, and whether we may grant on it.
func objectsQuery(kind string) string {
	grantable := func(function string) string {
		return "(select bool_and(" + function + "(o.oid, word || ' WITH GRANT OPTION')) from unnest($2::text[]) word)"
	}
	switch kind {
	case onTables:
		return `select format('%I.%I', n.nspname, o.relname), o.relname::text, ` + grantable("has_table_privilege") + `, o.relowner
			from pg_class o join pg_namespace n on n.oid = o.relnamespace where n.nspname = $1 and o.relkind in ('r', 'v', 'm', 'f', 'p')`
	case onSequences:
		return `select format('%I.%I', n.nspname, o.relname), o.relname::text, ` + grantable("has_sequence_privilege") + `, o.relowner
			from pg_class o join pg_namespace n on n.oid = o.relnamespace where n.nspname = $1 and o.relkind = 'S'`
	default:
		return `select format('%I.%I(%s)', n.nspname, o.proname, pg_get_function_identity_arguments(o.oid)), o.proname::text, ` + grantable("has_function_privilege") + `, o.proowner
			from pg_proc o join pg_namespace n on n.oid = o.pronamespace where n.nspname = $1`
	}
}

// sqlKind is the word of a kind of thing in GRANT.
func sqlKind(kind string) string {
	return map[string]string{onTables: "table", onSequences: "sequence", onFunctions: "routine", onSchema: "schema", onDatabase: "database"}[kind]
}

// writePrivileges adds what gives one entry of the grammar to the group. It returns what it cannot give.
func (p *Postgres) writePrivileges(ctx context.Context, c *conn, script *strings.Builder, group string, g Privileges) (missing []string, err error) {
	words := strings.Join(g.Privileges, ", ")
	give := func(words, kind, things string) {
		fmt.Fprintf(script, "grant %s on %s %s to %s;", words, kind, things, quote(group))
	}
	if g.On == onDatabase {
		give(words, "database", quote(p.place.database))
		return nil, nil
	}
	if g.On == onSchema {
		give(words, "schema", quote(g.Schema))
		return nil, nil
	}
	if err := p.writeUsage(ctx, c, script, group, g.Schema); err != nil {
		return nil, err
	}
	things, missing, err := p.things(ctx, c, g)
	if err != nil {
		return nil, err
	}
	for chunk := range slices.Chunk(things, 500) {
		give(words, sqlKind(g.On), strings.Join(chunk, ", "))
	}
	if g.Future {
		err = p.writeFuture(ctx, c, script, group, g)
	}
	return missing, err
}

// writeUsage adds USAGE of the schema and CONNECT to the database where the public lacks them: rights on a table
// are none without.
func (p *Postgres) writeUsage(ctx context.Context, c *conn, script *strings.Builder, group, schema string) error {
	var usage, connect bool
	err := c.QueryRow(ctx, `select bool_or(has_schema_privilege('public', n.oid, 'USAGE')), has_database_privilege('public', current_database(), 'CONNECT')
		from pg_namespace n where n.nspname = $1 having count(*) > 0`, schema).Scan(&usage, &connect)
	if err != nil {
		return fmt.Errorf("schema %q: it does not exist: %w", schema, err)
	}
	if !usage {
		fmt.Fprintf(script, "grant usage on schema %s to %s;", quote(schema), quote(group))
	}
	if !connect {
		fmt.Fprintf(script, "grant connect on database %s to %s;", quote(p.place.database), quote(group))
	}
	return nil
}

// things looks up the tables, sequences or functions of g, as identifiers that the server itself quoted.
func (p *Postgres) things(ctx context.Context, c *conn, g Privileges) (grantable, missing []string, err error) {
	rows, err := c.Query(ctx, objectsQuery(g.On), g.Schema, g.Privileges)
	if err != nil {
		return nil, nil, err
	}
	found := map[string]bool{}
	var identifier, name string
	var may bool
	var owner uint32
	for rows.Next() {
		if err := rows.Scan(&identifier, &name, &may, &owner); err != nil {
			rows.Close()
			return nil, nil, err
		}
		if len(g.Names) > 0 && !slices.Contains(g.Names, name) {
			continue
		}
		found[name] = true
		if may {
			grantable = append(grantable, identifier)
		} else {
			missing = append(missing, identifier)
		}
	}
	for _, name := range g.Names {
		if !found[name] {
			missing = append(missing, quote(g.Schema)+"."+quote(name))
		}
	}
	return grantable, missing, rows.Err()
}

// writeFuture adds default privileges: what a creator makes later is then reachable at once.
func (p *Postgres) writeFuture(ctx context.Context, c *conn, script *strings.Builder, group string, g Privileges) error {
	creators := g.Creators
	if len(creators) == 0 {
		rows, err := c.Query(ctx, `select distinct r.rolname::text from pg_roles r, pg_namespace n
			where n.nspname = $1 and r.oid in (select relowner from pg_class where relnamespace = n.oid union select proowner from pg_proc where pronamespace = n.oid union select n.nspowner)
			and pg_has_role(r.oid, 'USAGE') and not starts_with(r.rolname, 'pg_') and r.rolname !~ ('^dp[a-z]?_' || $2 || '(_|$)')`, g.Schema, p.names.instance)
		if err != nil {
			return err
		}
		if creators, err = collect[string](rows); err != nil {
			return err
		}
	}
	if len(creators) == 0 {
		return fmt.Errorf("future: the administrator is a member of none of the owners in schema %q; make it one, or name creators", g.Schema)
	}
	for _, creator := range creators {
		fmt.Fprintf(script, "alter default privileges for role %s in schema %s grant %s on %s to %s;",
			quote(creator), quote(g.Schema), strings.Join(g.Privileges, ", "), g.On, quote(group))
	}
	return nil
}
