package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/postgres"
	"github.com/daypass/daypass/target/targettest"
)

// asAdmin connects as the administrator of the how-to.
func (r *rig) asAdmin(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.server.URL(r.admin, adminPassword, r.database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// eventually waits until what holds, without a sleep of its own choosing.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(15 * time.Second); !holds(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		}
	}
}

func TestALeaseCannotActAsItsGroupNorMoveItsExpiry(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, credential := r.grant(t, p, readers)
		group := ask[string](t, r, "select rolname::text from pg_roles where rolname like 'dpg_"+r.instance+"%'")
		if err := use(t.Context(), credential, "set role "+group); err == nil && r.server.Version >= 16 {
			t.Error("a lease took on its group")
		}
		if err := use(t.Context(), credential, fmt.Sprintf("alter role %s valid until 'infinity'", r.name(lease))); err == nil {
			t.Error("a lease moved its own expiry")
		}
		if err := use(t.Context(), credential, fmt.Sprintf("alter role %s password 'known to a friend'", r.name(lease))); err != nil {
			t.Errorf("the threat model says that a lease may change its password, but: %v", err)
		}
		revoke(t, p, lease)
		if conn, err := pgx.Connect(t.Context(), r.server.URL(r.name(lease), "known to a friend", r.database)); err == nil {
			conn.Close(t.Context())
			t.Error("a changed password outlived its lease")
		}
	})
}

func TestWhatALeaseMadeAsItsGroupIsTakenBack(t *testing.T) {
	r := newRig(t, testbed.SharedPostgres(t, 15))
	p := r.open(t)
	r.must(t, "grant create on schema public to public")
	lease, credential := r.grant(t, p, readers)
	group := ask[string](t, r, "select rolname::text from pg_roles where rolname like 'dpg_"+r.instance+"%'")
	conn, err := login(t.Context(), credential)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"set role " + group, "create table public.trojan (id int)",
		"create function public.trick() returns setof public.orders language sql security definer as 'select * from public.orders'",
		"alter default privileges in schema public grant all on tables to " + r.name(lease),
		"alter default privileges grant select on tables to " + r.reader, "alter default privileges revoke execute on functions from public",
		"alter default privileges revoke all on tables from " + group} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%v in %s", err, statement)
		}
	}
	conn.Close(t.Context())
	revoke(t, p, lease)
	// At once: until then the function has the rights of the group, for whoever may call it.
	if ask[bool](t, r, "select prosecdef or has_function_privilege('public', oid, 'execute') from pg_proc where proname = 'trick'") {
		t.Error("a function of the group outlived the lease that made it")
	}
	if ask[bool](t, r, "select exists (select from pg_roles where rolname = $1)", r.name(lease)) {
		t.Error("the login stays")
	}
	if owner := ask[string](t, r, "select pg_get_userbyid(relowner)::text from pg_class where relname = 'trojan'"); !strings.HasPrefix(owner, "dpx_"+r.instance+"_") {
		t.Errorf("the table belongs to %s", owner)
	}
	if n := ask[int](t, r, "select count(*) from pg_default_acl where defaclrole = (select oid from pg_roles where rolname = $1)", group); n != 0 {
		t.Errorf("%d default privileges stay", n)
	}
	if _, credential := r.grant(t, p, readers); use(t.Context(), credential, "select * from public.orders") != nil {
		t.Error("the group lost its rights")
	}
}

func TestALostCommitAnswerIsSettled(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		for _, happened := range []bool{true, false} {
			proxy := testbed.StartProxy(t, r.server.Address())
			r.boot.Add(1)
			p := r.openConfig(t, r.config(proxy.Address()))
			r.grant(t, p, readers)
			if happened {
				proxy.After(";commit", testbed.DropAnswers)
			} else {
				proxy.Before(";commit", testbed.Cut)
			}
			lease := targettest.Lease()
			go func() {
				eventually(t, "the fault strikes", func() bool { return proxy.Struck() > 0 })
				if happened { // let the commit land before the line goes dead
					eventually(t, "the commit lands", func() bool { return r.alive(t, lease) })
					proxy.Set(testbed.Cut)
				}
				proxy.Heal()
			}()
			credential, err := p.Grant(t.Context(), order(lease, readers))
			if happened && err != nil {
				t.Errorf("a commit that happened: %v", err)
			}
			if happened && err == nil && use(t.Context(), credential, "select * from public.orders") != nil {
				t.Error("the settled credential does not work")
			}
			if !happened && (!errors.Is(err, target.ErrNotDone) || r.alive(t, lease)) {
				t.Errorf("a commit that did not happen: %v", err)
			}
			p.Close()
		}
	})
}

