package server_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/installation"
	"github.com/daypass/daypass/internal/keyring"
	"github.com/daypass/daypass/internal/server"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/ledger"
)

// bare is an installation without access files, made and not started.
func bare(t *testing.T) (cfg config.Config, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dp") // short: a socket's path must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg = config.Config{
		Listen:     "127.0.0.1:0",
		Socket:     filepath.Join(dir, "admin.sock"),
		Store:      "sqlite://" + filepath.Join(dir, "daypass.db"),
		MasterKey:  "file://" + filepath.Join(dir, "master.key"),
		SecretsDir: dir,
	}
	if _, err := installation.Init(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return cfg, dir
}

// serve runs a server for as long as use takes, and returns the key that signed its ledger in the end.
func serve(t *testing.T, cfg config.Config, use func(c *client.Client)) (key string) {
	t.Helper()
	s, err := server.New(t.Context(), cfg, server.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	c, err := client.New(client.Options{URL: "unix://" + cfg.Socket})
	if err != nil {
		t.Fatal(err)
	}
	use(c)
	key = s.VerifierKey()
	cancel()
	if err := stopped(ended); err != nil {
		t.Fatal(err)
	}
	return key
}

func idle(*client.Client) {}

// sealedKey is the ledger's key as a store at rest keeps it.
func sealedKey(t *testing.T, dir string) []byte {
	t.Helper()
	sealed, err := sqlite.ReadSealed(t.Context(), filepath.Join(dir, "daypass.db"), "ledger-key")
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func putSealedKey(t *testing.T, dir string, sealed []byte) {
	t.Helper()
	err := sqlite.Reseal(t.Context(), filepath.Join(dir, "daypass.db"), sqlite.Options{}, func(all map[string][]byte) error {
		all["ledger-key"] = sealed
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestARotatedKeySignsFromThenOnAndAfterARestart(t *testing.T) {
	cfg, dir := bare(t)
	first := serve(t, cfg, idle)
	before := sealedKey(t, dir)
	var second string
	now := serve(t, cfg, func(c *client.Client) {
		done, err := c.RotateKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		second = done.Key
		status, err := c.Status(t.Context())
		if err != nil || status.Ledger.Key != second || status.Ledger.Size <= done.Entry {
			t.Errorf("status says %+v, %v", status.Ledger, err)
		}
	})
	if first == second || now != second || bytes.Equal(before, sealedKey(t, dir)) {
		t.Fatalf("from %s to %s, and %s signs", first, second, now)
	}
	var export bytes.Buffer
	now = serve(t, cfg, func(c *client.Client) {
		if err := c.ExportLedger(t.Context(), &export); err != nil {
			t.Fatal(err)
		}
	})
	if now != second {
		t.Errorf("%s signs after a restart", now)
	}
	for _, key := range []string{first, second} {
		report, err := ledger.VerifyExport(bytes.NewReader(export.Bytes()), []string{key}, nil, time.Now())
		if err != nil || len(report.Checkpoint.Keys) != 1 || report.Checkpoint.Keys[0] != second {
			t.Errorf("by %s: %+v, %v", key, report, err)
		}
	}
}

// Whoever can write the store's file cannot make the server sign with a key of theirs, nor with one that is retired.
func TestALedgerKeyThatIsPutIntoTheStoreIsRefused(t *testing.T) {
	cfg, dir := bare(t)
	retired := sealedKey(t, dir)
	_, elsewhere := bare(t)
	foreign := sealedKey(t, elsewhere)
	serve(t, cfg, func(c *client.Client) {
		if _, err := c.RotateKey(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	good := sealedKey(t, dir)
	for name, c := range map[string]struct {
		sealed []byte
		want   error
	}{
		"retired":                         {retired, store.ErrWrongKey},
		"of another installation":         {foreign, keyring.ErrWrongKey},
		"damaged":                         {append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), keyring.ErrDamaged},
		"the head of one, the end of one": {append(bytes.Clone(retired[:40]), good[40:]...), keyring.ErrDamaged},
	} {
		putSealedKey(t, dir, c.sealed)
		if _, err := server.New(t.Context(), cfg, server.Options{Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	putSealedKey(t, dir, good)
	serve(t, cfg, idle)
}

func TestTheMasterKeyIsReplaced(t *testing.T) {
	cfg, dir := bare(t)
	first := serve(t, cfg, idle)
	to := "file://" + filepath.Join(dir, "next.key")
	did, err := installation.Rewrap(t.Context(), cfg, to)
	if err != nil || len(did) != 2 || !strings.Contains(did[0], "made the master key") {
		t.Fatalf("%q, %v", did, err)
	}
	if _, err := server.New(t.Context(), cfg, server.Options{Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, keyring.ErrWrongKey) {
		t.Errorf("the old key still opens it: %v", err)
	}
	sealed := sealedKey(t, dir)
	if err := os.Remove(filepath.Join(dir, "master.key")); err != nil {
		t.Fatal(err)
	}
	// Again, as after an interruption, before and after the configuration follows.
	for _, named := range []string{cfg.MasterKey, to} {
		cfg.MasterKey = named
		did, err = installation.Rewrap(t.Context(), cfg, to)
		if err != nil || len(did) != 1 || !strings.Contains(did[0], "already") || !bytes.Equal(sealed, sealedKey(t, dir)) {
			t.Errorf("again: %q, %v", did, err)
		}
	}
	if key := serve(t, cfg, func(c *client.Client) {
		if _, err := c.RotateKey(t.Context()); err != nil {
			t.Error(err)
		}
	}); key == first {
		t.Error("the ledger's key was not rotated under the new master key")
	}
	serve(t, cfg, idle)
}

func TestAnInterruptedChangeOfTheMasterKeyGoesOn(t *testing.T) {
	cfg, dir := bare(t)
	path := filepath.Join(dir, "next.key")
	// A crash tore the new file: nothing is sealed with it, and the message says what to do.
	if err := os.WriteFile(path, []byte("dG9ybg"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := installation.Rewrap(t.Context(), cfg, "file://"+path)
	if hinted, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); !ok || !strings.Contains(hinted.Hint(), "the old master key still opens the store") {
		t.Errorf("got %v", err)
	}
	serve(t, cfg, idle)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	// A crash after the new key was made: it is used.
	made, err := keyring.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if did, err := installation.Rewrap(t.Context(), cfg, "file://"+path); err != nil || len(did) != 1 {
		t.Errorf("%q, %v", did, err)
	}
	if by, err := keyring.SealedBy(sealedKey(t, dir)); err != nil || by != made.Fingerprint() {
		t.Errorf("sealed by %s, %v", by, err)
	}
}

func TestNoMasterKeyIsMadeForNothing(t *testing.T) {
	cfg, dir := bare(t)
	sealed := sealedKey(t, dir)
	next := filepath.Join(dir, "next.key")
	_, elsewhere := bare(t)
	for name, c := range map[string]struct {
		change func(cfg *config.Config, to *string) (restore func())
		want   error
	}{
		"the server runs": {func(cfg *config.Config, _ *string) func() {
			s, err := server.New(t.Context(), *cfg, server.Options{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return func() {
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				if err := s.Run(ended); err != nil {
					t.Error(err)
				}
			}
		}, store.ErrInUse},
		"there is no store": {func(cfg *config.Config, _ *string) func() {
			cfg.Store += ".absent"
			return func() {}
		}, store.ErrAbsent},
		"the old key is another installation's": {func(cfg *config.Config, _ *string) func() {
			cfg.MasterKey = "file://" + filepath.Join(elsewhere, "master.key")
			return func() {}
		}, keyring.ErrWrongKey},
		"the old key is lost": {func(cfg *config.Config, _ *string) func() {
			cfg.MasterKey += ".lost"
			return func() {}
		}, fs.ErrNotExist},
		"the old key is lost, and the new one is to stand in its place": {func(cfg *config.Config, to *string) func() {
			cfg.MasterKey = "file://" + next
			*to = cfg.MasterKey
			return func() {}
		}, fs.ErrNotExist},
	} {
		cfg, to := cfg, "file://"+next
		restore := c.change(&cfg, &to)
		did, err := installation.Rewrap(t.Context(), cfg, to)
		if !errors.Is(err, c.want) || len(did) > 0 {
			t.Errorf("%s: %q, %v", name, did, err)
		}
		if _, err := os.Stat(next); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a key was made", name)
		}
		restore()
	}
	for _, to := range []string{"", "next.key", "file://next.key", "kms://key", "file:///a/../b"} {
		if _, err := installation.Rewrap(t.Context(), cfg, to); err == nil {
			t.Errorf("the reference %q was taken", to)
		}
	}
	if serve(t, cfg, idle); !bytes.Equal(sealed, sealedKey(t, dir)) {
		t.Error("the store changed")
	}
}

func TestAServerWithTheWrongKeyDoesNotStart(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Config{Listen: "127.0.0.1:0", Store: "sqlite://" + dir + "/d.db", MasterKey: "file://" + dir + "/k", SecretsDir: dir, Socket: "none"}
	if _, err := server.New(t.Context(), cfg, server.Options{}); err == nil || !strings.Contains(hint(err), "daypass init") {
		t.Errorf("with nothing there: %v (%s)", err, hint(err))
	}
	if _, err := installation.Init(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/k", dir+"/old"); err != nil {
		t.Fatal(err)
	}
	if _, err := installation.Init(t.Context(), cfg); err == nil || !strings.Contains(hint(err), "restore the master key") {
		t.Errorf("init made a new key for an old store: %v", err)
	}
	other := cfg
	other.Store = "sqlite://" + dir + "/e.db"
	if _, err := installation.Init(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if _, err := server.New(t.Context(), cfg, server.Options{}); err == nil || !strings.Contains(err.Error(), "does not belong to the store") {
		t.Errorf("with another key: %v", err)
	}
}

func hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
