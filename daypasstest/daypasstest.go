// Package daypasstest runs a real Daypass in the process of a test, so that programs which use it can be tested
// without a server to install.
//
// [Start] gives a broker with its store in a temporary directory, an HTTP API on a loopback port, an issuer whose
// tokens the test asks for, and a target in memory. Nothing in it is a mock: tokens are signed and verified,
// policies decide, leases are recorded, expire and are revoked, and the ledger verifies. Only the target is not
// real, and [Options].Access can name one that is.
//
//	func TestMigrate(t *testing.T) {
//		daypass := daypasstest.Start(t, daypasstest.Options{})
//		t.Setenv("DAYPASS_URL", daypass.URL())
//		t.Setenv("DAYPASS_TOKEN_FILE", daypass.TokenFile(t, nil))
//		… run the program …
//		if daypass.Live() != 0 { t.Error("the program left a lease behind") }
//	}
//
// It is for tests alone: its issuer signs whatever it is asked to.
package daypasstest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/installation"
	"github.com/daypass/daypass/internal/server"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

// Role is the role of the access configuration that there is unless [Options].Access says otherwise.
const Role = "example"

// Options say what to start. The zero value gives every workload the role [Role] at a target in memory.
type Options struct {
	// Access returns the access files, path to text, given the issuer's URL. Targets of kind `memory` are the
	// target in memory: `memory: {}` in a Target, `memory: {read: true}` in a Role.
	Access func(issuer string) map[string]string
	// Secrets are the files that `file:` references name, path to text.
	Secrets map[string]string
	// Config is more of the broker's configuration, as daypass.yaml has it, such as alerts and location. What the kit
	// needs for itself it sets.
	Config string
	// Log takes the broker's log; nothing is logged unless given.
	Log *slog.Logger
}

// Daypass is a running broker with its issuer and its target in memory. Its methods may be called concurrently.
type Daypass struct {
	server *server.Server
	issuer *testissuer.Issuer
	system *targettest.System
	socket string
	stop   func() error
}

// Start runs a broker until the test ends.
func Start(t testing.TB, opt Options) *Daypass {
	t.Helper()
	// Not t.TempDir: the path of a socket may have 107 bytes, and names of tests are long.
	dir, err := os.MkdirTemp("", "daypasstest-")
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(dir, opt)
	if err != nil {
		t.Fatal(errors.Join(err, os.RemoveAll(dir)))
	}
	t.Cleanup(func() {
		if err := errors.Join(d.Close(), os.RemoveAll(dir)); err != nil {
			t.Errorf("daypasstest: %v", err)
		}
	})
	return d
}

// New runs a broker that keeps its files in dir, until Close. Programs that are no tests, such as examples, use it.
func New(dir string, opt Options) (*Daypass, error) {
	d := &Daypass{system: targettest.NewSystem(time.Now), socket: filepath.Join(dir, "admin.sock")}
	if opt.Access == nil {
		opt.Access = exampleAccess
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	var err error
	if d.issuer, err = testissuer.Start(testissuer.Options{Now: time.Now, Algorithm: "ES256"}); err != nil {
		return nil, err
	}
	if err := d.start(dir, opt); err != nil {
		return nil, errors.Join(fmt.Errorf("daypasstest: %w", err), d.issuer.Close())
	}
	return d, nil
}

// start writes the files, and runs the server until it serves.
func (d *Daypass) start(dir string, opt Options) error {
	ctx := context.Background() // the broker lives as long as its test, not as long as a call
	path := filepath.Join(dir, "daypass.yaml")
	if err := os.WriteFile(path, []byte("listen: 127.0.0.1:0\n"+opt.Config), 0o600); err != nil {
		return err
	}
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	cfg.Socket = d.socket
	cfg.Store = "sqlite://" + filepath.Join(dir, "daypass.db")
	cfg.MasterKey = "file://" + filepath.Join(dir, "master.key")
	cfg.SecretsDir = filepath.Join(dir, "secrets")
	cfg.Access = filepath.Join(dir, "access")
	cfg.Limits = config.Limits{AcquireRate: 10_000, LeasesPerPrincipal: 10_000}
	cfg.Admins = config.Admins{Issuers: []string{"test"}}
	if err := errors.Join(writeFiles(cfg.SecretsDir, opt.Secrets), writeFiles(cfg.Access, opt.Access(d.issuer.URL()))); err != nil {
		return err
	}
	if _, err := installation.Init(ctx, cfg); err != nil {
		return err
	}
	d.server, err = server.New(ctx, cfg, server.Options{
		Version: "daypasstest",
		Log:     opt.Log,
		Targets: map[string]target.Target{"memory": targettest.NewMemory(d.system)},
	})
	if err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.server.Run(running) }()
	d.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	return d.await(ctx, ended)
}

