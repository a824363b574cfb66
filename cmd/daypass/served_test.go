package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/internal/testissuer"
)

// TestServedScripts runs scripts from a workload's and an administrator's chair against the real thing: the binary's
// own server, a real issuer, a real PostgreSQL.
func TestServedScripts(t *testing.T) {
	postgres := testbed.SharedPostgres(t, 15)
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/served",
		RequireUniqueNames: true,
		Cmds:               withStores(t, servedCommands(), postgres),
		Setup:              func(e *testscript.Env) error { return furnish(t, e, postgres) },
	})
}

// servedCommands are those of the other scripts and:
//
//	serve                    starts `daypass serve` in the background, which ends with the script, and waits for it
//	halt                     ends the server that was started last
//	pick VARIABLE PATH       sets a variable to a value in the JSON that was last printed, such as credential.url
//	catch VARIABLE PATTERN   sets a variable to what the pattern's group matches in the last standard error
func servedCommands() map[string]func(*testscript.TestScript, bool, []string) {
	commands := scriptCommands()
	commands["serve"] = func(ts *testscript.TestScript, _ bool, args []string) {
		log, err := os.Create(ts.MkAbs("serve.log"))
		ts.Check(err)
		server := prepare(ts, append([]string{"daypass", "serve", "--config", "daypass.yaml"}, args...))
		server.Stdout, server.Stderr = log, log
		ts.Check(server.Start())
		gone := make(chan struct{})
		go func() { defer close(gone); server.Wait() }()
		stop := sync.OnceFunc(func() {
			server.Process.Signal(os.Interrupt)
			<-gone
			log.Close()
		})
		ts.Defer(stop)
		*ts.Value(running{}).(*func()) = stop
		awaitReady(ts, gone)
	}
	commands["halt"] = func(ts *testscript.TestScript, _ bool, _ []string) { (*ts.Value(running{}).(*func()))() }
	commands["pick"] = func(ts *testscript.TestScript, _ bool, args []string) {
		var value any
		ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &value))
		for key := range strings.SplitSeq(args[1], ".") {
			switch v := value.(type) {
			case map[string]any:
				value = v[key]
			case []any:
				i, err := strconv.Atoi(key)
				ts.Check(err)
				value = v[i]
			}
		}
		if value == nil {
			ts.Fatalf("there is no %s", args[1])
		}
		ts.Setenv(args[0], fmt.Sprint(value))
	}
	commands["catch"] = func(ts *testscript.TestScript, _ bool, args []string) {
		found := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stderr"))
		if len(found) < 2 {
			ts.Fatalf("nothing matches %s", args[1])
		}
		ts.Setenv(args[0], found[1])
	}
	return commands
}

// running is where a script keeps what ends the server that was started last.
type running struct{}

// awaitReady waits until the server can give leases.
func awaitReady(ts *testscript.TestScript, gone <-chan struct{}) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	caller := &http.Client{Timeout: 10 * time.Second}
	if path := ts.Getenv("DAYPASS_CA_FILE"); path != "" {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(ts.ReadFile(path)))
		caller.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	}
	for {
		select {
		case <-gone:
			ts.Fatalf("the server ended:\n%s", ts.ReadFile("serve.log"))
		case <-late:
			ts.Fatalf("the server is not ready:\n%s", ts.ReadFile("serve.log"))
		case <-tick.C:
			response, err := caller.Get(ts.Getenv("DAYPASS_URL") + "/healthz")
			if err != nil {
				continue
			}
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
	}
}

// furnish gives a script a database with a table and an administrator for Daypass, an issuer that signs as GitHub
// does, and the files of an installation.
func furnish(t *testing.T, e *testscript.Env, postgres *testbed.Postgres) error {
	issuer, err := testissuer.Start(testissuer.Options{Now: time.Now})
	if err != nil {
		return err
	}
	e.Defer(func() { issuer.Close() })
	database := postgres.Database(t)
	admin, owner := database+"_daypass", database+"_owner"
	err = postgres.Exec(t.Context(), database,
		fmt.Sprintf(`create role %s login createrole password 'administrator'`, admin),
		fmt.Sprintf(`grant pg_signal_backend to %s`, admin),
		fmt.Sprintf(`create role %s`, owner),
		fmt.Sprintf(`grant %s to %s`, owner, admin),
		`create table orders (id int)`, `insert into orders values (1), (2), (3)`,
		fmt.Sprintf(`alter table orders owner to %s`, owner),
		fmt.Sprintf(`grant create on schema public to %s`, owner),
	)
	if err != nil {
		return err
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	work := e.WorkDir
	e.Values[running{}] = new(func())
	e.Setenv("DAYPASS_URL", "http://"+address)
	e.Setenv("DAYPASS_SOCKET", filepath.Join(work, "admin.sock"))
	e.Setenv("ACTIONS_ID_TOKEN_REQUEST_URL", issuer.RequestURL())
	e.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", issuer.RequestToken())
	e.Setenv("DATABASE", database)
	return writeInstallation(work, strings.NewReplacer(
		"ADDRESS", address, "WORK", work, "ISSUER", issuer.URL(), "SERVER", postgres.Address(),
		"HOST", postgres.Host, "PORT", fmt.Sprint(postgres.Port), "DATABASE", database, "ADMIN", admin))
}

// freeAddress returns an address that nobody listens on.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// writeInstallation writes the files of an installation.
func writeInstallation(work string, fill *strings.Replacer) error {
	for name, text := range map[string]string{
		"daypass.yaml": `listen: ADDRESS
url: http://ADDRESS
socket: WORK/admin.sock
store: sqlite://WORK/daypass.db
master_key: file://WORK/master.key
secrets_dir: WORK/secrets
`,
		"secrets/orders-db": "administrator\n",
		"access/access.yaml": `kind: Issuer
name: github
preset: github-actions
oidc: {url: "ISSUER"}
---
kind: Target
name: orders-db
postgres: {url: "postgres://ADMIN@SERVER/DATABASE?sslmode=disable", password: {file: orders-db}}
client: {host: HOST, port: PORT, sslmode: disable}
---
kind: Role
name: orders-readonly
target: orders-db
ttl: {default: 15m, max: 1h}
renew: handle
postgres:
  grants: [{privileges: [SELECT], on: tables, schema: public}]
---
kind: Role
name: orders-owner
target: orders-db
ttl: {default: 5m, max: 5m}
postgres:
  grants: [{privileges: [SELECT, INSERT], on: tables, schema: public}]
`,
		"access/orders.cedar": `@id("main-branch-reads")
permit (
  principal is GitHub::Workload,
  action in [Action::"acquire", Action::"renew"],
  resource == Role::"orders-readonly"
) when { principal.claims.repository == "acme/orders" };
`,
	} {
		path := filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(fill.Replace(text)), 0o600); err != nil {
			return err
		}
	}
	return nil
}
