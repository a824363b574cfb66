// Package identitytest holds verifiers to the contract of package identity.
//
// [Run] is for verifiers of signed tokens. It attacks one with everything that RFC 8725 warns of and with what
// befell others, against an issuer that really runs. [RunEvidence] is for verifiers of evidence of another form,
// whose fixture makes good and bad evidence itself. [RunCertificates] is for verifiers of TLS client certificates.
// What a fixture cannot do is skipped by name, so that the output shows what was not proved.
//
// The package imports identity, secret and the standard library only.
package identitytest

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/secret"
)

// Fixture is an issuer that runs, and a verifier that trusts it and nobody else. The verifier has fetched
// nothing yet. Everything up to Fetches is required; the functions after it may be nil.
type Fixture struct {
	Verifier identity.Verifier
	Name     string // what [identity.Principal.Issuer] must be
	URL      string // what [identity.Principal.IssuerURL] must be
	Audience string
	Subject  string // of good tokens, with "acme" in it; others are made by adding to it. One of GitHub's unless given

	Issuerless bool // the verifier does not look at `iss`
	ASCII      bool // subjects of its issuer are ASCII only
	OwnClaims  bool // principals have claims that the verifier knows, and none of the token's own
	TokenIDs   bool // tokens need a `jti`

	Now     func() time.Time
	Advance func(time.Duration) // moves the clock of issuer and verifier

	Leeway  time.Duration // how far the verifier lets the issuer's clock be off
	MaxAge  time.Duration // how old a token may be
	Floor   time.Duration // the least time between two fetches
	KeyAge  time.Duration // how long a removed key may still work
	KeyLife time.Duration // how long keys work while the issuer is down

	Key     func() Key // the key that signs now
	Fetches func() int // how often the issuer was asked for its keys

	Rotate   func()                   // a new key signs; the old one stays published
	Remove   func(keyID string)       // stops publishing a key
	SetDown  func(down bool)          // the issuer answers nothing useful
	Oversize func()                   // the issuer's documents are far too large
	Redirect func()                   // the issuer's key set redirects to another host, which publishes Foreign
	Foreign  func() Key               // a key of that other host
	Mismatch func()                   // the issuer's document is about another issuer
	Restart  func() identity.Verifier // a new verifier with the memory of the old one
	Unfit    func(kind string) Key    // publishes an unfit key, "oct" or "RSA-1024", that can sign
}

// Key is a key of the issuer's.
type Key struct {
	ID        string
	Algorithm string
	Public    any // as crypto/x509 takes it
	Sign      func(input []byte) []byte
}

// Run runs the suite; start is called for each case.
func Run(t *testing.T, start func(t *testing.T) *Fixture) {
	t.Helper()
	for name, part := range map[string]func(*testing.T, func(*testing.T) *Fixture){
		"good tokens": testGood,
		"forms":       testForms,
		"headers":     testHeaders,
		"forgeries":   testForgeries,
		"claims":      testClaims,
		"times":       testTimes,
		"keys":        testKeys,
		"bad issuers": testIssuers,
	} {
		t.Run(name, func(t *testing.T) { part(t, start) })
	}
}

// claims returns a good payload.
func (f *Fixture) claims(changes ...map[string]any) map[string]any {
	now := f.Now().Unix()
	all := map[string]any{
		"iss": f.URL, "sub": f.subject(), "aud": f.Audience,
		"iat": now, "nbf": now, "exp": now + 300, "jti": "id-1",
	}
	for _, change := range changes {
		maps.Copy(all, change)
	}
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == absent })
	return all
}

// subject returns that of good tokens.
func (f *Fixture) subject() string { return cmp.Or(f.Subject, "repo:acme/orders:ref:refs/heads/main") }

// subjectOf returns a good subject of so many bytes.
func (f *Fixture) subjectOf(bytes int) string {
	return f.subject() + strings.Repeat("s", bytes-len(f.subject()))
}

// absent as a value takes a member away.
const absent = absence("absent")

type absence string

func (f *Fixture) header(changes ...map[string]any) map[string]any {
	key := f.Key()
	all := map[string]any{"alg": key.Algorithm, "kid": key.ID, "typ": "JWT"}
	for _, change := range changes {
		maps.Copy(all, change)
	}
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == absent })
	return all
}

// token signs a header and a payload that differ from good ones as said.
func (f *Fixture) token(header, claims map[string]any) string {
	return f.raw(encode(f.header(header)), encode(f.claims(claims)))
}

// raw signs these bytes with the issuer's key.
func (f *Fixture) raw(header, payload []byte) string {
	input := b64(header) + "." + b64(payload)
	return input + "." + b64(f.Key().Sign([]byte(input)))
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func encode(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // every value of this package has JSON
	}
	return text
}

// accept fails unless the token is good.
func (f *Fixture) accept(t *testing.T, token string) identity.Principal {
	t.Helper()
	p, err := f.Verifier.Verify(context.Background(), secret.New(token))
	if err != nil {
		t.Fatalf("a good token is refused: %v", err)
	}
	return p
}

// reject fails unless the token is bad for ever.
func (f *Fixture) reject(t *testing.T, token string) {
	t.Helper()
	if err := f.refuse(t, token); !errors.Is(err, identity.ErrRejected) {
		t.Errorf("got %v, which is not ErrRejected", err)
	}
}

// cannotTell fails unless the verifier refuses the token without calling it bad.
func (f *Fixture) cannotTell(t *testing.T, token string) {
	t.Helper()
	if err := f.refuse(t, token); errors.Is(err, identity.ErrRejected) {
		t.Errorf("got ErrRejected, but the token may be good: %v", err)
	}
}

// refuse fails unless there is an error, no principal, and no piece of the token in the text.
func (f *Fixture) refuse(t *testing.T, token string) error {
	t.Helper()
	p, err := f.Verifier.Verify(context.Background(), secret.New(token))
	if err == nil {
		t.Fatalf("the token is accepted, as %s", p.Name())
	}
	if p.Subject != "" || p.Claims != nil || p.Issuer != "" {
		t.Errorf("a principal comes with the error: %+v", p)
	}
	for _, segment := range strings.Split(token, ".") {
		if len(segment) > 16 && strings.Contains(err.Error(), segment) {
			t.Errorf("the error quotes a segment of the token: %v", err)
		}
	}
	return err
}

// need skips a case that the fixture cannot do.
func need(t *testing.T, able bool, what string) {
	t.Helper()
	if !able {
		t.Skipf("the fixture cannot %s", what)
	}
}
