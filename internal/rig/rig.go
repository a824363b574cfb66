// Package rig runs a whole installation for the crash loop and the benchmarks: the daypass binary as a process, a
// real PostgreSQL with the administrator of our how-to, and an OpenID Connect issuer.
//
// It owns what it starts, and Close leaves nothing behind. It knows the public contracts only: configuration
// files, commands, the API through the client.
package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

// Database is the name of the database at the target.
const Database = "orders"

// password is the administrator's, as the how-to's script has it.
const password = "change-me"

// Options say what to run. The zero value is PostgreSQL 15 that does not sync.
type Options struct {
	Version int                       // of PostgreSQL
	Fsync   bool                      // at PostgreSQL
	Road    func(upstream string) int // gives the port of a proxy to PostgreSQL for the broker; nil: none
	Limits  string                    // the section limits of daypass.yaml; generous unless given
}

// Rig is a running installation. Its methods are for one goroutine at a time.
type Rig struct {
	Dir      string
	URL      string // of the broker, and the audience of tokens
	Postgres *testbed.Postgres
	Issuer   *testissuer.Issuer
	Admin    *client.Client // over the administration socket

	binary string
	broker *exec.Cmd
	log    *os.File
}

// Start runs everything and returns when leases can be acquired. The daypass binary is built from this module.
func Start(ctx context.Context, opt Options) (r *Rig, err error) {
	dir, err := os.MkdirTemp("", "daypass-rig-")
	if err != nil {
		return nil, err
	}
	r = &Rig{Dir: dir, binary: filepath.Join(dir, "daypass")}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	for _, step := range []func(context.Context, Options) error{r.build, r.startPostgres, r.startIssuer, r.configure, r.init} {
		if err := step(ctx, opt); err != nil {
			return r, err
		}
	}
	if err := r.StartBroker(); err != nil {
		return r, err
	}
	if r.Admin, err = client.New(client.Options{URL: "unix://" + r.Path("admin.sock")}); err != nil {
		return r, err
	}
	return r, r.Ready(ctx)
}

// Path is a path below the rig's directory.
func (r *Rig) Path(name string) string { return filepath.Join(r.Dir, name) }

func (r *Rig) build(ctx context.Context, _ Options) error {
	out, err := exec.CommandContext(ctx, "go", "build", "-o", r.binary, "github.com/daypass/daypass/cmd/daypass").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build daypass: %w\n%s", err, out)
	}
	return nil
}

func (r *Rig) startPostgres(ctx context.Context, opt Options) (err error) {
	r.Postgres, err = testbed.StartPostgres(ctx, testbed.PostgresOptions{
		Version: opt.Version, Fsync: opt.Fsync, Settings: map[string]string{"max_connections": "300"}})
	if err != nil {
		return err
	}
	if err := r.Postgres.Exec(ctx, "postgres", "create role orders_owner", "create role orders_readers", "create database "+Database+" owner orders_owner"); err != nil {
		return err
	}
	tables := []string{"set role orders_owner"}
	for i := range 10 {
		tables = append(tables, fmt.Sprintf("create table orders_%d (id int primary key, note text)", i))
	}
	tables = append(tables, "grant select on all tables in schema public to orders_readers")
	if err := r.Postgres.Exec(ctx, Database, strings.Join(tables, "; ")); err != nil {
		return err
	}
	script, err := administratorScript(ctx)
	if err != nil {
		return err
	}
	return r.Postgres.Exec(ctx, Database, script)
}

// administratorScript reads the script of the how-to, as a user would run it.
func administratorScript(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "docs", "howto", "postgres-administrator.sql"))
	return string(text), err
}

func (r *Rig) startIssuer(context.Context, Options) (err error) {
	r.Issuer, err = testissuer.Start(testissuer.Options{Now: time.Now})
	return err
}

