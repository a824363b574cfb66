// Package identity says what Daypass asks of a verifier: evidence in, principal out.
//
// A verifier returns what it verified, never a boolean beside bytes that are parsed elsewhere. It tells bad
// evidence ([ErrRejected]) from not being able to tell, such as an issuer that cannot be reached.
// [identitytest] holds every implementation to it.
//
// [identitytest]: https://pkg.go.dev/github.com/daypass/daypass/identity/identitytest
package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/daypass/daypass/secret"
)

// ErrRejected marks evidence that is bad and stays bad. Any other error means that the verifier could not tell.
var ErrRejected = errors.New("the evidence was rejected")

// Verifier checks evidence of one issuer. Verify may be called concurrently.
type Verifier interface {
	Verify(ctx context.Context, evidence secret.Text) (Principal, error)
}

// CertificateVerifier checks the TLS client certificates of one issuer. VerifyCertificate may be called concurrently.
type CertificateVerifier interface {
	// VerifyCertificate is given the chain that a client sent, leaf first. The handshake has proved that the client
	// holds the leaf's key, and nothing else: nobody has looked at the chain.
	VerifyCertificate(ctx context.Context, chain []*x509.Certificate) (Principal, error)
}

// Principal is a workload whose evidence was verified.
type Principal struct {
	Issuer    string         // the issuer's name in the access configuration, such as "github"
	IssuerURL string         // `iss` of RFC 7519, or what tells the issuer of other evidence apart; immutable, so locks match it
	Subject   string         // `sub` of RFC 7519, at most 255 bytes without control or bidirectional characters
	Claims    map[string]any // the verified payload as JSON values; whole numbers are int64, others json.Number
	TokenID   string         // `jti` of RFC 7519, where the evidence has one
	IssuedAt  time.Time      // `iat`
	ExpiresAt time.Time      // `exp`
}

// Name returns the principal as people and the API write it: issuer name, colon, subject. Issuer names hold no
// colon, so that no two principals share a name.
func (p Principal) Name() string { return p.Issuer + ":" + p.Subject }
