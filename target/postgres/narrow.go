package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// groupsHere reads the groups of this database from their comments, with the rights that they hold now.
func (p *Postgres) groupsHere(ctx context.Context, c *conn) ([]group, error) {
	rows, err := c.Query(ctx, `select rolname::text, shobj_description(oid, 'pg_authid') from pg_roles
		where starts_with(rolname, $1) and shobj_description(oid, 'pg_authid') is not null order by 1`, p.names.groupPrefix())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []group
	var name, text string
	for rows.Next() {
		if err := rows.Scan(&name, &text); err != nil {
			return nil, err
		}
		var about aboutGroup
		if json.Unmarshal([]byte(text), &about) == nil && about.Database == p.place.database {
			all = append(all, group{name: name, role: about.Role, rights: about.Rights})
		}
	}
	return all, rows.Err()
}

// Narrow takes from the groups of roles what the roles no longer hold, and from their logins the owner that they no
// longer act as. Who lives in a group keeps it: a group gets no more than it had. A session that acts as a role which
// its login has lost would go on doing so, and ends; its workload may connect again. A role that is not named keeps
// its groups.
func (p *Postgres) Narrow(ctx context.Context, roles map[string]json.RawMessage) error {
	var all []group
	err := p.control(ctx, func(ctx context.Context, c *conn) (err error) {
		all, err = p.groupsHere(ctx, c)
		return err
	})
	if err != nil {
		return fmt.Errorf("narrow roles on %s: %w", p.place.title(), explain(err))
	}
	var failed []error
	for _, old := range all {
		text, named := roles[old.role]
		if !named {
			continue
		}
		rights, err := ParseRights(text)
		if now := p.groupOf(old.role, rights); err == nil && now.name != old.name {
			err = p.narrow(ctx, old, old.rights.within(now.rights))
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("narrow role %q on %s: %w", old.role, p.place.title(), explain(err)))
		}
	}
	return errors.Join(failed...)
}

// narrow makes rights all that a group holds, in one transaction: nobody sees it with less. The comment comes last,
// so that what fails on the way is done again.
func (p *Postgres) narrow(ctx context.Context, old group, rights Rights) error {
	if slices.Equal(rights.ofGroup(), old.rights.ofGroup()) {
		return nil
	}
	return p.control(ctx, func(ctx context.Context, c *conn) error {
		p.groups.forget(old.name) // who wants it again, wants it whole
		if err := p.takeRights(ctx, c, old, rights); err != nil {
			return err
		}
		lostOwner := old.rights.Owner != rights.Owner
		mayAct := !c.modern() && len(old.rights.InRole) > len(rights.InRole) // before 16 members may SET ROLE
		if lostOwner || mayAct {
			if err := p.takeOwner(ctx, c, old, lostOwner); err != nil {
				return err
			}
		}
		if err := c.script(ctx, fmt.Sprintf("comment on role %s is %s", quote(old.name), literal(p.about(group{role: old.role, rights: rights})))); err != nil {
			return err
		}
		p.log.InfoContext(ctx, "a role was narrowed, and leases that live with it", "target", p.place.title(), "role", old.role)
		return nil
	})
}

// takeRights makes rights all that a group holds. What cannot be given again is lost for now: the part that must go
// does not wait for a schema that somebody dropped.
func (p *Postgres) takeRights(ctx context.Context, c *conn, old group, rights Rights) error {
	held, err := p.heldBy(ctx, c, old.name)
	if err != nil {
		return err
	}
	var script strings.Builder
	for _, one := range held {
		script.WriteString(one)
	}
	for _, privileges := range rights.Grants {
		_, err := p.writePrivileges(ctx, c, &script, old.name, privileges)
		if err != nil && c.IsClosed() {
			return err
		}
		if err != nil {
			p.log.WarnContext(ctx, "a role that is narrowed keeps less than it should", "target", p.place.title(), "role", old.role, "err", err)
		}
	}
	for _, role := range old.rights.InRole {
		if !slices.Contains(rights.InRole, role) {
			fmt.Fprintf(&script, "revoke %s from %s;", quote(role), quote(old.name))
		}
	}
	return c.transact(ctx, 4*impatient, script.String())
}