// configure writes the server's configuration and the access directory.
func (r *Rig) configure(_ context.Context, opt Options) error {
	listen, err := freeAddress()
	if err != nil {
		return err
	}
	r.URL = "http://" + listen
	port := r.Postgres.Port
	if opt.Road != nil {
		port = opt.Road(r.Postgres.Address())
	}
	limits := opt.Limits
	if limits == "" {
		limits = "{leases_per_principal: 1000000, acquire_rate: 100000/s}"
	}
	files := map[string]string{
		"secrets/orders-db":   password,
		"daypass.yaml":        fmt.Sprintf(serverFile, listen, r.URL, r.Dir, limits),
		"access/access.yaml":  fmt.Sprintf(accessFile, r.Issuer.URL(), port, Database, r.Postgres.Port),
		"access/orders.cedar": policyFile,
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(r.Path(name)), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(r.Path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

const (
	serverFile = `
listen: %[1]s
url: %[2]s
socket: %[3]s/admin.sock
store: sqlite://%[3]s/daypass.db
master_key: file://%[3]s/master.key
secrets_dir: %[3]s/secrets
access: %[3]s/access
limits: %[4]s
log: {level: warn, format: text}
`
	accessFile = `
kind: Issuer
name: github
preset: github-actions
oidc: {url: %q}
---
kind: Target
name: orders-db
postgres: {url: "postgres://daypass@127.0.0.1:%d/%s?sslmode=disable", password: {file: orders-db}}
client: {host: 127.0.0.1, port: %d, sslmode: disable}
---
kind: Role
name: grants
target: orders-db
ttl: {default: 30m, max: 1h}
postgres:
  grants: [{privileges: [SELECT], on: tables, schema: public, future: true}]
---
kind: Role
name: member
target: orders-db
ttl: {default: 30m, max: 1h}
postgres: {in_role: [orders_readers]}
---
kind: Role
name: grants-fast
target: orders-db
ttl: {default: 30m, max: 1h}
postgres:
  scram_iterations: 1
  grants: [{privileges: [SELECT], on: tables, schema: public, future: true}]
---
kind: Role
name: member-fast
target: orders-db
ttl: {default: 30m, max: 1h}
postgres: {in_role: [orders_readers], scram_iterations: 1}
`
	policyFile = `
permit (
  principal is GitHub::Workload,
  action in [Action::"acquire", Action::"renew"],
  resource in Target::"orders-db"
) when { principal.claims.repository == "acme/orders" && principal.claims.ref == "refs/heads/main" };
`
)

func (r *Rig) init(ctx context.Context, _ Options) error {
	out, err := r.Command(ctx, "init", "--config", r.Path("daypass.yaml")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("daypass init: %w\n%s", err, out)
	}
	return nil
}

// Command is a command of daypass, ready to run against this rig.
func (r *Rig) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, r.binary, args...)
	cmd.Env = append(os.Environ(), "DAYPASS_URL="+r.URL, "DAYPASS_SOCKET="+r.Path("admin.sock"))
	return cmd
}

// StartBroker starts `daypass serve`.
func (r *Rig) StartBroker() (err error) {
	if r.log == nil {
		if r.log, err = os.Create(r.Path("serve.log")); err != nil {
			return err
		}
	}
	r.broker = r.Command(context.Background(), "serve", "--config", r.Path("daypass.yaml"))
	r.broker.Stdout, r.broker.Stderr = r.log, r.log
	return r.broker.Start()
}

// KillBroker ends the broker as a power cut does.
func (r *Rig) KillBroker() {
	if r.broker == nil {
		return
	}
	_ = r.broker.Process.Kill() // it may have ended by itself
	_ = r.broker.Wait()
	r.broker = nil
}

// BrokerPID is the broker's process.
func (r *Rig) BrokerPID() int { return r.broker.Process.Pid }

// Ready waits until leases can be acquired.
func (r *Rig) Ready(ctx context.Context) error {
	return r.Await(ctx, "the broker to be ready", func(ctx context.Context) bool {
		status, err := r.Admin.Status(ctx)
		return err == nil && status.Ready
	})
}

// patience is longer than anything takes here, also on a busy machine.
const patience = 90 * time.Second

// Await asks until something is so. Its error has the end of the broker's log.
func (r *Rig) Await(ctx context.Context, what string, so func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so(ctx) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s\n%s", what, r.tail())
		case <-tick.C:
		}
	}
	return nil
}

// tail is the end of the broker's log.
func (r *Rig) tail() string {
	text, err := os.ReadFile(r.Path("serve.log"))
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(text, []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-40):], []byte("\n")))
}

// Workload is a client with a fresh token of a run on the main branch.
func (r *Rig) Workload(runID string) (*client.Client, error) {
	token := r.Issuer.Token(r.Issuer.GitHub(testissuer.Run{Audience: r.URL, RunID: runID}))
	return client.New(client.Options{URL: r.URL, Token: client.StaticToken(secret.New(token))})
}

// Close ends everything and removes the rig's directory.
func (r *Rig) Close() error {
	r.KillBroker()
	var errs []error
	if r.log != nil {
		errs = append(errs, r.log.Close())
	}
	if r.Issuer != nil {
		errs = append(errs, r.Issuer.Close())
	}
	if r.Postgres != nil {
		errs = append(errs, r.Postgres.Stop())
	}
	return errors.Join(append(errs, os.RemoveAll(r.Dir))...)
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
