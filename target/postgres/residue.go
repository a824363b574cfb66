package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

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

// Clean makes one pass over what dead leases left. What they own goes, in every database, to a role without
// rights, never to a group: a function that runs with its owner's rights must not gain any. Clean also drops
// tombstones that have served, takes from groups what a lease made in their name (possible on 15), brings groups
// in order, and drops those that nobody uses.
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
		all, err = p.remains(ctx, c)
		return err
	})
	if err != nil {
		return target.Residue{}, err
	}
	byDatabase := map[string][]string{}
	for _, r := range all {
		database := r.database
		if database == "" {
			database = p.place.database
		}
		byDatabase[database] = append(byDatabase[database], r.role)
	}
	for _, database := range sortedKeys(byDatabase) {
		if err := p.inherit(ctx, database, sortedSet(byDatabase[database])); err != nil {
			p.log.WarnContext(ctx, "what dead leases left stays", "target", p.place.title(), "database", database, "err", err)
		}
	}
	for _, g := range p.groups.all() {
		if err := p.control(ctx, func(ctx context.Context, c *conn) error { return p.buildGroup(ctx, c, g) }); err != nil {
			p.log.WarnContext(ctx, "a group is not in order", "target", p.place.title(), "role", g.role, "err", err)
		}
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
			where starts_with(r.rolname, $1) and not r.rolcanlogin`, p.names.loginPrefix()).Scan(&left.Leases, &left.Objects)
	})
	return left, err
}

// remains lists the dead logins on which things depend, and the groups that own things.
func (p *Postgres) remains(ctx context.Context, c *conn) ([]remains, error) {
	rows, err := c.Query(ctx, `select distinct r.rolname::text, coalesce(b.datname::text, '')
		from pg_roles r join pg_shdepend d on d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid
		left join pg_database b on b.oid = d.dbid
		where starts_with(r.rolname, $1) and not r.rolcanlogin or starts_with(r.rolname, $2) and d.deptype = 'o'`,
		p.names.loginPrefix(), p.names.groupPrefix())
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

// inherit gives what roles own in database to the heir.
func (p *Postgres) inherit(ctx context.Context, database string, roles []string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*opTimeout)
	defer cancel()
	c, err := p.dialer.dial(ctx, database)
	if err != nil {
		return err
	}
	defer c.hangUp()
	var failed []error
	for _, role := range roles {
		creator, err := p.creatorOf(ctx, c, role)
		if err != nil {
			return err
		}
		text := p.joinHeir(c) + p.join(c, role, creator) +
			disarm(role) + fmt.Sprintf("reassign owned by %s to %s;", quote(role), quote(p.names.heir()))
		if _, login := p.names.lease(role); login {
			// What is left after that is what was given to it, in this database.
			text += fmt.Sprintf("drop owned by %s;", quote(role))
		} else {
			defaults, err := p.defaultsOf(ctx, c, role)
			if err != nil {
				return err
			}
			text += defaults + p.leave(c, role)
		}
		if err := c.transact(ctx, impatient*4, text); err != nil {
			failed = append(failed, fmt.Errorf("role %s: %w", role, err))
			if broken(err) {
				break
			}
		}
	}
	return errors.Join(failed...)
}

// disarm is the text that takes from everybody what role let them do with its things, and from its functions the
// rights of their owner. All that dead leases leave has one owner: what one of them left must not be reached through
// a function or view of another.
func disarm(role string) string {
	return `do $do$ declare o record; g record; me oid := (select oid from pg_roles where rolname = ` + literal(role) + `); begin
		for o in select 'table' as kind, c.oid::regclass::text as name, c.relacl as acl from pg_class c where c.relowner = me and c.relkind in ('r', 'v', 'm', 'f', 'p', 'S')
			union all select 'schema', quote_ident(n.nspname), n.nspacl from pg_namespace n where n.nspowner = me
			union all select case when f.prokind = 'a' then 'routine' else 'routine+' end, f.oid::regprocedure::text, f.proacl from pg_proc f where f.proowner = me
		loop
			if o.kind = 'routine+' then execute format('alter routine %s security invoker', o.name); end if;
			execute format('revoke all on %s %s from public cascade', rtrim(o.kind, '+'), o.name);
			for g in select distinct pg_get_userbyid(a.grantee) as name from aclexplode(o.acl) a where a.grantee not in (0, me) loop
				execute format('revoke all on %s %s from %I cascade', rtrim(o.kind, '+'), o.name, g.name);
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

// joinHeir lets the administrator hand things to the heir. It stays a member: the heir has no rights to give.
func (p *Postgres) joinHeir(c *conn) string {
	text := fmt.Sprintf("grant %s to %s", quote(p.names.heir()), quote(p.place.user))
	if c.modern() {
		text += " with inherit true, set true"
	}
	return text + ";"
}

// join makes the administrator a member of role, which it must be to touch what the role owns. Who made the role may
// give it: a creator of ours (login) or the administrator itself (group).
func (p *Postgres) join(c *conn, role, creator string) string {
	text := fmt.Sprintf("grant %s to %s%s;", quote(role), quote(p.place.user), p.options(c))
	return p.as(c, creator) + text + p.as(c, "")
}

// leave undoes join for a role that the administrator made.
func (p *Postgres) leave(c *conn, role string) string {
	if c.modern() {
		return fmt.Sprintf("revoke inherit option for %s from %s;", quote(role), quote(p.place.user))
	}
	return fmt.Sprintf("revoke %s from %s;", quote(role), quote(p.place.user))
}

// defaultsOf is the text that undoes default privileges which a lease left in the name of a group (15).
func (p *Postgres) defaultsOf(ctx context.Context, c *conn, role string) (string, error) {
	rows, err := c.Query(ctx, `select distinct format('alter default privileges for role %I %s revoke all on %s from %s;', $1::text,
			case when n.nspname is null then '' else format('in schema %I', n.nspname) end,
			case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'routines' when 'T' then 'types' when 'n' then 'schemas' end,
			case when a.grantee = 0 then 'public' else format('%I', pg_get_userbyid(a.grantee)) end)
		from pg_default_acl d left join pg_namespace n on n.oid = d.defaclnamespace, aclexplode(d.defaclacl) a
		where d.defaclrole = (select oid from pg_roles where rolname = $1) and a.grantee <> d.defaclrole
			and (n.nspname is not null or a.grantee <> 0)`, role)
	if err != nil {
		return "", err
	}
	all, err := collect[string](rows)
	text := ""
	for _, one := range all {
		text += one
	}
	return text, err
}

// dropEmpty drops dead logins on which nothing depends: what Clean has just emptied, and tombstones that have
// stood long enough. Nothing of ours that could land late is left, since the fence came before.
func (p *Postgres) dropEmpty(ctx context.Context, c *conn) error {
	rows, err := c.Query(ctx, `select r.rolname::text from pg_roles r where starts_with(r.rolname, $1) and not r.rolcanlogin
		and coalesce(r.rolvaliduntil, '-infinity') < clock_timestamp() - $2::text::interval
		and not exists (select from pg_shdepend d where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid)`,
		p.names.loginPrefix(), tombstoneAge)
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