func TestAHeldCommitCannotLandAfterTheRevocation(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		proxy := testbed.StartProxy(t, r.server.Address())
		old := r.openConfig(t, r.config(proxy.Address()))
		r.grant(t, old, readers)
		proxy.Before("create role", testbed.Hold)
		lease := targettest.Lease()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := old.Grant(ctx, order(lease, readers)); err == nil || errors.Is(err, target.ErrNotDone) {
			t.Fatalf("a grant in flight: %v", err)
		}
		r.boot.Add(1)
		next := r.open(t)
		revoke(t, next, lease)
		if n := ask[int](t, r, "select count(*) from pg_stat_activity where application_name = $1", "daypass/"+r.instance+"/1"); n != 0 {
			t.Errorf("%d connections of the old boot are left", n)
		}
		proxy.Heal()
		conn := r.asAdmin(t)
		_, err := conn.Exec(t.Context(), "create role "+r.name(lease)+" login")
		if err == nil || !strings.Contains(err.Error(), "42710") {
			t.Errorf("the tombstone let a late creation pass: %v", err)
		}
		if _, err := next.Grant(t.Context(), order(lease, readers)); !errors.Is(err, target.ErrNotDone) {
			t.Errorf("a grant of a buried lease: %v", err)
		}
		if r.alive(t, lease) {
			t.Error("the lease lives")
		}
	})
}

func TestRevokeWaitsForACreationThatIsOpen(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		r.grant(t, p, readers)
		lease := targettest.Lease()
		tx, err := r.asAdmin(t).Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "create role "+r.name(lease)+" login"); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- p.Revoke(t.Context(), lease) }()
		eventually(t, "the tombstone waits", func() bool {
			return ask[bool](t, r, "select exists (select from pg_locks where not granted)") || len(done) > 0
		})
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if r.alive(t, lease) {
			t.Error("the creation that was open outlived the revocation")
		}
	})
}

func TestALoginThatIsStartingUpDiesToo(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, credential := r.grant(t, p, readers)
		config, err := pgx.ParseConfig(credential.Secrets["url"].Reveal())
		if err != nil {
			t.Fatal(err)
		}
		// Any client may ask for this: it is let in, and is seen as nobody's session for that long.
		config.RuntimeParams["post_auth_delay"] = "5"
		session := make(chan error, 1)
		go func() {
			conn, err := pgx.ConnectConfig(t.Context(), config)
			if err == nil {
				_, err = conn.Exec(t.Context(), "select 1")
				conn.Close(context.Background())
			}
			session <- err
		}()
		eventually(t, "the login starts up", func() bool {
			return ask[int](t, r, `select count(*) from pg_locks l left join pg_stat_activity a on a.pid = l.pid
				where l.locktype = 'virtualxid' and l.pid is not null and (a.pid is null or a.usesysid is null and a.datid is null)`) > 0
		})
		revoke(t, p, lease)
		if err := <-session; err == nil {
			t.Error("a session that was starting up outlived its lease")
		}
	})
}

