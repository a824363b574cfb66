// Package issuer is Daypass as an OpenID Connect issuer: it signs tokens that services and clouds elsewhere verify.
//
// It owns the signing keys, the two documents by which others find them (documents.go) and their copies as files
// (publish.go). Keys come in generations, each with one key for every algorithm, and a generation goes through a life:
//
//	next      published and not yet used, so that verifiers know it before they meet it
//	signing   signs every token
//	retired   its private keys are destroyed; published until the longest token it signed has expired
//
// It promises that no token is signed with a key that was not published for [Ahead] before, except in a new
// installation and where an administrator withdrew the older keys; that the keys are the same on all servers of a
// store; and that no private key leaves the process unsealed.
//
// It knows the store as a [Shelf] only, and must not import targets or the broker. Time is an argument.
package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/internal/keyring"
	"github.com/daypass/daypass/secret"
)

// Algorithm is a signature algorithm of RFC 7518. There is no EdDSA: too many of those who verify do not know it.
type Algorithm string

// The algorithms. Every generation has a key for each.
const (
	RS256 Algorithm = "RS256" // the one that all verifiers know; Entra takes no other
	ES256 Algorithm = "ES256" // thirty times cheaper to sign
)

// Algorithms lists all algorithms.
func Algorithms() []Algorithm { return []Algorithm{RS256, ES256} }

const (
	// MaxTTL is how long a token may live at most: retired keys stay published for as long.
	MaxTTL = 24 * time.Hour
	// Ahead is how long a key is published at least before it signs. It is longer than [MaxAge].
	Ahead = time.Hour
	// MaxAge is how long others may keep our documents.
	MaxAge = 5 * time.Minute

	backdate = time.Minute      // how far nbf is before iat, for verifiers whose clock is late
	fresh    = 2 * time.Minute  // how long a server signs without looking at the shelf
	look     = 30 * time.Second // how often Run looks at it
	overlap  = MaxTTL + 5*time.Minute
	minLook  = time.Second // the least time between two looks for a key that a token names
)

// Config is what an Issuer is made from.
type Config struct {
	URL       string        // `iss` of every token, and where others look for the documents; without a slash at its end
	Server    string        // where the OAuth endpoints are; empty: nowhere
	Algorithm Algorithm     // of tokens that ask for none; RS256 unless given
	Rotate    time.Duration // how long a generation signs; 30 days unless given
	Publish   string        // directory that Run keeps copies of the documents in; none unless given
	Key       *keyring.Key  // seals the keys on the shelf
	Shelf     Shelf
	Now       func() time.Time
	Log       *slog.Logger
}

// Issuer signs tokens. Its methods may be called concurrently.
type Issuer struct {
	cfg  Config
	held atomic.Pointer[keys] // as last seen on the shelf; nil before the first look

	mu     sync.Mutex // guards what follows, and lets one goroutine look at the shelf
	sought time.Time  // when a key that we do not know was last looked for
}

// New returns an Issuer. It makes its first keys when it first needs them.
func New(cfg Config) *Issuer {
	if cfg.Algorithm == "" {
		cfg.Algorithm = RS256
	}
	if cfg.Rotate == 0 {
		cfg.Rotate = 30 * 24 * time.Hour
	}
	return &Issuer{cfg: cfg}
}

// URL is what the issuer calls itself.
func (i *Issuer) URL() string { return i.cfg.URL }

// Token is what is to be signed.
type Token struct {
	Type      string         // typ of the header; JWT unless given
	Algorithm Algorithm      // the issuer's own unless given
	ID        string         // jti
	Subject   string         // sub
	Audience  []string       // aud; one alone is written as a string
	TTL       time.Duration  // from now to exp: a second at least, MaxTTL at most
	Claims    map[string]any // all further claims, none of them among [Registered]
}

// Registered lists the claims that Sign writes itself, whatever it is given.
func Registered() []string { return []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti"} }

// Sign returns a signed token.
func (i *Issuer) Sign(ctx context.Context, t Token) (secret.Text, error) {
	claims, err := i.claims(t)
	if err != nil {
		return secret.Text{}, fmt.Errorf("sign a token: %w", err)
	}
	k, err := i.current(ctx)
	if err != nil {
		return secret.Text{}, fmt.Errorf("sign a token: %w", err)
	}
	algorithm := t.Algorithm
	if algorithm == "" {
		algorithm = i.cfg.Algorithm
	}
	key, ok := k.signing().key(algorithm)
	if !ok {
		return secret.Text{}, fmt.Errorf("sign a token: there is no algorithm %q", algorithm)
	}
	kind := t.Type
	if kind == "" {
		kind = "JWT"
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.SignatureAlgorithm(algorithm), Key: jose.JSONWebKey{Key: key.private(), KeyID: key.id}},
		(&jose.SignerOptions{}).WithType(jose.ContentType(kind)))
	if err != nil {
		return secret.Text{}, fmt.Errorf("sign a token: %w", err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return secret.Text{}, fmt.Errorf("sign a token: %w", err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		return secret.Text{}, fmt.Errorf("sign a token: %w", err)
	}
	return secret.New(text), nil
}

// isUs reports whether an audience is this installation, by either of its names.
func (i *Issuer) isUs(audience string) bool {
	return audience == i.cfg.URL || audience == i.cfg.Server && audience != ""
}

// claims is the payload of a token.
func (i *Issuer) claims(t Token) ([]byte, error) {
	switch {
	case t.Subject == "" || t.ID == "":
		return nil, errors.New("it needs a subject and an ID")
	case len(t.Audience) == 0 || slices.Contains(t.Audience, ""):
		return nil, errors.New("it needs an audience")
	case t.Type == "" && slices.ContainsFunc(t.Audience, i.isUs):
		// Whoever got such a token could come back with it as somebody else. What is for us has a type of its own.
		return nil, errors.New("a token for ourselves is not given out")
	case t.TTL < time.Second || t.TTL > MaxTTL:
		return nil, fmt.Errorf("it cannot live for %s: at least %s and at most %s", t.TTL, time.Second, MaxTTL)
	}
	now := i.cfg.Now()
	all := make(map[string]any, len(t.Claims)+7)
	for name, value := range t.Claims {
		if slices.Contains(Registered(), name) {
			return nil, fmt.Errorf("claim %s is the issuer's to set", name)
		}
		all[name] = value
	}
	all["iss"], all["sub"], all["jti"] = i.cfg.URL, t.Subject, t.ID
	all["aud"] = any(t.Audience)
	if len(t.Audience) == 1 {
		all["aud"] = t.Audience[0]
	}
	all["iat"], all["nbf"] = now.Unix(), now.Add(-backdate).Unix()
	all["exp"] = now.Add(t.TTL).Unix()
	text, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("encode its claims: %w", err)
	}
	return text, nil
}
