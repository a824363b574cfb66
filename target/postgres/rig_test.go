package postgres_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/postgres"
	"github.com/daypass/daypass/target/targettest"
)

func TestMain(m *testing.M) { os.Exit(testbed.Main(m)) }

const adminPassword = "administrator-password-canary"

// readers are the rights that most tests use.
const readers = `{"grants":[{"privileges":["select"],"on":"tables","schema":"public","future":true}],"scram_iterations":1}`

// rig is one server with one database, one administrator made by the script of our how-to, and one instance.
type rig struct {
	server   *testbed.Postgres
	database string
	admin    string
	owner    string
	reader   string
	instance string
	boot     atomic.Int64
	log      *testbed.Log
}

// versions runs a test on each PostgreSQL.
func versions(t *testing.T, test func(*testing.T, *rig)) {
	for _, version := range []int{15, 18} {
		t.Run(strconv.Itoa(version), func(t *testing.T) { test(t, newRig(t, testbed.SharedPostgres(t, version))) })
	}
}

// newRig makes a database with tables, and runs the how-to's script on it as the superuser would.
func newRig(t testing.TB, server *testbed.Postgres) *rig {
	t.Helper()
	suffix := targettest.Lease()[:6]
	r := &rig{server: server, database: server.Database(t), admin: "daypass_" + suffix, owner: "owner_" + suffix,
		reader: "readers_" + suffix, instance: suffix, log: &testbed.Log{}}
	r.boot.Store(1)
	r.must(t, fmt.Sprintf("create role %s", r.owner), fmt.Sprintf("create role %s", r.reader),
		fmt.Sprintf("grant create, usage on schema public to %s", r.owner),
		fmt.Sprintf("set role %s", r.owner),
		"create table public.orders (id int, note text)", "create table public.items (id int)",
		"create sequence public.numbers", "create table public.secrets_of_others (id int)",
		fmt.Sprintf("grant select on public.orders to %s", r.reader),
		"insert into public.orders values (1, 'first')")
	script, err := os.ReadFile("../../docs/howto/postgres-administrator.sql")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("change-me", adminPassword, "orders_owner", r.owner, "orders_readers", r.reader,
		"role daypass", "role "+r.admin, "to daypass", "to "+r.admin).Replace(string(script))
	r.must(t, text)
	t.Cleanup(func() { r.sweep(t) })
	return r
}

// must runs statements as the superuser on one connection.
func (r *rig) must(t testing.TB, statements ...string) {
	t.Helper()
	if err := r.server.Exec(context.WithoutCancel(t.Context()), r.database, statements...); err != nil {
		t.Fatal(err)
	}
}

// sweep drops the roles of the rig, so that shared servers stay small. It fails quietly.
func (r *rig) sweep(t testing.TB) {
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, r.server.Superuser(r.database))
	if err != nil {
		return
	}
	defer conn.Close(ctx)
	conn.Exec(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1 or usename like $2", r.admin, "dp\\_"+r.instance+"%")
	rows, _ := conn.Query(ctx, "select rolname::text from pg_roles where rolname ~ $1 order by rolname desc", "^dp[a-z]?_"+r.instance)
	names, _ := pgx.CollectRows(rows, pgx.RowTo[string])
	names = append(names, r.owner, r.reader, r.admin)
	for chunk := 0; chunk < len(names); chunk++ {
		conn.Exec(ctx, fmt.Sprintf("drop owned by %[1]s cascade; drop role %[1]s", pgx.Identifier{names[chunk]}.Sanitize()))
	}
	conn.Exec(ctx, "drop owned by "+r.admin+" cascade")
	conn.Exec(ctx, "drop role "+r.admin)
}

// config is a configuration that reaches the server at address.
func (r *rig) config(address string) postgres.Config {
	u := url.URL{Scheme: "postgres", User: url.User(r.admin), Host: address, Path: "/" + r.database, RawQuery: "sslmode=disable"}
	return postgres.Config{
		Instance: r.instance,
		Settings: postgres.Settings{URL: u.String()},
		Password: secret.New(adminPassword),
		Client:   postgres.Client{Host: r.server.Host, Port: r.server.Port},
		Mark:     target.Mark{Target: "orders-db", Boot: r.boot.Load()},
		Grace:    time.Second,
		Log:      slog.New(slog.NewTextHandler(r.log, nil)),
	}
}

// open opens the target, as the next boot.
func (r *rig) open(t testing.TB) *postgres.Postgres {
	t.Helper()
	return r.openConfig(t, r.config(r.server.Address()))
}

func (r *rig) openConfig(t testing.TB, config postgres.Config) *postgres.Postgres {
	t.Helper()
	p, err := postgres.New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// grant makes a credential or ends the test.
func (r *rig) grant(t testing.TB, p *postgres.Postgres, rights string) (string, target.Credential) {
	t.Helper()
	lease := targettest.Lease()
	credential, err := p.Grant(t.Context(), order(lease, rights))
	if err != nil {
		t.Fatal(err)
	}
	return lease, credential
}

// order is for a role of its own for each set of rights, since a role that changes reaches its leases.
func order(lease, rights string) target.Grant {
	return target.Grant{Lease: lease, Role: fmt.Sprintf("orders-%x", sha256.Sum256([]byte(rights))), Rights: json.RawMessage(rights), TTL: time.Hour}
}

// login connects with a credential.
func login(ctx context.Context, credential target.Credential) (*pgx.Conn, error) {
	return pgx.Connect(ctx, credential.Secrets["url"].Reveal())
}

// loginDatabase connects with a credential to another database.
func loginDatabase(ctx context.Context, credential target.Credential, database string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(credential.Secrets["url"].Reveal())
	if err != nil {
		return nil, err
	}
	config.Database = database
	return pgx.ConnectConfig(ctx, config)
}

// use runs one statement with a credential.
func use(ctx context.Context, credential target.Credential, statement string) error {
	conn, err := login(ctx, credential)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

// ask reads one value as the superuser.
func ask[T any](t testing.TB, r *rig, query string, args ...any) T {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, r.server.Superuser(r.database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var value T
	if err := conn.QueryRow(ctx, query, args...).Scan(&value); err != nil {
		t.Fatalf("%v in %s", err, query)
	}
	return value
}

func (r *rig) name(lease string) string { return "dp_" + r.instance + "_" + lease }

// alive reports whether the login of lease may log in or has a session.
func (r *rig) alive(t testing.TB, lease string) bool {
	return ask[bool](t, r, `select exists (select from pg_roles where rolname = $1 and rolcanlogin)
		or exists (select from pg_stat_activity where usename = $1)
		or exists (select from pg_auth_members m join pg_roles r on r.oid = m.member where r.rolname = $1)`, r.name(lease))
}

func revoke(t testing.TB, p *postgres.Postgres, lease string) {
	t.Helper()
	if err := p.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
}
