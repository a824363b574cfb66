package rig

import (
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

// Database is the name of the database at a target.
const Database = "orders"

// password is the administrator's, as the how-to's script has it.
const password = "change-me"

// Options say what to run. The zero value is PostgreSQL 15 that does not sync.
type Options struct {
	Version   int                       // of PostgreSQL at the target
	Fsync     bool                      // at PostgreSQL
	Road      func(upstream string) int // gives the port of a proxy to the target for the broker; nil: none
	Limits    string                    // the section limits of daypass.yaml; generous unless given
	Retention string                    // the section retention; the server's own unless given
	Race      bool                      // build daypass with the race detector
	Serve     []string                  // what to run, before a configuration's path, in place of `daypass serve --config`
}

// Site is what every installation stands on: a directory, the daypass binary, a target and an issuer.
type Site struct {
	Dir      string
	Audience string // of tokens
	Postgres *testbed.Postgres
	Issuer   *testissuer.Issuer
	Access   map[string]string // the access files that servers begin with, by name

	binary string
	opt    Options
}

// openSite makes all of it. The daypass binary is built from this module.
func openSite(ctx context.Context, opt Options) (*Site, error) {
	dir, err := os.MkdirTemp("", "daypass-rig-")
	if err != nil {
		return nil, err
	}
	s := &Site{Dir: dir, opt: opt, binary: filepath.Join(dir, "daypass")}
	err = s.build(ctx)
	if err == nil {
		s.Postgres, err = StartTarget(ctx, opt.Version, opt.Fsync)
	}
	if err == nil {
		s.Issuer, err = testissuer.Start(testissuer.Options{Now: time.Now})
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	port := s.Postgres.Port
	if opt.Road != nil {
		port = opt.Road(s.Postgres.Address())
	}
	s.Access = map[string]string{
		"access.yaml":  fmt.Sprintf(accessFile, s.Issuer.URL(), port, Database, s.Postgres.Port),
		"orders.cedar": policyFile,
	}
	return s, nil
}

func (s *Site) build(ctx context.Context) error {
	args := []string{"build", "-o", s.binary}
	if s.opt.Race {
		args = append(args, "-race")
	}
	out, err := exec.CommandContext(ctx, "go", append(args, "github.com/daypass/daypass/cmd/daypass")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build daypass: %w\n%s", err, out)
	}
	return nil
}

// StartTarget runs a PostgreSQL with the administrator of our how-to and ten tables. Whoever starts it stops it.
func StartTarget(ctx context.Context, version int, fsync bool) (p *testbed.Postgres, err error) {
	p, err = testbed.StartPostgres(ctx, testbed.PostgresOptions{
		Version: version, Fsync: fsync, Settings: map[string]string{"max_connections": "300"}})
	if err != nil {
		return nil, err
	}
	if err := furnish(ctx, p); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// furnish makes what roles of ours are about.
func furnish(ctx context.Context, p *testbed.Postgres) error {
	if err := p.Exec(ctx, "postgres", "create role orders_owner", "create role orders_readers", "create database "+Database+" owner orders_owner"); err != nil {
		return err
	}
	tables := []string{"set role orders_owner"}
	for i := range 10 {
		tables = append(tables, fmt.Sprintf("create table orders_%d (id int primary key, note text)", i))
	}
	tables = append(tables, "grant select on all tables in schema public to orders_readers")
	if err := p.Exec(ctx, Database, strings.Join(tables, "; ")); err != nil {
		return err
	}
	script, err := administratorScript(ctx)
	if err != nil {
		return err
	}
	return p.Exec(ctx, Database, script)
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

// configure writes what all servers of the site share.
func (s *Site) configure() error {
	files := map[string]string{"secrets/orders-db": password, "store-password": password}
	for name, text := range s.Access {
		files["access/"+name] = text
	}
	for name, text := range files {
		if err := s.write(name, text); err != nil {
			return err
		}
	}
	return nil
}

func (s *Site) write(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(s.Path(name)), 0o700); err != nil {
		return err
	}
	return os.WriteFile(s.Path(name), []byte(text), 0o600)
}

// server writes the configuration of one server and returns its path and an administrator's client over its socket.
func (s *Site) server(name, listen, store, level string) (config string, admin *client.Client, err error) {
	limits, retention := s.opt.Limits, s.opt.Retention
	if limits == "" {
		limits = "{leases_per_principal: 1000000, acquire_rate: 100000/s}"
	}
	if retention == "" {
		retention = "{}"
	}
	if s.Audience == "" {
		s.Audience = "http://" + listen
	}
	if err := s.write(name+".yaml", fmt.Sprintf(serverFile, listen, s.Audience, s.Dir, name, store, limits, retention, level)); err != nil {
		return "", nil, err
	}
	admin, err = client.New(client.Options{URL: "unix://" + s.socket(name)})
	return s.Path(name + ".yaml"), admin, err
}

func (s *Site) socket(name string) string { return s.Path(name + ".sock") }

const (
	serverFile = `
listen: %[1]s
url: %[2]s
socket: %[3]s/%[4]s.sock
%[5]s
master_key: file://%[3]s/master.key
secrets_dir: %[3]s/secrets
access: %[3]s/access
limits: %[6]s
retention: %[7]s
log: {level: %[8]s, format: text}
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

// Path is a path below the site's directory.
func (s *Site) Path(name string) string { return filepath.Join(s.Dir, name) }

// init makes the key and the store that a configuration names.
func (s *Site) init(ctx context.Context, config string) error {
	out, err := exec.CommandContext(ctx, s.binary, "init", "--config", config).CombinedOutput()
	if err != nil {
		return fmt.Errorf("daypass init: %w\n%s", err, out)
	}
	return nil
}

// serve is a server, ready to start.
func (s *Site) serve(config string, log *os.File) *exec.Cmd {
	words := s.opt.Serve
	if words == nil {
		words = []string{s.binary, "serve", "--config"}
	}
	cmd := exec.Command(words[0], append(words[1:len(words):len(words)], config)...)
	cmd.Stdout, cmd.Stderr = log, log
	return cmd
}

// Token is a fresh token of a workflow's run.
func (s *Site) Token(run testissuer.Run) secret.Text {
	run.Audience = s.Audience
	return secret.New(s.Issuer.Token(s.Issuer.GitHub(run)))
}

// close ends everything and removes the directory.
func (s *Site) close() error {
	var errs []error
	if s.Issuer != nil {
		errs = append(errs, s.Issuer.Close())
	}
	if s.Postgres != nil {
		errs = append(errs, s.Postgres.Stop())
	}
	return errors.Join(append(errs, os.RemoveAll(s.Dir))...)
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// tail is the end of a log.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}
