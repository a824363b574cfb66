package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/installation"
	"github.com/daypass/daypass/internal/server"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

func TestMain(m *testing.M) { os.Exit(testbed.Main(m)) }

const adminPassword = "administrator-password-canary"

// rig is a whole Daypass with a real PostgreSQL and a real issuer.
type rig struct {
	*server.Server
	dir      string
	cfg      config.Config
	issuer   *testissuer.Issuer
	postgres *testbed.Postgres
	database string
	admin    string // the login that the target uses
	log      *testbed.Log
	stop     func() error // ends the server and returns what Run returned
}

// newRig prepares everything and starts nothing of ours.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), log: &testbed.Log{}, postgres: testbed.SharedPostgres(t, 15)}
	r.database = r.postgres.Database(t)
	r.admin = "daypass_" + strings.TrimPrefix(r.database, "t_")
	r.must(t, "create table public.orders (id int, note text)", "insert into public.orders values (1, 'first')",
		fmt.Sprintf("create role %s login createrole password '%s'", r.admin, adminPassword),
		fmt.Sprintf("grant pg_signal_backend to %s", r.admin),
		fmt.Sprintf("grant all on database %s to %s with grant option", r.database, r.admin),
		fmt.Sprintf("grant usage on schema public to %s with grant option", r.admin),
		fmt.Sprintf("grant select on all tables in schema public to %s with grant option", r.admin))
	t.Cleanup(func() { r.sweep(t) })
	var err error
	if r.issuer, err = testissuer.Start(testissuer.Options{Now: time.Now, Algorithm: "ES256"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.issuer.Close() })
	r.cfg = config.Config{
		Listen:     "127.0.0.1:0",
		Socket:     filepath.Join(r.dir, "admin.sock"),
		Store:      "sqlite://" + filepath.Join(r.dir, "daypass.db"),
		MasterKey:  "file://" + filepath.Join(r.dir, "master.key"),
		SecretsDir: filepath.Join(r.dir, "secrets"),
		Access:     filepath.Join(r.dir, "access"),
		TimeZones:  []string{"Europe/Berlin"},
		Limits:     config.Limits{AcquireRate: 1000},
	}
	r.write(t, "secrets/orders-db", adminPassword+"\n")
	r.write(t, "access/access.yaml", r.accessFile())
	r.write(t, "access/policy.cedar", allowMain)
	return r
}

const allowMain = `permit (
  principal is GitHub::Workload,
  action == Action::"acquire",
  resource == Role::"orders-readonly"
) when { principal.claims.ref == "refs/heads/main" };
permit (principal is GitHub::Workload, action == Action::"renew", resource == Role::"orders-readonly");
permit (principal, action, resource is System);
permit (principal, action, resource is Lease);
`

func (r *rig) accessFile() string {
	return fmt.Sprintf(`kind: Issuer
name: github
preset: github-actions
oidc: {url: %q}
---
kind: Target
name: orders-db
postgres: {url: "postgres://%s@%s/%s?sslmode=disable", password: {file: orders-db}}
---
kind: Role
name: orders-readonly
target: orders-db
ttl: {default: 5m, max: 1h}
renew: handle
postgres:
  grants: [{privileges: [SELECT], on: tables, schema: public}]
  scram_iterations: 1
`, r.issuer.URL(), r.admin, r.postgres.Address(), r.database)
}

func (r *rig) write(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) must(t *testing.T, statements ...string) {
	t.Helper()
	if err := r.postgres.Exec(context.WithoutCancel(t.Context()), r.database, statements...); err != nil {
		t.Fatal(err)
	}
}

// sweep drops the administrator, so that the shared server stays small.
func (r *rig) sweep(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	_ = r.postgres.Exec(ctx, r.database, fmt.Sprintf("drop owned by %[1]s cascade", r.admin), "drop role "+r.admin)
}

// stopped waits for a server that was told to stop, and returns how it ended.
func stopped(ended <-chan error) error {
	const patience = 2 * time.Minute // it may wait for requests for more than one
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		return fmt.Errorf("it has not stopped after %s", patience)
	}
}

// start makes what is missing and runs the server until the test ends or stop is called.
func (r *rig) start(t *testing.T) *rig {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	if _, err := installation.Init(ctx, r.cfg); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := server.New(ctx, r.cfg, server.Options{Version: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(running) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return stopped(ended)
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("run: %v", err)
		}
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	return r
}

// workload is a client with tokens of a workflow run.
func (r *rig) workload(t *testing.T, run testissuer.Run) *client.Client {
	t.Helper()
	run.Audience = r.URL()
	c, err := client.New(client.Options{URL: r.URL(), Token: client.StaticToken(secret.New(r.issuer.Token(r.issuer.GitHub(run))))})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// administrator is a client of the socket.
func (r *rig) administrator(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{URL: "unix://" + r.cfg.Socket})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func acquire(t *testing.T, c *client.Client) *client.Lease {
	t.Helper()
	lease, err := c.Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"})
	if err != nil {
		t.Fatal(err)
	}
	return lease
}
