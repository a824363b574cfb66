package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/installation"
	"github.com/daypass/daypass/internal/server"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

// rig is a whole broker with one target in memory that hands out a known password.
type rig struct {
	*server.Server
	issuer *testissuer.Issuer
	dir    string
	log    *testbed.Log
	memory *targettest.Memory
	system *targettest.System
	local  *http.Client
	stop   func() error
}

// talkative is the target in memory with a password that the test knows, and errors that tell it too: what a
// careless target could do.
type talkative struct {
	*targettest.Memory
	password string
	panics   func() bool
}

func (m talkative) Grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	if m.panics() {
		panic("a target that panics with " + m.password)
	}
	c, err := m.Memory.Grant(ctx, g)
	if err == nil {
		c.Secrets["password"] = secret.New(m.password)
	}
	return c, err
}

func (m talkative) Check(context.Context) ([]target.Finding, error) {
	if m.panics() {
		panic("a check that panics with " + m.password)
	}
	return []target.Finding{{Severity: target.Note, Message: "all is well"}}, nil
}

const canary = "canary-7f3a9c55e1d2b846-password"

const policies = `permit (principal, action == Action::"acquire", resource == Role::"reader")
  unless { principal.subject == "stranger" };
permit (principal, action == Action::"renew", resource);
permit (principal, action, resource is System) when { principal.subject == "boss" };
permit (principal, action, resource is Lease) when { principal.subject == "boss" };
`

func accessFiles(issuer string) map[string]string {
	return map[string]string{
		"a.yaml": fmt.Sprintf(`kind: Issuer
name: test
oidc: {url: %q}
---
kind: Target
name: vault
memory: {}
---
kind: Role
name: reader
target: vault
renew: handle
memory: {read: true}
`, issuer),
		"a.cedar": policies,
	}
}

func newRig(t testing.TB, change func(*config.Config)) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "dp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{dir: dir, log: &testbed.Log{}, system: targettest.NewSystem(time.Now)}
	r.memory = targettest.NewMemory(r.system)
	if r.issuer, err = testissuer.Start(testissuer.Options{Now: time.Now, Algorithm: "ES256"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.issuer.Close() })
	cfg := config.Config{
		Listen: "127.0.0.1:0", Socket: filepath.Join(dir, "s"), Store: "sqlite://" + filepath.Join(dir, "d.db"),
		MasterKey: "file://" + filepath.Join(dir, "k"), SecretsDir: dir, Access: filepath.Join(dir, "access"),
		Admins: config.Admins{Issuers: []string{"test"}}, Limits: config.Limits{AcquireRate: 1e6, LeasesPerPrincipal: 1e6},
	}
	if change != nil {
		change(&cfg)
	}
	if err := os.Mkdir(cfg.Access, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range accessFiles(r.issuer.URL()) {
		if err := os.WriteFile(filepath.Join(cfg.Access, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	if _, err := installation.Init(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	panics := func() bool { _, err := os.Stat(filepath.Join(dir, "panic")); return err == nil }
	r.Server, err = server.New(ctx, cfg, server.Options{Version: "test",
		Log:     slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Targets: map[string]target.Target{"memory": talkative{r.memory, canary, panics}}})
	if err != nil {
		t.Fatal(err)
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(running) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	r.local = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Socket)
	}}}
	t.Cleanup(r.local.CloseIdleConnections)
	if got := r.ask(t, "GET", "/readyz", ""); got.status != 200 {
		t.Fatalf("not ready: %s\n%s", got.body, r.log.String())
	}
	return r
}

func (r *rig) token(subject string) string {
	now := time.Now().Unix()
	return r.issuer.Token(map[string]any{"iss": r.issuer.URL(), "aud": r.URL(), "sub": subject, "iat": now, "exp": now + 300})
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) problem(t testing.TB) api.Problem {
	t.Helper()
	var p api.Problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("no problem: %d %s", a.status, a.body)
	}
	return p
}

// ask sends one request: head lines are "Name: value".
func (r *rig) ask(t testing.TB, method, path, body string, head ...string) answer {
	t.Helper()
	return r.askAt(t, http.DefaultClient, r.URL(), method, path, body, head...)
}

// administer sends one request over the socket.
func (r *rig) administer(t testing.TB, method, path, body string, head ...string) answer {
	t.Helper()
	return r.askAt(t, r.local, "http://socket", method, path, body, head...)
}

func (r *rig) askAt(t testing.TB, c *http.Client, base, method, path, body string, head ...string) answer {
	t.Helper()
	request, err := http.NewRequest(method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range head {
		name, value, _ := strings.Cut(line, ": ")
		request.Header.Add(name, value)
	}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

func bearer(token string) string { return "Authorization: Bearer " + token }

// acquire gets a lease for a subject.
func (r *rig) acquire(t testing.TB, subject string) api.Acquired {
	t.Helper()
	got := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer(r.token(subject)))
	var a api.Acquired
	if err := json.Unmarshal([]byte(got.body), &a); err != nil || got.status != http.StatusCreated {
		t.Fatalf("acquire: %d %s", got.status, got.body)
	}
	return a
}
