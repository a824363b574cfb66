package installation_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/installation"
)

func TestInitMakesWhatIsMissingAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Config{Store: "sqlite://" + dir + "/a/d.db", MasterKey: "file://" + dir + "/b/k", SecretsDir: dir, Socket: "none"}
	made, err := installation.Init(t.Context(), cfg)
	if err != nil || !strings.Contains(strings.Join(made, "\n"), "made the master key") {
		t.Fatalf("%v, %v", made, err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "b/k"))
	if err != nil {
		t.Fatal(err)
	}
	if made, err = installation.Init(t.Context(), cfg); err != nil || strings.Contains(strings.Join(made, "\n"), "made the") {
		t.Errorf("again: %v, %v", made, err)
	}
	if again, err := os.ReadFile(filepath.Join(dir, "b/k")); err != nil || string(again) != string(key) {
		t.Error("the master key was replaced")
	}
	for _, name := range []string{"a/d.db", "b/k"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}
