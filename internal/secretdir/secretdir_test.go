package secretdir_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/daypass/daypass/internal/secretdir"
)

func TestSecretsCannotBeReadOutsideTheirDirectory(t *testing.T) {
	dir := t.TempDir()
	inside := filepath.Join(dir, "secrets")
	if err := os.MkdirAll(filepath.Join(inside, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"outside": "out", "secrets/in": "in\n", "secrets/sub/deep": "deep", "secrets/empty": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(inside, "big"), make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": "../outside", "absolute": filepath.Join(dir, "outside"), "near": "in", "up": ".."} {
		if err := os.Symlink(to, filepath.Join(inside, link)); err != nil {
			t.Fatal(err)
		}
	}
	s := secretdir.New(inside)
	if data, err := s.Certificates("in"); err == nil {
		t.Errorf("a password passes for a certificate: %d bytes", len(data))
	}
	for name, want := range map[string]string{"in": "in", "sub/deep": "deep", "near": "in", filepath.Join(inside, "in"): "in"} {
		if text, err := s.Text(name); err != nil || text.Reveal() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"../outside", "link", "absolute", "up/outside", "/etc/passwd", "sub/../../outside", "", ".", "sub", "none", "empty", "big"} {
		if text, err := s.Text(name); err == nil {
			t.Errorf("%q gives %d bytes", name, len(text.Reveal()))
		}
	}
}
