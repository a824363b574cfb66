// Package oidc verifies OpenID Connect tokens of workloads: one [Verifier] for each issuer.
//
// It owns what a token must look like (token.go, claims.go), which keys an issuer signs with (keyset.go) and
// when to ask the issuer for them again (cache.go, fetch.go). It promises that a [identity.Principal] holds
// nothing but what a published key of that issuer signed for our audience, that strangers' tokens cannot make
// it call the issuer more than once in a while, and that an issuer that is down stops nobody until its keys
// are too old. It does not remember tokens: who must refuse a second use of one has its ID.
//
// The package imports identity, secret and api, never a store: keys outlive a restart through [KeyStore].
package oidc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/secret"
)

// What [Config] means where it says nothing.
const (
	DefaultMaxAge  = 24 * time.Hour
	DefaultLeeway  = 30 * time.Second
	MaxLeeway      = 2 * time.Minute
	DefaultKeyAge  = 15 * time.Minute
	DefaultKeyLife = 24 * time.Hour
	DefaultFloor   = 10 * time.Second
	DefaultTimeout = 5 * time.Second
)

// minKeyAge keeps an issuer whose Cache-Control says zero from being asked all the time.
const minKeyAge = time.Minute

// Config is one issuer. Name, URL, Audience and Now are required.
type Config struct {
	Name     string // in the access configuration, such as "github"
	URL      string // `iss` of its tokens, byte for byte; https, or http on loopback
	Audience string // `aud` of tokens for us, byte for byte

	// Client speaks to the issuer. CA, in PEM, makes one that trusts these authorities and no other. With
	// neither, the system's authorities count. Redirects are refused and time is bounded with each of them.
	Client *http.Client
	CA     []byte

	// Egress makes the connections, unless Client is given.
	Egress egress.Dialer

	// Source, where given, brings the issuer's key set instead of its discovery document: URL is then a name that
	// need not be a URL. When to ask, and how long old keys work, stays as said here.
	Source func(ctx context.Context) (KeySet, error)
	// Use is the `use` of keys that sign tokens; "sig" unless given. Keys that name no use count where it is "sig".
	Use string
	// Belongs, where given, says whether verified claims are this issuer's, instead of `iss`, which is then not
	// looked at. Its error says why they are not.
	Belongs func(claims map[string]any) error

	// Algorithms are the `alg` that tokens may have; any of RS, PS and ES 256/384/512 and EdDSA unless given.
	Algorithms []string
	// Types are the `typ` that tokens may have, "" for none; "JWT" or none unless given. RFC 8725 §3.11.
	Types []string
	// MaxAge bounds how long ago a token was signed; [DefaultMaxAge] unless given. No token may be meant to
	// live longer than this or DefaultMaxAge, whichever is longer.
	MaxAge time.Duration
	// Leeway is how far the issuer's clock may be from ours; [DefaultLeeway] unless given, at most [MaxLeeway].
	Leeway time.Duration

	// Flatten are the paths of nested claims that are lifted to the top: see [identity.Flatten].
	Flatten [][]string

	// KeyAge is how long a key that the issuer removed may still work while the issuer answers. The issuer's
	// Cache-Control may shorten it to a minute. [DefaultKeyAge] unless given.
	KeyAge time.Duration
	// KeyLife is how long the last good keys work while the issuer does not answer; [DefaultKeyLife] unless given.
	KeyLife time.Duration
	// Floor is the least time between two fetches, whoever asks; [DefaultFloor] unless given, at most
	// a minute.
	Floor time.Duration
	// Timeout bounds one fetch of both documents; [DefaultTimeout] unless given.
	Timeout time.Duration
	// Keys keeps the last good keys across restarts; they are kept in memory only unless given.
	Keys KeyStore

	// Observer hears what is noticed of the issuer; nobody unless given.
	Observer Observer

	Now func() time.Time
	Log *slog.Logger // nowhere unless given
}

// KeyStore keeps the last good key set of each issuer. Both methods may be called concurrently.
type KeyStore interface {
	// Keys returns what PutKeys was given last for the issuer's URL, or no bytes and no error.
	Keys(ctx context.Context, url string) (jwks []byte, fetchedAt time.Time, err error)
	// PutKeys replaces the issuer's key set.
	PutKeys(ctx context.Context, url string, jwks []byte, fetchedAt time.Time) error
}

// KeySet is a key set as an issuer sent it.
type KeySet struct {
	JWKS   []byte        // RFC 7517 §5
	MaxAge time.Duration // how long it may be kept without asking again; negative where the issuer says nothing
	// Discovery is what the issuer's discovery document says, where the key set was found by one.
	Discovery Discovery
}

// Verifier verifies tokens of one issuer.
type Verifier struct {
	cfg    Config
	types  map[string]bool
	algs   map[jose.SignatureAlgorithm]bool
	keys   *cache
	window window
	last   atomic.Pointer[header] // of the last token with a good signature; never changed once it is here
}

var _ identity.Verifier = (*Verifier)(nil)

