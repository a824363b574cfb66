package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/daypass/daypass/target"
)

// tombstoneAge is how long a tombstone stands. What it guards against is ended when Clean runs, so that this is
// a margin for what cannot be seen, such as a pooler between us and the server.
const tombstoneAge = "1 hour"

// remains is a role of ours that may not log in and on which things depend, in one database (empty: shared ones).
type remains struct {
	role     string
	database string
}

// Clean makes one pass over what dead leases left. What a lease owned stays with its own dead login, which may not
// log in, has no rights, no members and no sessions: PostgreSQL runs functions, views and index expressions with
// the rights of their owner, also long after (ANALYZE, autovacuum), so that an owner which two leases share would
// let one reach what the other left, and a group would give it the rights of the living. Clean disarms those
// things where they are, counts them, and drops the login once a DBA has moved or dropped them. Clean also drops
// tombstones that have served, takes from groups what a lease made in their name (possible on 15), brings groups in
// order, and drops those that nobody uses.
func (p *Postgres) Clean(ctx context.Context) (target.Residue, error) {
	left, err := p.clean(ctx)
	if err != nil {
		return target.Residue{}, fmt.Errorf("clean %s: %w", p.place.title(), err)
	}
	return left, nil
}

func (p *Postgres) clean(ctx context.Context) (target.Residue, error) {
	var all []remains
	err := p.control(ctx, func(ctx context.Context, c *conn) error {
		if err := p.strays.fence(ctx, c); err != nil {
			return err
		}
		if err := p.furnish(ctx, c); err != nil {
			return err
		}
		var err error
		all, err = p.remains(ctx, c, true)
		return err
	})
	if err != nil {
		return target.Residue{}, err
	}
	p.disarmAll(ctx, all, 4*impatient)
	if err := p.mend(ctx); err != nil {
		return target.Residue{}, err
	}
	var left target.Residue
	err = p.control(ctx, func(ctx context.Context, c *conn) error {
		if err := p.dropEmpty(ctx, c); err != nil {
			return err
		}
		if err := p.dropUnused(ctx, c); err != nil {
			return err
		}
		return c.QueryRow(ctx, `select count(distinct r.oid), count(*) from pg_roles r
			join pg_shdepend d on d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid
			where not r.rolcanlogin and (starts_with(r.rolname, $1) or starts_with(r.rolname, $2))`,
			p.names.loginPrefix(), p.names.stashPrefix()).Scan(&left.Leases, &left.Objects)
	})
	return left, err
}

// mend brings the groups of this database in order, those of this process and those that leases of earlier ones are
// members of. A member can take default privileges from its group (DROP OWNED asks for no more than inherited rights).
func (p *Postgres) mend(ctx context.Context) error {
	return p.control(ctx, func(ctx context.Context, c *conn) error {
		all, err := p.groupsHere(ctx, c)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(g group) bool { return p.groups.has(g.name) })
		for _, g := range append(p.groups.all(), all...) {
			err := p.buildGroup(ctx, c, g)
			if err != nil && broken(err) {
				return err
			}
			if err != nil {
				p.log.WarnContext(ctx, "a group is not in order", "target", p.place.title(), "role", g.role, "err", err)
			}
		}
		return nil
	})
}

// disarmAll disarms remains, database by database. What cannot be disarmed now stays for the next pass.
func (p *Postgres) disarmAll(ctx context.Context, all []remains, patience time.Duration) {
	p.disarming.Lock()
	defer p.disarming.Unlock()
	byDatabase := map[string][]string{}
	for _, r := range all {
		database := r.database
		if database == "" {
			database = p.place.database
		}
		byDatabase[database] = append(byDatabase[database], r.role)
	}
	for _, database := range sortedKeys(byDatabase) {
		if err := p.disarmIn(ctx, database, sortedSet(byDatabase[database]), patience); err != nil {
			p.log.WarnContext(ctx, "what dead leases left is not disarmed", "target", p.place.title(), "database", database, "err", err)
		}
	}
}

// disownGroups takes from groups what a lease made in their name, before 16, where a member can act as its group:
// such a function keeps the rights of the group when the lease is dead. It costs one query when there is none.
func (p *Postgres) disownGroups(ctx context.Context, c *conn) error {
	if c.modern() {
		return nil
	}
	all, err := p.remains(ctx, c, false)
	if err != nil || len(all) == 0 {
		return err
	}
	// The living can hold locks on such things, which must not hold up the dead for long.
	ctx, cancel := context.WithTimeout(ctx, 4*impatient)
	defer cancel()
	p.disarmAll(ctx, all, impatient)
	return nil
}

