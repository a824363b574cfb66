// Package testissuer is a real OpenID Connect issuer for tests, the demo and benchmarks: real keys, real tokens,
// real HTTP, and faults on demand.
//
// [Start] runs one in this process on a free loopback port; cmd/testissuer is the same as a process. Its tokens
// have the shape of GitHub Actions (github.go) or any other. It promises nothing to the world outside tests: it
// signs whatever it is asked to. It imports no package of ours.
package testissuer

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Options say what kind of issuer to run. Now is required.
type Options struct {
	Now          func() time.Time
	Algorithm    string // of the first key; RS256 unless given. RS, PS and ES 256/384/512 and EdDSA are known
	Address      string // to listen on; 127.0.0.1:0 unless given
	URL          string // what it calls itself; http(s)://<address> unless given
	TLS          bool   // serve https with a certificate of its own authority, which [Issuer.CA] returns
	RequestToken string // what GET /token wants as bearer token; random unless given
}

// Faults are what the issuer does wrong. The zero value is none.
type Faults struct {
	Down      bool            // answers 503 to everything but /token and /control
	Hang      <-chan struct{} // answers no document until this is closed
	Oversized bool            // sends documents of many megabytes
	Redirect  string          // redirects the key set to this URL
	Issuer    string          // what the discovery document says instead of the issuer's URL
	KeysAt    string          // the jwks_uri of the discovery document
	Discovery []byte          // the discovery document itself
	KeySet    []byte          // the key set itself
	Cache     string          // Cache-Control of the key set
}

// Fetches counts what was asked for, whatever the answer was.
type Fetches struct{ Discovery, Keys, Other int }

// Issuer is a running issuer. All methods may be called concurrently.
type Issuer struct {
	now          func() time.Time
	url          string
	requestToken string
	server       *http.Server // nil without a listener
	ca           []byte

	mu      sync.Mutex
	keys    []*Key // published; the last one signs
	extra   []any  // other JWKs that are published
	faults  Faults
	fetches Fetches
	serial  int
}

// New returns an issuer that does not listen: serve it as an [http.Handler] at opt.URL, which must be given.
func New(opt Options) (*Issuer, error) {
	if opt.Now == nil || opt.URL == "" {
		return nil, errors.New("testissuer: a clock and a URL are needed")
	}
	i := &Issuer{now: opt.Now, url: opt.URL, requestToken: opt.RequestToken}
	if i.requestToken == "" {
		i.requestToken = rand.Text()
	}
	if opt.Algorithm == "" {
		opt.Algorithm = "RS256"
	}
	if _, err := i.Rotate(opt.Algorithm); err != nil {
		return nil, err
	}
	return i, nil
}

// Start runs an issuer until Close.
func Start(opt Options) (*Issuer, error) {
	if opt.Address == "" {
		opt.Address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", opt.Address)
	if err != nil {
		return nil, fmt.Errorf("testissuer: %w", err)
	}
	scheme := "http"
	var certificate tls.Certificate
	if opt.TLS {
		scheme = "https"
		if certificate, err = selfSigned(); err != nil {
			listener.Close()
			return nil, err
		}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}})
	}
	if opt.URL == "" {
		opt.URL = scheme + "://" + listener.Addr().String()
	}
	i, err := New(opt)
	if err != nil {
		listener.Close()
		return nil, err
	}
	if opt.TLS {
		i.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	}
	i.server = &http.Server{Handler: i, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = i.server.Serve(listener) }() // it ends by Close or Shutdown
	return i, nil
}

// Close stops it at once.
func (i *Issuer) Close() error {
	if i.server == nil {
		return nil
	}
	return i.server.Close()
}

// Shutdown stops it after the requests that it is answering.
func (i *Issuer) Shutdown(ctx context.Context) error { return i.server.Shutdown(ctx) }

// URL returns what its tokens have as `iss`.
func (i *Issuer) URL() string { return i.url }

