// Package dpop makes and verifies proofs that a caller holds a key (RFC 9449, "Demonstrating Proof of Possession").
//
// A [Prover] belongs to a workload: its key is made in the process and never leaves it. A [Verifier] belongs to a
// server. It promises that a [Proof] was signed by the key that it names, for this method and this URL, a moment ago,
// and with a nonce that this installation gave out. It does not remember proofs: who must refuse a second use of one
// has its ID, and the time from which it is refused anyway.
//
// Proofs are texts, not secrets: each is good for one request, once. Both sides stand here so that they cannot drift
// apart. The package does no I/O and knows nothing of tokens but their hash.
package dpop

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
)

// Header and HeaderNonce are the HTTP headers of RFC 9449 §4.1 and §8.
const (
	Header      = "DPoP"
	HeaderNonce = "DPoP-Nonce"
)

// Scheme is the authentication scheme of tokens that are bound to a key (RFC 9449 §7.1).
const Scheme = "DPoP"

// typ is the media type of proofs (RFC 9449 §4.2).
const typ = "dpop+jwt"

// maxProof bounds a proof, in bytes: a public key of RSA with 4,096 bits fits well.
const maxProof = 4 << 10

// ErrRejected marks a proof that is bad and stays bad.
var ErrRejected = errors.New("the proof was rejected")

// ErrNonce says that a proof has to be made again with a nonce of this installation, because it has none, or one that
// is too old (RFC 9449 §8).
var ErrNonce = errors.New("the proof has no fresh nonce")

// Request is what a proof is for.
type Request struct {
	Method string
	URL    string // as the caller has it; query and fragment do not count
	Token  string // the access token that goes with it; empty where none does
}

// claims are the payload of a proof.
type claims struct {
	ID       string `json:"jti"`
	Method   string `json:"htm"`
	URL      string `json:"htu"`
	IssuedAt int64  `json:"iat"`
	Nonce    string `json:"nonce,omitempty"`
	Token    string `json:"ath,omitempty"`
}

// tokenHash is the `ath` of a token: RFC 9449 §4.2.
func tokenHash(token string) string {
	if token == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// plainURL is a URL as `htu` names it: without query and fragment (RFC 9449 §4.2). Two are one where they lead to the same
// server by any reader (RFC 3986 §6.2.2.1 and §6.2.3: the case of its name, the usual port); of paths there is one spelling.
func plainURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "", errors.New("not an absolute URL")
	}
	u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment, u.User = "", false, "", "", nil
	u.Host = strings.ToLower(u.Host)
	if usual := map[string]string{"https": "443", "http": "80"}[u.Scheme]; usual != "" && u.Port() == usual {
		u.Host = strings.TrimSuffix(u.Host, ":"+usual)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String(), nil
}
