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