// CA returns the PEM certificate of its authority, or nothing without TLS.
func (i *Issuer) CA() []byte { return i.ca }

// RequestURL returns what a workload finds in ACTIONS_ID_TOKEN_REQUEST_URL; like GitHub's it has a query already.
func (i *Issuer) RequestURL() string { return i.url + "/token?api-version=2.0" }

// RequestToken returns what a workload finds in ACTIONS_ID_TOKEN_REQUEST_TOKEN.
func (i *Issuer) RequestToken() string { return i.requestToken }

// Key returns the key that signs.
func (i *Issuer) Key() *Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[len(i.keys)-1]
}

// Rotate makes and publishes a new key that signs from now on. Earlier keys stay published.
func (i *Issuer) Rotate(algorithm string) (*Key, error) {
	i.mu.Lock()
	i.serial++
	serial := i.serial
	i.mu.Unlock()
	key, err := NewKey(fmt.Sprintf("test-%d-%s", serial, rand.Text()[:8]), algorithm)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, key)
	return key, nil
}

// Remove stops publishing a key. The last key can be removed too: it signs on, and nobody can tell.
func (i *Issuer) Remove(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, key := range i.keys {
		if key.ID == id {
			key.hidden = true
		}
	}
}

// Publish adds a JWK, such as a wrong one, to the key set as it is.
func (i *Issuer) Publish(jwk any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.extra = append(i.extra, jwk)
}

// SetFaults replaces the faults.
func (i *Issuer) SetFaults(f Faults) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.faults = f
}

// Fetches returns how often its documents were asked for.
func (i *Issuer) Fetches() Fetches {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

// Token signs claims with the key that signs. It adds iss, iat, nbf, exp (five minutes) and jti where claims do
// not have them; a claim that is nil is left out.
func (i *Issuer) Token(claims map[string]any) string {
	now := i.now().Unix()
	all := map[string]any{"iss": i.url, "iat": now, "nbf": now, "exp": now + 300, "jti": rand.Text()}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	key := i.Key()
	header := map[string]any{"alg": key.Algorithm, "kid": key.ID, "typ": "JWT"}
	return key.Sign(encode(header), encode(all))
}

// encode writes JSON of values that always have it.
func encode(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // a test asked for a claim that JSON does not have
	}
	return text
}

// Compact joins a JWS of its three parts.
func Compact(header, payload, signature []byte) string {
	b64 := base64.RawURLEncoding
	return b64.EncodeToString(header) + "." + b64.EncodeToString(payload) + "." + b64.EncodeToString(signature)
}

// keySet returns the JWK Set as published. It holds mu.
func (i *Issuer) keySet() []byte {
	list := slices.Clone(i.extra)
	for _, key := range i.keys {
		if !key.hidden {
			list = append(list, jose.JSONWebKey{Key: key.Signer.Public(), KeyID: key.ID, Algorithm: key.Algorithm, Use: "sig"})
		}
	}
	return encode(map[string]any{"keys": append([]any{}, list...)})
}

// discovery returns the discovery document. It holds mu.
func (i *Issuer) discovery() []byte {
	issuer, keysAt := i.url, i.url+"/.well-known/jwks"
	if i.faults.Issuer != "" {
		issuer = i.faults.Issuer
	}
	if i.faults.KeysAt != "" {
		keysAt = i.faults.KeysAt
	}
	return encode(map[string]any{
		"issuer": issuer, "jwks_uri": keysAt,
		"subject_types_supported":               []string{"public", "pairwise"},
		"response_types_supported":              []string{"id_token"},
		"id_token_signing_alg_values_supported": []string{i.keys[len(i.keys)-1].Algorithm},
		"scopes_supported":                      []string{"openid"},
		"claims_supported":                      []string{"sub", "aud", "exp", "iat", "iss", "jti", "nbf", "ref", "repository"},
	})
}