// takeOwner takes the owner from the logins of a group, if it is what they have lost, and ends all their sessions: any
// may act as what it has lost.
func (p *Postgres) takeOwner(ctx context.Context, c *conn, old group, lost bool) error {
	rows, err := c.Query(ctx, `select u.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.roleid join pg_roles u on u.oid = m.member
		where g.rolname = $1 and starts_with(u.rolname, $2)`, old.name, p.names.loginPrefix())
	if err != nil {
		return err
	}
	leases, err := collect[string](rows)
	if err != nil {
		return err
	}
	for i, name := range leases {
		leases[i], _ = p.names.lease(name)
	}
	logins, err := p.find(ctx, c, leases)
	if err != nil {
		return err
	}
	e := ending{p: p, c: c, failed: map[string]error{}}
	if lost {
		owner := strings.ReplaceAll(quote(old.rights.Owner), "%", "%%")
		write := func(logins []login) string {
			return e.each(logins, "revoke "+owner+" from %[1]s; alter role %[1]s reset role;")
		}
		err := e.inBulk(ctx, logins, write, func(l login, err error) error {
			if code(err) != codeUndefinedObject { // it has ended meanwhile
				e.failed[l.lease] = fmt.Errorf("take the owner from lease %s: %w", l.lease, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := e.endSessions(ctx, logins); err != nil {
		return err
	}
	return errors.Join(slices.Collect(maps.Values(e.failed))...)
}

// heldBy returns the statements that take all privileges from a group which we, or roles that we inherit from, gave
// it in this database.
func (p *Postgres) heldBy(ctx context.Context, c *conn, group string) ([]string, error) {
	rows, err := c.Query(ctx, `with given as (
			select format('revoke all on %s %s', case relkind when 'S' then 'sequence' else 'table' end, oid::regclass) as head, relacl as acl from pg_class where relacl is not null
			union all select format('revoke all on routine %s', oid::regprocedure), proacl from pg_proc where proacl is not null
			union all select format('revoke all on schema %I', nspname), nspacl from pg_namespace where nspacl is not null
			union all select format('revoke all on database %I', datname), datacl from pg_database where datname = current_database() and datacl is not null
			union all select format('alter default privileges for role %I %s revoke all on %s', pg_get_userbyid(defaclrole),
				case when n.nspname is null then '' else format('in schema %I', n.nspname) end,
				case defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' else 'routines' end), defaclacl
				from pg_default_acl left join pg_namespace n on n.oid = defaclnamespace where defaclobjtype in ('r', 'S', 'f') and pg_has_role(defaclrole, 'USAGE'))
		select format('%s from %I;', head, $1::text) from given
		where exists (select from aclexplode(acl) a join pg_roles r on r.oid = a.grantee where r.rolname = $1 and pg_has_role(a.grantor, 'USAGE'))`, group)
	if err != nil {
		return nil, err
	}
	return collect[string](rows)
}

// within is the part of r that wide holds too.
func (r Rights) within(wide Rights) Rights {
	var both Rights
	if r.Owner == wide.Owner {
		both.Owner = r.Owner
	}
	for _, mine := range r.Grants {
		var parts []Privileges
		for _, theirs := range wide.Grants {
			part, some := mine.within(theirs)
			if some && part.same(mine) {
				parts = []Privileges{mine}
				break
			}
			if some {
				parts = append(parts, part)
			}
		}
		both.Grants = append(both.Grants, parts...)
	}
	both.InRole = common(r.InRole, wide.InRole)
	return both
}

// within is the part of g that wide holds too, if any.
func (g Privileges) within(wide Privileges) (Privileges, bool) {
	if g.On != wide.On || g.Schema != wide.Schema {
		return Privileges{}, false
	}
	part := Privileges{On: g.On, Schema: g.Schema, Privileges: common(g.Privileges, wide.Privileges), Names: g.Names}
	switch {
	case len(g.Names) == 0:
		part.Names = wide.Names
	case len(wide.Names) > 0:
		part.Names = common(g.Names, wide.Names)
		if len(part.Names) == 0 {
			return Privileges{}, false
		}
	}
	if g.Future && wide.Future {
		part.Future, part.Creators = true, g.Creators
		switch {
		case len(g.Creators) == 0:
			part.Creators = wide.Creators
		case len(wide.Creators) > 0:
			part.Creators = common(g.Creators, wide.Creators)
			part.Future = len(part.Creators) > 0
		}
	}
	return part, len(part.Privileges) > 0
}

func (g Privileges) same(h Privileges) bool {
	return g.On == h.On && g.Schema == h.Schema && g.Future == h.Future && slices.Equal(g.Privileges, h.Privileges) &&
		slices.Equal(g.Names, h.Names) && slices.Equal(g.Creators, h.Creators)
}

// common is what two sets share.
func common(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(word string) bool { return !slices.Contains(b, word) })
}
