package spiffe_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/identity/spiffe"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

const (
	audience = "https://daypass.example.com"
	domain   = "example.org"
	workload = "spiffe://example.org/acme/orders"
)

// memory is a key store in memory.
type memory struct {
	mu   sync.Mutex
	jwks []byte
	at   time.Time
}

func (m *memory) Keys(context.Context, string) ([]byte, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.jwks, m.at, nil
}

func (m *memory) PutKeys(_ context.Context, _ string, jwks []byte, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jwks, m.at = jwks, at
	return nil
}

// authority is a trust domain: its keys, and the bundle that go-spiffe writes of them.
type authority struct {
	*identitytest.Clock
	domain spiffeid.TrustDomain
	ca     identitytest.Authority

	mu     sync.Mutex // guards the fields below
	bundle *spiffebundle.Bundle
	key    *testissuer.Key
	extra  []map[string]any // JWKs that go-spiffe does not write
	serial int
	asked  int
	fault  http.HandlerFunc // instead of an answer, unless nil
}

func newAuthority(t testing.TB, name, algorithm string, c *identitytest.Clock) *authority {
	t.Helper()
	a := &authority{Clock: c, domain: spiffeid.RequireTrustDomainFromString(name), ca: identitytest.NewAuthority(t, name, c.Now())}
	a.bundle = spiffebundle.New(a.domain)
	a.bundle.AddX509Authority(a.ca.Certificate)
	a.rotate(t, algorithm)
	return a
}

func (a *authority) rotate(t testing.TB, algorithm string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serial++
	key, err := testissuer.NewKey("key-"+string(rune('0'+a.serial)), algorithm)
	if err == nil {
		err = a.bundle.AddJWTAuthority(key.ID, key.Signer.Public())
	}
	if err != nil {
		t.Fatal(err)
	}
	a.key = key
}

func (a *authority) current() *testissuer.Key {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.key
}

// fail replaces the endpoint's answer; nil ends that.
func (a *authority) fail(with http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = with
}

func (a *authority) fetches() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// document is the bundle.
func (a *authority) document(t testing.TB) []byte {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	text, err := a.bundle.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if a.extra == nil {
		return text
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	for _, jwk := range a.extra {
		all["keys"] = append(all["keys"].([]any), jwk)
	}
	text, _ = json.Marshal(all)
	return text
}

// endpoint serves the bundle, by the profile https_web.
func (a *authority) endpoint(t testing.TB) *httptest.Server {
	t.Helper()
	server := httptest.NewTLSServer(a.handler(t))
	t.Cleanup(server.Close)
	return server
}

func (a *authority) handler(t testing.TB) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		fault := a.fault
		if strings.HasSuffix(r.URL.Path, "/bundle") {
			a.asked++
		}
		a.mu.Unlock()
		if fault != nil {
			fault(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(a.document(t))
	})
}

// web is a configuration whose bundle comes from a server by the profile https_web.
func (a *authority) web(server *httptest.Server) spiffe.Config {
	return spiffe.Config{
		Name: "mesh", TrustDomain: a.domain.Name(), Audience: audience, Now: a.Now, MaxAge: 2 * time.Hour,
		Bundle: spiffe.Bundle{Endpoint: server.URL + "/bundle", Profile: spiffe.Web, CA: identitytest.PEM(server.Certificate())},
	}
}

