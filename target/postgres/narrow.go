package postgres

import (
	"context"
	"encoding/json"
	"fmt"
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

// narrowOthers takes from the other groups of g's role what g does not hold, so that narrowing a role reaches the
// leases that live. It gives them nothing: widening a role is for new leases. An owner stays, since sessions act as
// it already; only their end takes it away.
func (p *Postgres) narrowOthers(ctx context.Context, c *conn, g group) error {
	all, err := p.groupsHere(ctx, c)
	if err != nil {
		return err
	}
	for _, old := range all {
		if old.name == g.name || old.role != g.role {
			continue
		}
		p.groups.forget(old.name) // who wants it again, wants it whole
		if old.rights.Owner != "" && old.rights.Owner != g.rights.Owner {
			p.log.WarnContext(ctx, "a role has lost its owner, and leases that live keep it until they end", "target", p.place.title(), "role", g.role, "owner", old.rights.Owner)
		}
		both := old.rights.within(g.rights)
		if slices.Equal(both.ofGroup(), old.rights.ofGroup()) {
			continue
		}
		if err := p.narrow(ctx, c, old, both); err != nil {
			if broken(err) {
				return err
			}
			p.log.WarnContext(ctx, "a role was narrowed, and leases that live keep what they had", "target", p.place.title(), "role", g.role, "err", err)
			continue
		}
		p.log.InfoContext(ctx, "a role was narrowed, and leases that live with it", "target", p.place.title(), "role", g.role)
	}
	return nil
}

// narrow makes rights all that a group holds, in one transaction: nobody sees it with less.
func (p *Postgres) narrow(ctx context.Context, c *conn, old group, rights Rights) error {
	held, err := p.heldBy(ctx, c, old.name)
	if err != nil {
		return err
	}
	var script strings.Builder
	for _, one := range held {
		script.WriteString(one)
	}
	for _, privileges := range rights.Grants {
		if _, err := p.writePrivileges(ctx, c, &script, old.name, privileges); err != nil {
			return err
		}
	}
	for _, role := range old.rights.InRole {
		if !slices.Contains(rights.InRole, role) {
			fmt.Fprintf(&script, "revoke %s from %s;", quote(role), quote(old.name))
		}
	}
	fmt.Fprintf(&script, "comment on role %s is %s;", quote(old.name), literal(p.about(group{role: old.role, rights: rights})))
	return c.transact(ctx, 4*impatient, script.String())
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

// within is the part of r that wide holds too. It keeps r's owner.
func (r Rights) within(wide Rights) Rights {
	both := Rights{Owner: r.Owner}
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
