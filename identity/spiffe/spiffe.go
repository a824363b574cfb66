// Package spiffe verifies SPIFFE identities of one trust domain: JWT-SVIDs, and X509-SVIDs that a TLS client showed.
//
// It owns what makes a SPIFFE identity one of the trust domain (id.go), which certificates count (certificate.go) and
// where the trust domain's bundle comes from (bundle.go). Tokens are read by package oidc, and the bundle is fetched
// and aged by its rules: a JWT-SVID differs from other tokens in what its keys and its subject are called. It promises
// that a [identity.Principal] holds nothing but what the trust domain's own bundle vouches for, that the system's
// authorities never count, and that a bundle endpoint that is down stops nobody until its bundle is too old. It knows
// one trust domain: federation is several verifiers.
//
// The package imports identity, identity/oidc, secret and types of go-spiffe, and reads no files: who uses it hands
// them in. Names in brackets below are those of the standards at https://spiffe.io/docs/latest/spiffe-specs/.
package spiffe

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/secret"
)

// DefaultRefresh is how old a bundle gets before its endpoint is asked again [SPIFFE Trust Domain and Bundle, 4.1.2].
// The bundle's refresh hint may shorten it to a minute.
const DefaultRefresh = 5 * time.Minute

// Config is one trust domain. Name, TrustDomain, Audience, Bundle and Now are required.
type Config struct {
	Name        string // in the access configuration, such as "mesh"
	TrustDomain string // such as "example.org"
	Audience    string // `aud` of JWT-SVIDs for us, byte for byte
	Bundle      Bundle

	// MaxAge bounds how long ago a JWT-SVID was signed; [oidc.DefaultMaxAge] unless given.
	MaxAge time.Duration
	// Keep is how long the last good bundle works while its source does not answer; [oidc.DefaultKeyLife] unless given.
	Keep time.Duration
	// Keys keeps the last good bundle across restarts; it is kept in memory only unless given.
	Keys oidc.KeyStore
	// Observer hears what is noticed of the trust domain; nobody unless given.
	Observer oidc.Observer

	Now func() time.Time
	Log *slog.Logger // nowhere unless given
}

// Verifier verifies identities of one trust domain.
type Verifier struct {
	cfg    Config
	domain spiffeid.TrustDomain
	tokens *oidc.Verifier // also keeps the bundle

	mu   sync.Mutex           // guards the fields below
	text []byte               // that bundle was made from; compared by address
	read *spiffebundle.Bundle // nil before the first
}

var (
	_ identity.Verifier            = (*Verifier)(nil)
	_ identity.CertificateVerifier = (*Verifier)(nil)
)

// URL returns the identity of the issuer that a trust domain is. The error says what is wrong with its name.
func URL(trustDomain string) (string, error) {
	domain, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil || domain.Name() != trustDomain || len(trustDomain) > maxDomain {
		return "", fmt.Errorf("%.100q is not the name of a trust domain, such as example.org", trustDomain)
	}
	return domain.IDString(), nil
}

// New returns a verifier. The bundle is fetched when it is needed, or by [Verifier.Run].
func New(cfg Config) (*Verifier, error) {
	v, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("issuer %q: %w", cfg.Name, err)
	}
	return v, nil
}

func open(cfg Config) (*Verifier, error) {
	url, err := URL(cfg.TrustDomain)
	if err != nil {
		return nil, err
	}
	if cfg.Keep < 0 || cfg.MaxAge < 0 {
		return nil, errors.New("a duration is negative")
	}
	v := &Verifier{cfg: cfg, domain: spiffeid.RequireTrustDomainFromString(cfg.TrustDomain)}
	source, err := cfg.Bundle.source(v)
	if err != nil {
		return nil, err
	}
	v.tokens, err = oidc.New(oidc.Config{
		Name: cfg.Name, URL: url, Audience: cfg.Audience, Source: source, Use: "jwt-svid", Belongs: v.belongs,
		Algorithms: []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"}, // [JWT-SVID, 2.1]
		Types:      []string{"JWT", "JOSE", ""},                                                               // [JWT-SVID, 2.3]
		MaxAge:     cfg.MaxAge, KeyAge: DefaultRefresh, KeyLife: cfg.Keep, Keys: cfg.Keys, Observer: cfg.Observer, Now: cfg.Now, Log: cfg.Log,
	})
	return v, err
}

// Verify returns who a JWT-SVID speaks for. Rejections are those of package oidc. Beyond the standard it must say when
// it was issued (`iat`), as those of SPIRE do, and have our audience alone.
func (v *Verifier) Verify(ctx context.Context, evidence secret.Text) (identity.Principal, error) {
	p, err := v.tokens.Verify(ctx, evidence)
	if err != nil {
		return identity.Principal{}, err
	}
	claims := maps.Clone(p.Claims)
	maps.Copy(claims, v.claims(p.Subject)) // over what the token calls the same
	p.Claims = claims
	return p, nil
}

// VerifyCertificate returns who an X509-SVID speaks for. See [Rejection] for those that are bad.
func (v *Verifier) VerifyCertificate(ctx context.Context, chain []*x509.Certificate) (identity.Principal, error) {
	p, err := v.certificate(ctx, chain)
	if err != nil {
		return identity.Principal{}, fmt.Errorf("verify an X509-SVID for issuer %q: %w", v.cfg.Name, err)
	}
	return p, nil
}

// Run keeps the bundle fresh until ctx ends, as [oidc.Verifier.Run] does. It returns nil.
func (v *Verifier) Run(ctx context.Context) error { return v.tokens.Run(ctx) }

// Status returns the state of the bundle; its keys are those of JWT-SVIDs.
func (v *Verifier) Status() oidc.Status { return v.tokens.Status() }

// bundle returns the bundle as it is now.
func (v *Verifier) bundle(ctx context.Context) (*spiffebundle.Bundle, error) {
	text, err := v.tokens.KeySet(ctx)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.read != nil && len(text) > 0 && len(v.text) > 0 && &text[0] == &v.text[0] {
		return v.read, nil
	}
	read, err := spiffebundle.Parse(v.domain, text)
	if err != nil {
		return nil, errors.New("the bundle cannot be read")
	}
	v.text, v.read = text, read
	return read, nil
}