func TestADBAsHandWedgesNothing(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, _ := r.grant(t, p, readers)
		r.must(t, "drop role "+r.name(lease))
		if err := p.Renew(t.Context(), lease, time.Hour); !errors.Is(err, target.ErrNotDone) {
			t.Errorf("renew of a dropped login: %v", err)
		}
		revoke(t, p, lease)
		r.must(t, "set role "+r.owner, "alter table public.items rename to things", "drop table public.secrets_of_others")
		if _, err := p.Clean(t.Context()); err != nil {
			t.Error(err)
		}
		r.grant(t, p, readers)
		group := ask[string](t, r, "select rolname::text from pg_roles where rolname like 'dpg_"+r.instance+"%'")
		r.must(t, "drop owned by "+group, "drop role "+group)
		_, credential := r.grant(t, p, readers)
		if err := use(t.Context(), credential, "select * from public.things"); err != nil {
			t.Errorf("after the group was dropped: %v", err)
		}
		if r.server.Version >= 16 {
			orphan, _ := r.grant(t, p, readers)
			r.must(t, fmt.Sprintf(`do $$ declare c text; begin for c in select rolname from pg_roles where rolname like 'dpc_%s%%' loop
				execute 'drop owned by ' || c || ' cascade'; begin execute 'drop role ' || c; exception when others then end; end loop; end $$`, r.instance))
			survivor, _ := r.grant(t, p, readers)
			revoke(t, p, survivor)
			// Nobody but a superuser may touch a login whose creator is gone: it is not called revoked.
			if err := p.Revoke(t.Context(), orphan); err == nil {
				t.Error("an orphan was called revoked")
			}
			r.must(t, "drop role "+r.name(orphan))
			revoke(t, p, orphan)
		}
	})
}

func TestARestartedServerIsTakenUpAgain(t *testing.T) {
	for _, version := range []int{15, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			server := testbed.OwnPostgres(t, testbed.PostgresOptions{Version: version, Fsync: true})
			r := newRig(t, server)
			p := r.open(t)
			lease, _ := r.grant(t, p, readers)
			for _, step := range []func(context.Context) error{server.Restart, func(ctx context.Context) error {
				return errors.Join(server.Kill(ctx), server.Start(ctx))
			}} {
				if err := step(t.Context()); err != nil {
					t.Fatal(err)
				}
				next, credential := r.grant(t, p, readers)
				if err := use(t.Context(), credential, "select 1"); err != nil {
					t.Error(err)
				}
				revoke(t, p, lease)
				if r.alive(t, lease) {
					t.Error("the lease lives")
				}
				if _, err := p.Now(t.Context()); err != nil {
					t.Error(err)
				}
				lease = next
			}
			if err := server.Kill(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Grant(t.Context(), order(targettest.Lease(), readers)); !errors.Is(err, target.ErrNotDone) {
				t.Errorf("a grant on a dead server: %v", err)
			}
			if err := p.Revoke(t.Context(), lease); err == nil {
				t.Error("a lease on a dead server was called revoked")
			}
			if err := server.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			revoke(t, p, lease)
		})
	}
}