func newVerifier(t testing.TB, cfg spiffe.Config) *spiffe.Verifier {
	t.Helper()
	v, err := spiffe.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// token is a JWT-SVID that differs from a good one as said; nil leaves a claim out.
func (a *authority) token(changes map[string]any) string {
	now := a.Now().Unix()
	claims := map[string]any{"sub": workload, "aud": []string{audience}, "iat": now, "exp": now + 300}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	key := a.current()
	header, _ := json.Marshal(map[string]any{"alg": key.Algorithm, "kid": key.ID, "typ": "JWT"})
	payload, _ := json.Marshal(claims)
	return key.Sign(header, payload)
}

// svid is the template of a good X509-SVID.
func (a *authority) svid() *x509.Certificate {
	return &x509.Certificate{
		NotBefore: a.Now().Add(-time.Minute), NotAfter: a.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{{Scheme: "spiffe", Host: a.domain.Name(), Path: "/acme/orders"}},
	}
}

func verify(v identity.Verifier, token string) (identity.Principal, error) {
	return v.Verify(context.Background(), secret.New(token))
}

func testKey(k *testissuer.Key) identitytest.Key {
	return identitytest.Key{ID: k.ID, Algorithm: k.Algorithm, Public: k.Signer.Public(), Sign: k.Signature}
}

func fixture(t *testing.T, algorithm string) *identitytest.Fixture {
	c := identitytest.NewClock()
	a := newAuthority(t, domain, algorithm, c)
	cfg := a.web(a.endpoint(t))
	cfg.Keys = &memory{}
	var foreign *authority
	return &identitytest.Fixture{
		Verifier: newVerifier(t, cfg), Name: "mesh", URL: "spiffe://example.org", Audience: audience, Subject: workload,
		Issuerless: true, ASCII: true, Now: c.Now, Advance: c.Advance,
		Leeway: 30 * time.Second, MaxAge: 2 * time.Hour, Floor: 10 * time.Second, KeyAge: spiffe.DefaultRefresh, KeyLife: 24 * time.Hour,
		Key:     func() identitytest.Key { return testKey(a.current()) },
		Fetches: a.fetches,
		Rotate:  func() { a.rotate(t, algorithm) },
		Remove:  func(id string) { a.bundle.RemoveJWTAuthority(id) },
		SetDown: func(down bool) {
			a.fail(nil)
			if down {
				a.fail(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
			}
		},
		Oversize: func() {
			a.fail(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write(append(a.document(t), []byte(strings.Repeat(" ", 4<<20))...))
			})
		},
		Redirect: func() {
			foreign = newAuthority(t, domain, algorithm, c)
			server := foreign.endpoint(t)
			a.fail(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, server.URL+"/bundle", http.StatusFound)
			})
		},
		Foreign: func() identitytest.Key { return testKey(foreign.current()) },
		Restart: func() identity.Verifier { return newVerifier(t, cfg) },
		Unfit:   func(kind string) identitytest.Key { return a.unfit(t, kind) },
	}
}

// unfit publishes a key that no JWT-SVID may have.
func (a *authority) unfit(t *testing.T, kind string) identitytest.Key {
	key, jwk := unfitKey(t, kind)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.extra = append(a.extra, jwk)
	return key
}

func TestJWTSVIDsKeepTheContract(t *testing.T) {
	for _, algorithm := range []string{"RS256", "ES256", "PS384"} {
		t.Run(algorithm, func(t *testing.T) {
			identitytest.Run(t, func(t *testing.T) *identitytest.Fixture { return fixture(t, algorithm) })
		})
	}
}

func TestX509SVIDsKeepTheContract(t *testing.T) {
	identitytest.RunCertificates(t, func(t *testing.T) *identitytest.Certificates {
		c := identitytest.NewClock()
		a := newAuthority(t, domain, "ES256", c)
		return &identitytest.Certificates{
			Verifier: newVerifier(t, a.web(a.endpoint(t))), Name: "mesh", URL: "spiffe://example.org", Subject: workload,
			Now: c.Now, Advance: c.Advance, CA: a.ca, Leaf: a.svid,
		}
	})
}

// asJWK writes a key the way bundles have it.
func asJWK(t *testing.T, id string, public any) map[string]any {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKey{Key: public, KeyID: id})
	if err != nil {
		t.Fatal(err)
	}
	jwk := map[string]any{}
	if err := json.Unmarshal(text, &jwk); err != nil {
		t.Fatal(err)
	}
	jwk["use"] = "jwt-svid"
	return jwk
}
