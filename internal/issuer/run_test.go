package issuer_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass/daypass/internal/issuer"
)

// run runs an issuer in a bubble's time until the test ends.
func (h *house) run(t *testing.T, change func(*issuer.Config)) *issuer.Issuer {
	t.Helper()
	cfg := h.config()
	cfg.Now = time.Now
	change(&cfg)
	i := issuer.New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return i
}

func TestKeysTurnOverOnTheirScheduleWithoutAnybodysHelp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		i := h.run(t, func(c *issuer.Config) { c.Rotate = 48 * time.Hour })
		time.Sleep(96 * time.Hour) //nolint:forbidigo // in a bubble
		if changes := h.shelf.changed(); len(changes) != 0 {
			t.Fatalf("nobody needed keys, and the record says %+v", changes)
		}
		seen := map[string]bool{}
		for range 3 {
			generation := generationOf(keyOf(t, sign(t, i, order())))
			if seen[generation] {
				t.Errorf("generation %s signs again or still", generation)
			}
			seen[generation] = true
			time.Sleep(48*time.Hour + time.Minute) //nolint:forbidigo // in a bubble
		}
		if changes := h.shelf.changed(); len(changes) != 4 || changes[3].By != "schedule" {
			t.Errorf("the record says %+v", changes)
		}
	})
}

func read(t *testing.T, directory, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(directory, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCopiesAreReplacedWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		directory := t.TempDir()
		i := h.run(t, func(c *issuer.Config) { c.Publish, c.Rotate = directory, 48*time.Hour })
		for range 2 {
			time.Sleep(25 * time.Hour) //nolint:forbidigo // in a bubble
			for _, path := range []string{issuer.ConfigurationPath, issuer.KeysPath} {
				if read(t, directory, path) != document(t, i, path) {
					t.Errorf("the copy of %s is another", path)
				}
			}
		}
		if err := os.WriteFile(filepath.Join(directory, issuer.KeysPath), []byte("spoilt"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // in a bubble
		if read(t, directory, issuer.KeysPath) != document(t, i, issuer.KeysPath) {
			t.Error("a spoilt copy stays")
		}
		var names []string
		err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				names = append(names, strings.TrimPrefix(path, directory))
				info, failed := entry.Info()
				if failed != nil || info.Mode().Perm() != 0o644 {
					t.Errorf("%s: %v, %v", path, info.Mode(), failed)
				}
			}
			return err
		})
		if want := issuer.KeysPath + " " + issuer.ConfigurationPath; err != nil || strings.Join(names, " ") != want {
			t.Errorf("the directory holds %v (%v), want %s", names, err, want)
		}
	})
}

func TestKeysThatCannotBePublishedDoNotSign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		directory := filepath.Join(t.TempDir(), "later")
		i := h.run(t, func(c *issuer.Config) { c.Publish, c.Rotate = directory, 48*time.Hour })
		before := generationOf(keyOf(t, sign(t, i, order())))
		time.Sleep(96 * time.Hour) //nolint:forbidigo // in a bubble
		if still := generationOf(keyOf(t, sign(t, i, order()))); still != before {
			t.Error("keys sign that stand nowhere")
		}
		if err := os.Mkdir(directory, 0o755); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // in a bubble
		after := generationOf(keyOf(t, sign(t, i, order())))
		if after == before || !strings.Contains(read(t, directory, issuer.KeysPath), after) {
			t.Errorf("generation %s signs, and %s before it", after, before)
		}
	})
}