func TestADeadTargetIsBounded(t *testing.T) {
	r := newRig(t, testbed.SharedPostgres(t, 15))
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	p := r.openConfig(t, r.config(closed.Addr().String()))
	if _, err := p.Grant(t.Context(), order(targettest.Lease(), readers)); !errors.Is(err, target.ErrNotDone) {
		t.Errorf("nobody listens: %v", err)
	}
	proxy := testbed.StartProxy(t, r.server.Address())
	proxy.Set(testbed.BlackHole)
	p = r.openConfig(t, r.config(proxy.Address()))
	for name, call := range map[string]func(context.Context) error{
		"grant": func(ctx context.Context) error {
			_, err := p.Grant(ctx, order(targettest.Lease(), readers))
			return err
		},
		"revoke": func(ctx context.Context) error { return p.Revoke(ctx, targettest.Lease()) },
		"renew":  func(ctx context.Context) error { return p.Renew(ctx, targettest.Lease(), time.Hour) },
		"now":    func(ctx context.Context) error { _, err := p.Now(ctx); return err },
		"check":  func(ctx context.Context) error { _, err := p.Check(ctx); return err },
		"clean":  func(ctx context.Context) error { _, err := p.Clean(ctx); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		start := time.Now()
		if err := call(ctx); err == nil || time.Since(start) > 5*time.Second {
			t.Errorf("%s in a black hole: %v after %v", name, err, time.Since(start))
		}
		cancel()
	}
}

func TestOneBadLeaseSpoilsNoOther(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		var bad []string
		for range 3 {
			lease := targettest.Lease()
			revoke(t, p, lease) // never granted: a tombstone
			bad = append(bad, lease)
		}
		var all sync.WaitGroup
		for i := range 30 {
			lease := targettest.Lease()
			if i%10 == 5 {
				lease = bad[i/10]
			}
			all.Go(func() {
				credential, err := p.Grant(t.Context(), order(lease, readers))
				if i%10 == 5 {
					if !errors.Is(err, target.ErrNotDone) {
						t.Errorf("a buried lease: %v", err)
					}
					return
				}
				if err != nil {
					t.Errorf("a good lease beside a bad one: %v", err)
				} else if err := use(t.Context(), credential, "select * from public.orders"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

func TestTwoCopiesOfOneStoreDoNotWorkTogether(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		first := r.open(t)
		lease, _ := r.grant(t, first, readers)
		twin := r.open(t)
		if _, err := twin.Grant(t.Context(), order(targettest.Lease(), readers)); !errors.Is(err, target.ErrNotDone) {
			t.Errorf("a twin of the same boot: %v", err)
		}
		if err := twin.Revoke(t.Context(), lease); err == nil {
			t.Error("a twin revoked a lease of the one at work")
		}
		r.boot.Add(1)
		later := r.open(t)
		r.grant(t, later, readers)
		if _, err := first.Grant(t.Context(), order(targettest.Lease(), readers)); err == nil {
			t.Error("the earlier boot works on beside the later one")
		}
	})
}

func TestAnotherServerIsNotOurs(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		known := r.config(r.server.Address())
		known.Known = true
		p := r.openConfig(t, known)
		if err := p.Revoke(t.Context(), targettest.Lease()); err == nil {
			t.Error("a lease was called revoked at a server without our mark")
		}
		if _, err := p.Grant(t.Context(), order(targettest.Lease(), readers)); !errors.Is(err, target.ErrNotDone) {
			t.Errorf("a grant at a server without our mark: %v", err)
		}
		if seen, err := p.Mark(t.Context(), target.Mark{Instance: r.instance, Target: "orders-db", Boot: 1}); err != nil || seen != (target.Mark{}) {
			t.Errorf("adoption: %+v, %v", seen, err)
		}
		r.grant(t, p, readers)
		p.Close()
		stranger := r.config(r.server.Address())
		stranger.Mark.Target = "users-db"
		p = r.openConfig(t, stranger)
		if err := p.Revoke(t.Context(), targettest.Lease()); err == nil {
			t.Error("a lease was called revoked at a server of another target")
		}
	})
}

func TestTheDeadUserIsFoundByOID(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, credential := r.grant(t, p, readers)
		conn, err := login(t.Context(), credential)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		revoke(t, p, lease)
		if _, err := conn.Exec(t.Context(), "select 1"); err == nil {
			t.Error("the session lives")
		}
		if n := ask[int](t, r, "select count(*) from pg_stat_activity where backend_type = 'client backend' and usename is null and usesysid is not null"); n != 0 {
			t.Errorf("%d sessions of nobody", n)
		}
	})
}

func TestTheEnvironmentSaysNothing(t *testing.T) {
	for name, value := range map[string]string{"PGSERVICE": "elsewhere", "PGSERVICEFILE": "/nonexistent", "PGPASSFILE": "/nonexistent", "PGHOST": "192.0.2.1",
		"PGPORT": "1", "PGUSER": "somebody", "PGPASSWORD": "x", "PGDATABASE": "nowhere", "PGOPTIONS": "-c role=x", "PGSSLMODE": "nonsense", "PGSSLROOTCERT": "/nonexistent",
		"PGSSLCERT": "/nonexistent", "PGREQUIREAUTH": "none", "PGTARGETSESSIONATTRS": "standby", "PGCHANNELBINDING": "require", "PGCONNECT_TIMEOUT": "x"} {
		t.Setenv(name, value)
	}
	r := &rig{server: testbed.SharedPostgres(t, 15)}
	_ = r
	config := postgres.Config{Instance: "abc234", Settings: postgres.Settings{URL: "postgres://daypass@127.0.0.1:1/orders?sslmode=disable"}, Mark: target.Mark{Target: "x", Boot: 1}}
	p, err := postgres.New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Now(t.Context()); err == nil || strings.Contains(err.Error(), "192.0.2.1") || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("got %v", err)
	}
	os.Unsetenv("PGSERVICE")
}