// remains lists the groups that own things and, if asked, the dead logins and stashes on which things depend.
func (p *Postgres) remains(ctx context.Context, c *conn, dead bool) ([]remains, error) {
	rows, err := c.Query(ctx, `select distinct r.rolname::text, coalesce(b.datname::text, '')
		from pg_roles r join pg_shdepend d on d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid
		left join pg_database b on b.oid = d.dbid
		where not r.rolcanlogin and (starts_with(r.rolname, $1) and d.deptype = 'o' or $4 and (starts_with(r.rolname, $2) or starts_with(r.rolname, $3)))`,
		p.names.groupPrefix(), p.names.loginPrefix(), p.names.stashPrefix(), dead)
	if err != nil {
		return nil, err
	}
	var all []remains
	for rows.Next() {
		var r remains
		if err := rows.Scan(&r.role, &r.database); err != nil {
			rows.Close()
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// disarmIn disarms what roles own in database.
func (p *Postgres) disarmIn(ctx context.Context, database string, roles []string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, 2*opTimeout)
	defer cancel()
	c, err := p.dialer.dial(ctx, database)
	if err != nil {
		return err
	}
	defer c.hangUp()
	rows, err := c.Query(ctx, `select r.rolname::text, `+owning+` from pg_roles r
		where r.rolname = any($1) and (starts_with(r.rolname, $2) or not `+owning+` or `+armed+`)`, roles, p.names.groupPrefix())
	if err != nil {
		return err
	}
	owns := map[string]bool{} // of those that there is something to do for
	for rows.Next() {
		var name string
		var some bool
		if err := rows.Scan(&name, &some); err != nil {
			rows.Close()
			return err
		}
		owns[name] = some
	}
	if rows.Err() != nil {
		return rows.Err()
	}
	var failed []error
	for _, role := range sortedKeys(owns) {
		text, err := p.disarmText(ctx, c, role, owns[role])
		if err == nil {
			err = c.transact(ctx, patience, text)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("role %s: %w", role, err))
			if broken(err) {
				break
			}
		}
	}
	return errors.Join(failed...)
}

// disarmText is what disarms one role in the database of c, as the administrator in its place.
func (p *Postgres) disarmText(ctx context.Context, c *conn, role string, owns bool) (string, error) {
	creator, err := p.creatorOf(ctx, c, role)
	if err != nil {
		return "", err
	}
	text := p.join(c, role, creator)
	if strings.HasPrefix(role, p.names.groupPrefix()) {
		defaults, err := p.defaultsOf(ctx, c, role)
		if err != nil {
			return "", err
		}
		text += defaults
		if owns {
			text += disarm(role) + p.stash(c, role)
		}
		return text + p.leave(c, role, creator), nil
	}
	if owns {
		return text + disarm(role) + p.leave(c, role, creator), nil
	}
	// What is left is what was given to it in this database, and what it wished for things that it will never make.
	return text + fmt.Sprintf("drop owned by %s;", quote(role)) + p.leave(c, role, creator), nil
}

// stash is the text that moves what a group owns to a role of its own, new each time, as if the lease that made it
// had owned it: a group lends its rights to whatever it owns.
func (p *Postgres) stash(c *conn, role string) string {
	fresh, options := quote(p.names.stashPrefix()+strings.ToLower(rand.Text()[:16])), ""
	if c.modern() {
		options = " with inherit true, set true"
	}
	return fmt.Sprintf("create role %[1]s nologin; comment on role %[1]s is 'what leases made in the name of a group'; grant %[1]s to %[2]s%[3]s;"+
		"reassign owned by %[4]s to %[1]s; revoke %[1]s from %[2]s;", fresh, quote(p.place.user), options, quote(role))
}

// owning reports whether role r owns anything in this database, wishes for the future apart.
const owning = `exists (select from pg_shdepend d where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid and d.deptype = 'o'
	and d.classid <> 'pg_default_acl'::regclass and d.dbid in (0, (select oid from pg_database where datname = current_database())))`

// things lists what role r owns in this database that others can be let into.
const things = `(select case c.relkind when 'S' then 'sequence' else 'table' end as kind, c.oid::regclass::text as name, false as definer,
		nullif(c.relacl || coalesce((select array_agg(i) from pg_attribute t, unnest(t.attacl) i where t.attrelid = c.oid), '{}'::aclitem[]), '{}'::aclitem[]) as acl
		from pg_class c where c.relowner = r.oid and c.relkind in ('r', 'v', 'm', 'f', 'p', 'S')
	union all select 'schema', quote_ident(n.nspname), false, n.nspacl from pg_namespace n where n.nspowner = r.oid
	union all select 'large object', l.oid::text, false, l.lomacl from pg_largeobject_metadata l where l.lomowner = r.oid
	union all select 'routine', f.oid::regprocedure::text, f.prosecdef, coalesce(f.proacl, acldefault('f', f.proowner)) from pg_proc f where f.proowner = r.oid)`

// armed reports whether role r has let anybody into its things, or lends its rights by them.
const armed = `exists (select from ` + things + ` o where o.definer or exists (select from aclexplode(o.acl) a where a.grantee <> r.oid))`

// disarm is the text that takes from everybody what role let them do with its things, and from its functions the
// rights of their owner.
func disarm(role string) string {
	return `do $do$ declare o record; g record; begin
		for o in select t.*, r.oid as me from pg_roles r, lateral ` + things + ` t where r.rolname = ` + literal(role) + ` loop
			if o.definer then execute format('alter routine %s security invoker', o.name); end if;
			for g in select distinct case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end as name
				from aclexplode(o.acl) a where a.grantee <> o.me loop
				execute format('revoke all on %s %s from %s cascade', o.kind, o.name, g.name);
			end loop;
		end loop; end $do$;`
}

// creatorOf returns the creator of a login, empty for what the administrator made itself.
func (p *Postgres) creatorOf(ctx context.Context, c *conn, role string) (string, error) {
	lease, login := p.names.lease(role)
	if !login {
		return "", nil
	}
	found, err := p.find(ctx, c, []string{lease})
	if err != nil || len(found) == 0 {
		return "", err
	}
	return found[0].creator, nil
}

func (p *Postgres) options(c *conn) string {
	if c.modern() {
		return " with inherit true, set false"
	}
	return ""
}

// join makes the administrator a member of role, which it must be to touch what the role owns. Who made the role may
// give it: a creator of ours (login) or the administrator itself (group).
func (p *Postgres) join(c *conn, role, creator string) string {
	text := fmt.Sprintf("grant %s to %s%s;", quote(role), quote(p.place.user), p.options(c))
	return p.as(c, creator) + text + p.as(c, "")
}

// leave undoes join.
func (p *Postgres) leave(c *conn, role, creator string) string {
	switch {
	case !c.modern():
		return fmt.Sprintf("revoke %s from %s;", quote(role), quote(p.place.user))
	case creator != "":
		return p.as(c, creator) + fmt.Sprintf("revoke %s from %s;", quote(role), quote(p.place.user)) + p.as(c, "")
	}
	return fmt.Sprintf("revoke inherit option for %s from %s;", quote(role), quote(p.place.user))
}

// defaultsOf is the text that undoes default privileges which a lease left in the name of a group (15): what a
// schema adds goes, and what holds everywhere becomes what the server comes with, which then forgets it.
func (p *Postgres) defaultsOf(ctx context.Context, c *conn, role string) (string, error) {
	rows, err := c.Query(ctx, `with d as (select d.*, n.nspname,
			case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'routines' when 'T' then 'types' when 'n' then 'schemas' else 'large objects' end as kind,
			format('alter default privileges for role %I %s ', $1::text, case when n.nspname is null then '' else format('in schema %I', n.nspname) end) as head
			from pg_default_acl d left join pg_namespace n on n.oid = d.defaclnamespace
			where d.defaclrole = (select oid from pg_roles where rolname = $1))
		select text from (
			select 1 as step, head || format('revoke all on %s from %s;', kind, case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end) as text
				from d, aclexplode(d.defaclacl) a where a.grantee <> d.defaclrole or d.nspname is not null
			union select 2, head || format('grant all on %s to %I;', kind, $1::text) from d where nspname is null
			union select 3, head || format('grant all on %s to public;', kind) from d where nspname is null and defaclobjtype in ('f', 'T')) all_steps
		order by step, text`, role)
	if err != nil {
		return "", err
	}
	all, err := collect[string](rows)
	return strings.Join(all, ""), err
}

// dropEmpty drops dead logins and stashes on which nothing depends: emptied ones, and tombstones that have stood long
// enough. Nothing of ours that could land late is left, since the fence came before.
func (p *Postgres) dropEmpty(ctx context.Context, c *conn) error {
	rows, err := c.Query(ctx, `select r.rolname::text from pg_roles r where (starts_with(r.rolname, $1) or starts_with(r.rolname, $3)) and not r.rolcanlogin
		and coalesce(r.rolvaliduntil, '-infinity') < clock_timestamp() - $2::text::interval
		and not exists (select from pg_shdepend d where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid)`,
		p.names.loginPrefix(), tombstoneAge, p.names.stashPrefix())
	if err != nil {
		return err
	}
	names, err := collect[string](rows)
	if err != nil {
		return err
	}
	for _, name := range names {
		creator, err := p.creatorOf(ctx, c, name)
		if err == nil {
			err = c.transact(ctx, impatient, p.as(c, creator)+"drop role if exists "+quote(name)+";")
		}
		if err != nil && broken(err) {
			return err
		}
	}
	return nil
}

// dropUnused drops groups without members that no grant of this process has used: the role has changed or gone.
// One that is wanted again is made again.
func (p *Postgres) dropUnused(ctx context.Context, c *conn) error {
	rows, err := c.Query(ctx, `select r.rolname::text from pg_roles r where starts_with(r.rolname, $1)
		and not exists (select from pg_auth_members m join pg_roles u on u.oid = m.member where m.roleid = r.oid and starts_with(u.rolname, $2))
		and not exists (select from pg_shdepend d where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid
			and (d.deptype = 'o' or d.dbid not in (0, (select oid from pg_database where datname = current_database()))))`,
		p.names.groupPrefix(), p.names.loginPrefix())
	if err != nil {
		return err
	}
	names, err := collect[string](rows)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, p.groups.has)
	for _, name := range names {
		err := c.transact(ctx, impatient, p.join(c, name, "")+"drop owned by "+quote(name)+"; drop role "+quote(name)+";")
		if err != nil && broken(err) {
			return err
		}
	}
	return nil
}
