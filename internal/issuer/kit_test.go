package issuer_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/keyring"
	"github.com/daypass/daypass/secret"
)

// shelf is a shelf in memory.
type shelf struct {
	mu      sync.Mutex // guards what follows
	sealed  []byte
	loads   int
	changes []issuer.Change
	down    error
}

func (s *shelf) Load(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	return s.sealed, s.down
}

func (s *shelf) Swap(_ context.Context, before, next []byte, c issuer.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return s.down
	}
	if !bytes.Equal(before, s.sealed) {
		return issuer.ErrSwapped
	}
	s.sealed = next
	s.changes = append(s.changes, c)
	return nil
}

func (s *shelf) looks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loads
}

func (s *shelf) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = err
}

func (s *shelf) changed() []issuer.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.changes)
}

// house is an installation: a shelf, a master key and a clock, with as many servers as a test opens.
type house struct {
	t      testing.TB
	url    string
	shelf  shelf
	master *keyring.Key
	mu     sync.Mutex // guards now
	now    time.Time
}

func newHouse(t testing.TB) *house {
	t.Helper()
	master, err := keyring.Create(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	return &house{t: t, url: "https://daypass.example.com", master: master, now: time.Now()}
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func (h *house) config() issuer.Config {
	return issuer.Config{URL: h.url, Key: h.master, Shelf: &h.shelf, Now: h.clock, Log: slog.New(slog.DiscardHandler)}
}

func (h *house) server() *issuer.Issuer { return issuer.New(h.config()) }

func order() issuer.Token {
	return issuer.Token{ID: "dp_abc234_one", Subject: "role:deploy", Audience: []string{"sts.example.com"}, TTL: time.Hour}
}

func sign(t testing.TB, i *issuer.Issuer, order issuer.Token) secret.Text {
	t.Helper()
	token, err := i.Sign(t.Context(), order)
	if err != nil {
		t.Fatalf("sign: %v", err)
	}
	return token
}

func document(t testing.TB, i *issuer.Issuer, path string) string {
	t.Helper()
	all, err := i.Documents(t.Context())
	if err != nil {
		t.Fatalf("documents: %v", err)
	}
	at := slices.IndexFunc(all, func(d issuer.Document) bool { return d.Path == path })
	return string(all[at].Body)
}

// keyOf returns the ID of the key that signed a token.
func keyOf(t testing.TB, token secret.Text) string {
	t.Helper()
	parsed, err := jwt.ParseSigned(token.Reveal(), algorithms)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Headers[0].KeyID
}

// generationOf is what the ID of a key begins with.
func generationOf(key string) string {
	generation, _, _ := strings.Cut(key, "-")
	return generation
}