// New returns a verifier. The issuer need not be up: its keys are fetched when they are needed, or by [Verifier.Run].
func New(cfg Config) (*Verifier, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", cfg.Name, err)
	}
	v := &Verifier{cfg: cfg, types: map[string]bool{}, algs: map[jose.SignatureAlgorithm]bool{}}
	for _, typ := range cfg.Types {
		v.types[mediaType(typ)] = true
	}
	for _, alg := range cfg.Algorithms {
		v.algs[jose.SignatureAlgorithm(alg)] = true
	}
	v.window = window{maxAge: cfg.MaxAge, leeway: cfg.Leeway, maxLife: max(cfg.MaxAge, DefaultMaxAge)}
	if cfg.Source == nil {
		source, err := newSource(cfg)
		if err != nil {
			return nil, fmt.Errorf("issuer %q: %w", cfg.Name, err)
		}
		cfg.Source = source.fetch
	}
	v.keys = newCache(cfg)
	return v, nil
}

// names are the names of issuers; no colon, so that a principal's name is unambiguous.
const names = `^[a-z0-9-]{1,40}$`

// complete checks c and fills in what it does not say.
func (c *Config) complete() error {
	switch {
	case !regexp.MustCompile(names).MatchString(c.Name):
		return errors.New("a name is 1 to 40 of a-z, 0-9 and -")
	case c.Audience == "":
		return errors.New("the audience is missing")
	case c.Now == nil:
		return errors.New("the clock is missing")
	case c.Client != nil && c.CA != nil:
		return errors.New("a client and authorities exclude each other")
	case c.Leeway > MaxLeeway:
		return fmt.Errorf("a leeway of %v is too much: at most %v", c.Leeway, MaxLeeway)
	case c.Floor > minKeyAge:
		return fmt.Errorf("a floor of %v is too much: at most %v", c.Floor, minKeyAge) // or removed keys live on
	}
	for _, d := range []time.Duration{c.MaxAge, c.Leeway, c.KeyAge, c.KeyLife, c.Floor, c.Timeout} {
		if d < 0 {
			return fmt.Errorf("a duration of %v is negative", d)
		}
	}
	if _, err := checkURL(c.URL); err != nil && c.Source == nil {
		return err
	}
	for _, alg := range c.Algorithms {
		if !slices.Contains(algorithms(), alg) {
			return fmt.Errorf("algorithm %q is not one of %s", alg, strings.Join(algorithms(), ", "))
		}
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = algorithms()
	}
	if len(c.Types) == 0 {
		c.Types = []string{"JWT", ""}
	}
	c.Use = cmp.Or(c.Use, useSignature)
	c.MaxAge = cmp.Or(c.MaxAge, DefaultMaxAge)
	c.Leeway = cmp.Or(c.Leeway, DefaultLeeway)
	c.KeyAge = max(cmp.Or(c.KeyAge, DefaultKeyAge), minKeyAge)
	c.KeyLife = max(cmp.Or(c.KeyLife, DefaultKeyLife), c.KeyAge)
	c.Floor = cmp.Or(c.Floor, DefaultFloor)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler)).With("issuer", c.Name)
	return nil
}

// algorithms lists what RFC 7518 and RFC 8037 offer to issuers: signatures that we cannot make ourselves with
// what the issuer publishes. HMAC and "none" are not among them.
func algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// Verify returns who a token speaks for. It waits for the issuer only when no key that it has can tell, and
// when its keys are due and the issuer answered last time. See [Rejection] for tokens that are bad, and
// [ErrUnknownKey] for one case in which it cannot tell.
func (v *Verifier) Verify(ctx context.Context, evidence secret.Text) (identity.Principal, error) {
	principal, err := v.verify(ctx, evidence.Reveal())
	v.observe(principal, err)
	if err != nil {
		return identity.Principal{}, fmt.Errorf("verify a token for issuer %q: %w", v.cfg.Name, err)
	}
	return principal, nil
}

func (v *Verifier) verify(ctx context.Context, token string) (identity.Principal, error) {
	p, err := split(token)
	if err != nil {
		return identity.Principal{}, err
	}
	h, err := v.header(p.protected)
	if err != nil {
		return identity.Principal{}, err
	}
	key, err := v.keys.find(ctx, h.kid)
	if err != nil {
		return identity.Principal{}, err
	}
	payload, err := open(p, h, key)
	if err != nil {
		return identity.Principal{}, err
	}
	v.last.Store(h) // only now: strangers cannot push it out
	claims, err := parseClaims(payload)
	if err != nil {
		return identity.Principal{}, err
	}
	return v.principal(claims)
}

// header returns the header of a segment, admitted and ready.
func (v *Verifier) header(segment string) (*header, error) {
	if last := v.last.Load(); last != nil && last.segment == segment {
		return last, nil
	}
	h, err := parseHeader(segment)
	if err != nil {
		return nil, err
	}
	if err := v.admit(h); err != nil {
		return nil, err
	}
	return h, h.prepare()
}

// admit holds the header to the issuer's lists.
func (v *Verifier) admit(h *header) error {
	if !v.algs[h.alg] {
		return identity.Reject(WhyAlgorithm, "algorithm %s is not allowed", identity.Quote(string(h.alg)))
	}
	if !v.types[mediaType(h.typ)] {
		return identity.Reject(WhyType, "type %s is not allowed", identity.Quote(h.typ))
	}
	return nil
}

// mediaType returns the form in which types are compared: RFC 7515 §4.1.9 lets "application/" be left out,
// and media types know no case.
func mediaType(typ string) string {
	return strings.TrimPrefix(strings.ToLower(typ), "application/")
}
