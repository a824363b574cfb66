package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/postgres"
	"github.com/daypass/daypass/target/targettest"
)

func TestGroupsThatNobodyUsesAreDropped(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, _ := r.grant(t, p, `{"grants":[{"privileges":["SELECT","INSERT"],"on":"tables","schema":"public"}]}`)
		r.grant(t, p, readers)
		revoke(t, p, lease)
		p.Close()
		r.boot.Add(1)
		p = r.open(t)
		r.grant(t, p, readers)
		if _, err := p.Clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := ask[int](t, r, "select count(*) from pg_roles where rolname like 'dpg_"+r.instance+"%'"); n != 1 {
			t.Errorf("%d groups after cleaning, want the one in use", n)
		}
	})
}

// DROP OWNED asks for no more than inherited rights, and takes default privileges from a role without a look at whose
// they are.
func TestALeaseCannotTakeTheFutureFromItsRole(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		_, conn := entered(t, r, p, readers)
		group := ask[string](t, r, "select rolname::text from pg_roles where rolname like 'dpg_"+r.instance+"%'")
		conn.Exec(t.Context(), "drop owned by "+group)
		r.must(t, "set role "+r.owner, "create table public.later (id int)")
		if _, err := p.Clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, credential := r.grant(t, p, readers)
		if err := use(t.Context(), credential, "select * from public.later"); err != nil {
			t.Errorf("a table that came later: %v", err)
		}
		// Nor do leases of an earlier boot lose it, whose group nobody has asked for since.
		conn.Exec(t.Context(), "drop owned by "+group)
		p.Close()
		r.boot.Add(1)
		if _, err := r.open(t).Clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.must(t, "set role "+r.owner, "create table public.latest (id int)")
		if _, err := conn.Exec(t.Context(), "select * from public.latest"); err != nil {
			t.Errorf("a table that came last: %v", err)
		}
	})
}

func TestRightsSitOnTheGroupAlone(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, credential := r.grant(t, p, readers)
		if n := ask[int](t, r, "select count(*) from pg_shdepend d join pg_roles r on r.oid = d.refobjid where r.rolname = $1", r.name(lease)); n != 0 {
			t.Errorf("the login itself is in %d privileges", n)
		}
		if acl := ask[string](t, r, "select relacl::text from pg_class where relname = 'orders'"); !strings.Contains(acl, "dpg_"+r.instance) || strings.Contains(acl, "dp_"+r.instance) {
			t.Errorf("the table's privileges: %s", acl)
		}
		r.must(t, "set role "+r.owner, "create table public.newer (id int)")
		if err := use(t.Context(), credential, "select * from public.newer"); err != nil {
			t.Errorf("a table newer than the grant: %v", err)
		}
	})
}

func TestInRoleRefusesPowerUnlessListed(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		super, maker, way, far := "super_"+r.instance, "maker_"+r.instance, "way_"+r.instance, "far_"+r.instance
		r.must(t, "create role "+super+" superuser", "create role "+maker+" createrole", "create role "+way, "create role "+far,
			"grant pg_read_all_data to "+way, "grant "+super+" to "+far)
		t.Cleanup(func() { r.must(t, "drop role "+far, "drop role "+super, "drop role "+maker, "drop role "+way) })
		try := func(p *postgres.Postgres, name string, says string) {
			t.Helper()
			for _, rights := range []string{`{"in_role":[%q]}`, `{"owner":%q}`} {
				_, err := p.Grant(t.Context(), order(targettest.Lease(), fmt.Sprintf(rights, name)))
				if !errors.Is(err, target.ErrNotDone) || !strings.Contains(err.Error(), says) {
					t.Errorf("%s: got %v, want it to say %q", name, err, says)
				}
			}
		}
		p := r.open(t)
		for _, name := range []string{"pg_read_all_data", "pg_execute_server_program", maker} {
			try(p, name, "write postgres: {allow_roles: ["+name+"]} into daypass.yaml and start the server again")
		}
		try(p, way, "allow_roles: [pg_read_all_data]")
		try(p, "no_such_role", "does not exist")
		p.Close()
		r.boot.Add(1)
		// No list allows a superuser, or one of ours: not by itself and not at the end of the way.
		config := r.config(r.server.Address())
		config.AllowRoles = []string{super, far, r.admin}
		p = r.openConfig(t, config)
		try(p, super, super+": superusers")
		try(p, far, super+": superusers")
		try(p, r.admin, r.admin+": superusers and the roles of daypass")
	})
}