// await returns when the server serves, or has ended instead.
func (d *Daypass) await(ctx context.Context, ended chan error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		_, err := d.Administrator().Status(ctx)
		served <- err
	}()
	select {
	case err := <-ended:
		ended <- err // for stop
		return err
	case err := <-served:
		if err != nil {
			return errors.Join(err, d.stop())
		}
		return nil
	}
}

func writeFiles(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// exampleAccess gives everybody whom the issuer knows the role [Role].
func exampleAccess(issuer string) map[string]string {
	return map[string]string{
		"access.yaml": fmt.Sprintf(`kind: Issuer
name: test
oidc: {url: %q}
---
kind: Target
name: memory
memory: {}
---
kind: Role
name: %s
target: memory
ttl: {default: 5m, max: 1h}
renew: handle
memory: {read: true}
`, issuer, Role),
		"access.cedar": "permit (principal, action, resource);\n",
	}
}

// URL is the broker's address, and the audience of tokens for it.
func (d *Daypass) URL() string { return d.server.URL() }

// IssuerURL is the `iss` of the issuer's tokens.
func (d *Daypass) IssuerURL() string { return d.issuer.URL() }

// VerifierKey is the public key of the broker's ledger, for package ledger.
func (d *Daypass) VerifierKey() string { return d.server.VerifierKey() }

// Token returns a fresh token that is good for a few minutes. Claims replace or add to those that every token has;
// `sub` is "workload" unless given. A nil value removes a claim.
func (d *Daypass) Token(claims map[string]any) secret.Text {
	now := time.Now().Unix()
	all := map[string]any{"iss": d.issuer.URL(), "aud": d.URL(), "sub": "workload", "iat": now, "nbf": now - 30, "exp": now + 300}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	return secret.New(d.issuer.Token(all))
}

// TokenFile writes a fresh token to a file of the test, for programs that read one (DAYPASS_TOKEN_FILE).
func (d *Daypass) TokenFile(t testing.TB, claims map[string]any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(d.Token(claims).Reveal()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Workload returns a client that shows a fresh token with these claims at each call.
func (d *Daypass) Workload(claims map[string]any) *client.Client {
	return d.client(client.Options{URL: d.URL(), Token: client.TokenFunc(func(context.Context) (secret.Text, error) {
		return d.Token(claims), nil
	})})
}

// Administrator returns a client of the administration socket.
func (d *Daypass) Administrator() *client.Client {
	return d.client(client.Options{URL: "unix://" + d.socket})
}

func (d *Daypass) client(o client.Options) *client.Client {
	c, err := client.New(o)
	if err != nil {
		panic("daypasstest: " + err.Error()) // our own address
	}
	return c
}

// Works reports whether a credential opens the target in memory now.
func (d *Daypass) Works(c client.Credential) bool {
	return d.system.Try(target.Credential{
		Attributes: map[string]any{"username": c.Public("username")},
		Secrets:    map[string]secret.Text{"password": c.Secret("password")},
	}) == nil
}

// Live returns how many credentials live at the target in memory now.
func (d *Daypass) Live() int { return len(d.system.Leases()) }

// Close stops the broker and its issuer. [Start] does it by itself.
func (d *Daypass) Close() error { return errors.Join(d.stop(), d.issuer.Close()) }
