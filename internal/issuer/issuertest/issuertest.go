// Package issuertest holds what tests need of Daypass as an issuer: keys that several servers share, and a stranger who
// verifies what they signed.
//
// It is for tests. The issuer is the real one; only its shelf is in memory. Time is an argument.
package issuertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/keyring"
)

// URL is what the issuer of tests calls itself, unless a test says otherwise.
const URL = "https://daypass.example.com"

// Keys are those of one installation: every issuer that is opened with them signs with the same. They may be used
// concurrently.
type Keys struct {
	master *keyring.Key
	shelf  shelf
}

// NewKeys makes a master key. The keys that it seals are made when an issuer first needs them.
func NewKeys(t testing.TB) *Keys {
	t.Helper()
	master, err := keyring.Create(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	return &Keys{master: master}
}

// Open returns an issuer with the keys: one server of the installation. Its URL is [URL] and its log nowhere, unless the
// configuration says otherwise.
func (k *Keys) Open(cfg issuer.Config) *issuer.Issuer {
	cfg.Key, cfg.Shelf = k.master, &k.shelf
	if cfg.URL == "" {
		cfg.URL = URL
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return issuer.New(cfg)
}

// shelf is in memory.
type shelf struct {
	mu     sync.Mutex // guards sealed
	sealed []byte
}

// Load implements [issuer.Shelf].
func (s *shelf) Load(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sealed, nil
}

// Swap implements [issuer.Shelf].
func (s *shelf) Swap(_ context.Context, before, next []byte, _ issuer.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !bytes.Equal(before, s.sealed) {
		return issuer.ErrSwapped
	}
	s.sealed = next
	return nil
}

// Verify verifies a token as a stranger does who knows some algorithms, by what the issuer publishes, and returns what it
// says.
func Verify(ctx context.Context, i *issuer.Issuer, text, audience string, now time.Time, known ...jose.SignatureAlgorithm) (map[string]any, error) {
	parsed, err := jwt.ParseSigned(text, known)
	if err != nil {
		return nil, errors.New("the token cannot be read")
	}
	documents, err := i.Documents(ctx)
	if err != nil {
		return nil, err
	}
	var keys jose.JSONWebKeySet
	for _, d := range documents {
		if d.Path == issuer.KeysPath {
			err = json.Unmarshal(d.Body, &keys)
		}
	}
	if err != nil {
		return nil, err
	}
	var registered jwt.Claims
	all := map[string]any{}
	if err := parsed.Claims(keys, &registered, &all); err != nil {
		return nil, errors.New("the token is not of this issuer")
	}
	return all, registered.ValidateWithLeeway(jwt.Expected{Issuer: i.URL(), AnyAudience: jwt.Audience{audience}, Time: now}, 0)
}
