package daypasstest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/daypass/daypass/daypasstest"
)

// TestAnOAuthClientOfOthersIsServed holds the OAuth face to a client library that nobody here wrote.
func TestAnOAuthClientOfOthersIsServed(t *testing.T) {
	cache := os.Getenv("DAYPASS_CACHE")
	if cache == "" {
		cache = "../.cache"
	}
	library, err := filepath.Abs(filepath.Join(cache, "oauth4webapi-3.8.8/node_modules/oauth4webapi/build/index.js"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(library); err != nil {
		t.Fatalf("the library is missing; run: scripts/install-oauthclient (%v)", err)
	}
	d := daypasstest.Start(t, daypasstest.Options{})
	said, err := exec.CommandContext(t.Context(), "node", "../tools/oauthclient/client.mjs", library, d.URL(), d.Token(nil).Reveal(), daypasstest.Role).CombinedOutput()
	if err != nil || strings.TrimSpace(string(said)) != "ok" {
		t.Errorf("%v: %s", err, said)
	}
}

// TestTheOAuthPackageOfGoGetsALease is the same for the package that most Go programs have.
func TestTheOAuthPackageOfGoGetsALease(t *testing.T) {
	program := filepath.Join(t.TempDir(), "xoauth2")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = "../tools/oauthclient/xoauth2"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the client: %v (run: cd tools/oauthclient/xoauth2 && go mod download)\n%s", err, out)
	}
	d := daypasstest.Start(t, daypasstest.Options{})
	ask := func(role string) (string, error) {
		said, err := exec.CommandContext(t.Context(), program, d.URL(), d.Token(nil).Reveal(), role).CombinedOutput()
		return strings.TrimSpace(string(said)), err
	}
	if said, err := ask(daypasstest.Role); err != nil || said != "N_A "+daypasstest.Role || d.Live() != 1 {
		t.Errorf("%v: %s, and %d leases live", err, said, d.Live())
	}
	if said, err := ask("none"); err == nil || !strings.Contains(said, `"invalid_scope"`) {
		t.Errorf("a role that is not: %v: %s", err, said)
	}
}