func TestInRoleGivesPowerThatIsListed(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		way := "way_" + r.instance
		r.must(t, "create role "+way, "grant pg_read_all_data to "+way,
			"grant pg_read_all_data to "+r.admin+" with admin option", "grant "+way+" to "+r.admin+" with admin option")
		t.Cleanup(func() { r.must(t, "drop role "+way) })
		config := r.config(r.server.Address())
		p := r.openConfig(t, config)
		if text := findings(t, p); !strings.Contains(text, "member of pg_read_all_data") {
			t.Errorf("the check of an administrator with more than it needs:\n%s", text)
		}
		p.Close()
		r.boot.Add(1)
		for _, listed := range []string{"pg_read_all_data", way} { // a role that is listed vouches for those behind it
			config = r.config(r.server.Address())
			config.AllowRoles = []string{listed}
			p := r.openConfig(t, config)
			_, credential := r.grant(t, p, fmt.Sprintf(`{"in_role":[%q],"scram_iterations":1}`, listed))
			if err := use(t.Context(), credential, "select * from public.secrets_of_others"); err != nil {
				t.Errorf("with %s listed: %v", listed, err)
			}
			if text := findings(t, p); strings.Contains(text, "pg_read_all_data") {
				t.Errorf("the check, of a right that the administrator needs to hand out:\n%s", text)
			}
			p.Close()
			r.boot.Add(1)
		}
	})
}

func TestInRoleAndOwnerAndSettings(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		_, member := r.grant(t, p, fmt.Sprintf(`{"in_role":[%q],"connection_limit":1,"search_path":["pg_temp","public"],"scram_iterations":1}`, r.reader))
		conn, err := login(t.Context(), member)
		if err != nil {
			t.Fatal(err)
		}
		var path string
		if err := conn.QueryRow(t.Context(), "select current_setting('search_path') from orders").Scan(&path); err != nil || path != "pg_temp, public" && path != `"pg_temp", "public"` {
			t.Errorf("search_path %q, %v", path, err)
		}
		if err := use(t.Context(), member, "select 1"); err == nil {
			t.Error("a second session passed a connection limit of 1")
		}
		conn.Close(t.Context())
		lease, ddl := r.grant(t, p, fmt.Sprintf(`{"owner":%q}`, r.owner))
		if err := use(t.Context(), ddl, "create table public.migrated (id int)"); err != nil {
			t.Fatal(err)
		}
		if owner := ask[string](t, r, "select pg_get_userbyid(relowner)::text from pg_class where relname = 'migrated'"); owner != r.owner {
			t.Errorf("a migration's table belongs to %s", owner)
		}
		revoke(t, p, lease)
		if r.alive(t, lease) {
			t.Error("the lease lives")
		}
	})
}

func TestNamesThatNeedQuoting(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		r.must(t, `set role `+r.owner, `reset role`, `create schema "we""ird'; drop table public.orders; --" authorization `+r.owner,
			`create table "we""ird'; drop table public.orders; --"."ta""ble" (id int)`,
			`alter table "we""ird'; drop table public.orders; --"."ta""ble" owner to `+r.owner,
			`create function "we""ird'; drop table public.orders; --".f(a int, out b text) language sql as 'select null::text'`,
			`alter function "we""ird'; drop table public.orders; --".f owner to `+r.owner)
		p := r.open(t)
		_, credential := r.grant(t, p, `{"grants":[
			{"privileges":["SELECT","insert"],"on":"tables","schema":"we\"ird'; drop table public.orders; --","names":["ta\"ble"]},
			{"privileges":["EXECUTE"],"on":"functions","schema":"we\"ird'; drop table public.orders; --","names":["f"]},
			{"privileges":["USAGE"],"on":"sequences","schema":"public"},
			{"privileges":["USAGE"],"on":"schema","schema":"public"}]}`)
		if err := use(t.Context(), credential, `insert into "we""ird'; drop table public.orders; --"."ta""ble" values (nextval('public.numbers'))`); err != nil {
			t.Error(err)
		}
		if err := use(t.Context(), credential, "select * from public.orders"); err == nil {
			t.Error("the credential reads what its role does not name")
		}
	})
}
