// Package mtls verifies TLS client certificates of a named authority: one [Verifier] for each.
//
// It owns which chains count (chain.go), what the subject of a certificate is (subject.go), and revocation lists
// (revocation.go). It promises that a [identity.Principal] holds nothing but what one of the configured authorities
// signed for a client, that the system's authorities never count, and that a revocation list that is configured is
// never passed over: without a current one it cannot tell. It has no part in the handshake, which proves the key.
//
// The package imports identity and the standard library only, and reads no files: who uses it hands them in.
package mtls

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/daypass/daypass/identity"
)

// Config is one issuer. Name, CA, Subject and Now are required.
type Config struct {
	Name string // in the access configuration, such as "machines"
	// ID is [identity.Principal.IssuerURL]; [DefaultID] of the name unless given.
	ID string
	// CA holds the authorities that count, in PEM. A chain ends at one of them, so that one that is not a root
	// limits whom to trust to those below it.
	CA []byte
	// Subject says which name in the certificate is the subject.
	Subject Rule
	// Revocations returns the revocation lists of the authorities, in PEM or DER; nil: nothing is ever revoked.
	// It is asked again when the lists are older than [Refresh].
	Revocations func() ([]byte, error)

	Now func() time.Time
}

// Refresh is how long revocation lists are used before they are read again.
const Refresh = time.Minute

// DefaultID is the identity of an issuer that is given none.
func DefaultID(name string) string { return "urn:daypass:mtls:" + name }

// Verifier verifies certificates of one issuer.
type Verifier struct {
	cfg   Config
	roots *x509.CertPool
	lists *lists // nil: nothing is ever revoked
}

var _ identity.CertificateVerifier = (*Verifier)(nil)

// names are the names of issuers; no colon, so that a principal's name is unambiguous.
const names = `^[a-z0-9-]{1,40}$`

// New returns a verifier. The revocation lists are read when they are needed.
func New(cfg Config) (*Verifier, error) {
	switch {
	case !regexp.MustCompile(names).MatchString(cfg.Name):
		return nil, fmt.Errorf("issuer %q: a name is 1 to 40 of a-z, 0-9 and -", cfg.Name)
	case cfg.Now == nil:
		return nil, fmt.Errorf("issuer %q: the clock is missing", cfg.Name)
	}
	if _, err := ParseRule(string(cfg.Subject)); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", cfg.Name, err)
	}
	if cfg.ID == "" {
		cfg.ID = DefaultID(cfg.Name)
	}
	authorities, err := parseAuthorities(cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("issuer %q: %w", cfg.Name, err)
	}
	v := &Verifier{cfg: cfg, roots: x509.NewCertPool()}
	for _, c := range authorities {
		v.roots.AddCert(c)
	}
	if cfg.Revocations != nil {
		v.lists = &lists{read: cfg.Revocations}
	}
	return v, nil
}

// parseAuthorities reads the certificates of authorities, and refuses what is none: a client's certificate in the
// file would be trusted as itself.
func parseAuthorities(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the authorities hold a %.40q", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the authorities cannot be read: %w", len(all)+1, err)
		}
		if !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
			return nil, fmt.Errorf("certificate %d of the authorities, of %s, may not sign certificates", len(all)+1, identity.Quote(c.Subject.String()))
		}
		all, text = append(all, c), rest
	}
	if len(all) == 0 {
		return nil, errors.New("the authorities hold no PEM certificate")
	}
	return all, nil
}

// VerifyCertificate returns who a chain speaks for. See [Rejection] for those that are bad.
func (v *Verifier) VerifyCertificate(_ context.Context, chain []*x509.Certificate) (identity.Principal, error) {
	principal, err := v.verify(chain)
	if err != nil {
		return identity.Principal{}, fmt.Errorf("verify a client certificate for issuer %q: %w", v.cfg.Name, err)
	}
	return principal, nil
}

func (v *Verifier) verify(sent []*x509.Certificate) (identity.Principal, error) {
	now := v.cfg.Now()
	chains, err := v.chains(sent, now)
	if err != nil {
		return identity.Principal{}, err
	}
	leaf := sent[0]
	subject, err := v.cfg.Subject.of(leaf)
	if err != nil {
		return identity.Principal{}, err
	}
	// Last, so that a stranger's certificate reads no list.
	if err := v.lists.check(chains, now); err != nil {
		return identity.Principal{}, err
	}
	return identity.Principal{
		Issuer: v.cfg.Name, IssuerURL: v.cfg.ID, Subject: subject, Claims: claims(leaf),
		IssuedAt: leaf.NotBefore, ExpiresAt: leaf.NotAfter,
	}, nil
}
