package spiffe_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/identity/spiffe"
	"github.com/daypass/daypass/internal/testissuer"
)

func unfitKey(t *testing.T, kind string) (identitytest.Key, map[string]any) {
	id := "unfit-" + kind
	if kind == "oct" {
		secret := []byte("32 bytes that everybody can read")
		key := identitytest.Key{ID: id, Algorithm: "HS256", Sign: func(input []byte) []byte {
			mac := hmac.New(sha256.New, secret)
			mac.Write(input)
			return mac.Sum(nil)
		}}
		return key, map[string]any{"kty": "oct", "k": base64.RawURLEncoding.EncodeToString(secret), "kid": id, "use": "jwt-svid"}
	}
	private, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return testKey(&testissuer.Key{ID: id, Algorithm: "RS256", Signer: private}), asJWK(t, id, private.Public())
}

func TestMain(m *testing.M) {
	os.Exit(identitytest.MainTrusting(m, func(a identitytest.Authority) { systemAuthority = a }))
}

// systemAuthority is an authority that the system of this process trusts.
var systemAuthority identitytest.Authority

// leaf is a chain of one X509-SVID that differs from a good one as said.
func (a *authority) leaf(t testing.TB, by identitytest.Authority, change func(*x509.Certificate)) ([]*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	template := a.svid()
	if change != nil {
		change(template)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{by.Issue(t, template, key.Public())}, key
}

func certified(v identity.CertificateVerifier, chain []*x509.Certificate) (identity.Principal, error) {
	return v.VerifyCertificate(context.Background(), chain)
}

// why fails unless err is a rejection of that kind.
func why(t *testing.T, err error, want spiffe.Why) {
	t.Helper()
	rejection, ok := errors.AsType[*spiffe.Rejection](err)
	if !ok || rejection.Why != want || !errors.Is(err, identity.ErrRejected) {
		t.Errorf("got %v; want a rejection for %s", err, want)
	}
}

func TestTheSystemsAuthoritiesNeverCount(t *testing.T) {
	a := newAuthority(t, domain, "ES256", identitytest.NewClock())
	v := newVerifier(t, a.web(a.endpoint(t)))
	chain, _ := a.leaf(t, systemAuthority, nil)
	if _, err := chain[0].Verify(x509.VerifyOptions{CurrentTime: a.Now()}); err != nil {
		t.Fatalf("the test does not stand: the system does not trust its authority: %v", err)
	}
	_, err := certified(v, chain)
	why(t, err, spiffe.WhyChain)
	a.bundle.RemoveX509Authority(a.ca.Certificate) // an empty set must not mean the system's either
	a.Advance(spiffe.DefaultRefresh)
	_, err = certified(v, chain)
	why(t, err, spiffe.WhyChain)
}

// TestGoSPIFFEAgrees has the library of SPIFFE's own project read what we accept.
func TestGoSPIFFEAgrees(t *testing.T) {
	c := identitytest.NewClock()
	c.Advance(time.Since(c.Now())) // the library reads the machine's clock itself
	a := newAuthority(t, domain, "ES256", c)
	v := newVerifier(t, a.web(a.endpoint(t)))
	token := a.token(nil)
	theirs, err := jwtsvid.ParseAndValidate(token, a.bundle, []string{audience})
	if err != nil {
		t.Fatal(err)
	}
	ours, err := verify(v, token)
	if err != nil || ours.Subject != theirs.ID.String() || !ours.ExpiresAt.Equal(theirs.Expiry) {
		t.Errorf("got %+v, %v; go-spiffe has %+v", ours, err, theirs)
	}
	chain, key := a.leaf(t, a.ca, nil)
	id, _, err := x509svid.Verify(chain, a.bundle)
	if err != nil {
		t.Fatal(err)
	}
	if ours, err = certified(v, chain); err != nil || ours.Subject != id.String() {
		t.Errorf("got %+v, %v; go-spiffe has %s", ours, err, id)
	}
	// And a client of theirs shows its X509-SVID over TLS.
	shown := make(chan []*x509.Certificate, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { shown <- r.TLS.PeerCertificates }))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	svid := &x509svid.SVID{ID: id, Certificates: chain, PrivateKey: key}
	transport := &http.Transport{TLSClientConfig: tlsconfig.MTLSWebClientConfig(svid, roots)}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if ours, err = certified(v, <-shown); err != nil || ours.Subject != workload {
		t.Errorf("got %+v, %v", ours, err)
	}
}

func TestTheIdentityReachesThePrincipal(t *testing.T) {
	a := newAuthority(t, domain, "RS256", identitytest.NewClock())
	v := newVerifier(t, a.web(a.endpoint(t)))
	p, err := verify(v, a.token(map[string]any{"iss": "https://anybody.example", "team": "orders", "spiffe_id": "spiffe://evil.example/x", "path": 7, "jti": "j"}))
	if err != nil {
		t.Fatal(err)
	}
	if p.IssuerURL != "spiffe://example.org" || p.Name() != "mesh:spiffe://example.org/acme/orders" || p.TokenID != "j" {
		t.Errorf("got %+v", p)
	}
	chain, _ := a.leaf(t, a.ca, func(c *x509.Certificate) { c.DNSNames = []string{"orders.example.org"} })
	q, err := certified(v, chain)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"spiffe_id": workload, "trust_domain": domain, "path": "/acme/orders"} {
		if p.Claims[name] != want || q.Claims[name] != want {
			t.Errorf("claim %s is %v and %v, want %v", name, p.Claims[name], q.Claims[name], want)
		}
	}
	if p.Claims["team"] != "orders" || len(q.Claims["fingerprint"].(string)) != 64 || q.Claims["serial"] == "" {
		t.Errorf("got %v and %v", p.Claims, q.Claims)
	}
}

func TestOnlyWorkloadsOfTheTrustDomainAreItsPrincipals(t *testing.T) {
	a := newAuthority(t, domain, "ES256", identitytest.NewClock())
	v := newVerifier(t, a.web(a.endpoint(t)))
	for _, subject := range []string{
		"spiffe://other.org/acme/orders", "spiffe://example.org.evil.example/acme", "spiffe://example.org", "spiffe://example.org/",
		"spiffe://Example.org/acme", "SPIFFE://example.org/acme", "https://example.org/acme", "spiffe://example.org/acme/../x",
		"spiffe://example.org//acme", "spiffe://example.org/acme/", "spiffe://example.org/acme?x=1", "spiffe://example.org/acme#x",
		"spiffe://user@example.org/acme", "spiffe://example.org:443/acme", "spiffe://example.org/ac%6De", "spiffe://example.org/a b",
		"spiffe://ехample.org/acme", "spiffe://example.org/аcme", "acme", "", "spiffe://example.org/" + strings.Repeat("x", 240),
	} {
		if _, err := verify(v, a.token(map[string]any{"sub": subject})); !errors.Is(err, identity.ErrRejected) {
			t.Errorf("JWT-SVID %q: got %v", subject, err)
		}
		u, err := url.Parse(subject)
		if err != nil || u.Scheme == "" || strings.HasPrefix(subject, "SPIFFE:") {
			continue // no certificate holds it, or the library writes the scheme in lower case
		}
		if x509Holds(subject) {
			chain, _ := a.leaf(t, a.ca, func(c *x509.Certificate) { c.URIs = []*url.URL{u} })
			_, err := certified(v, chain)
			why(t, err, spiffe.WhySubject)
		}
	}
	for name, change := range map[string]func(*x509.Certificate){
		"no URI": func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"example.org"} },
		"two URIs": func(c *x509.Certificate) {
			c.URIs = append(c.URIs, &url.URL{Scheme: "spiffe", Host: domain, Path: "/admin"})
		},
		"a URI of another kind beside it": func(c *x509.Certificate) {
			c.URIs = append(c.URIs, &url.URL{Scheme: "https", Host: domain})
		},
	} {
		t.Run(name, func(t *testing.T) {
			chain, _ := a.leaf(t, a.ca, change)
			_, err := certified(v, chain)
			why(t, err, spiffe.WhySubject)
		})
	}
}

// x509Holds reports whether certificates can hold a URI: they are of ASCII.
func x509Holds(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > 126 })
}

func TestAStrangersCertificateMakesNoFetch(t *testing.T) {
	a := newAuthority(t, domain, "ES256", identitytest.NewClock())
	v := newVerifier(t, a.web(a.endpoint(t)))
	for _, change := range []func(*x509.Certificate){
		func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "other.org", Path: "/x"}} },
		func(c *x509.Certificate) { c.URIs = nil },
		func(c *x509.Certificate) { c.KeyUsage = 0 },
	} {
		chain, _ := a.leaf(t, a.ca, change)
		if _, err := certified(v, chain); !errors.Is(err, identity.ErrRejected) {
			t.Errorf("got %v", err)
		}
	}
	if a.fetches() != 0 {
		t.Errorf("%d fetches", a.fetches())
	}
}

func TestEdDSAIsNotForJWTSVIDs(t *testing.T) {
	a := newAuthority(t, domain, "EdDSA", identitytest.NewClock())
	v := newVerifier(t, a.web(a.endpoint(t)))
	_, err := verify(v, a.token(nil))
	if rejection, ok := errors.AsType[*oidc.Rejection](err); !ok || rejection.Why != oidc.WhyAlgorithm {
		t.Errorf("got %v", err)
	}
}

func TestKeysOfOneUseAreNotTakenForTheOther(t *testing.T) {
	a := newAuthority(t, domain, "ES256", identitytest.NewClock())
	server := a.endpoint(t)
	for use, good := range map[string]bool{"jwt-svid": true, "sig": false, "x509-svid": false, "wit-svid": false, "": false} {
		key, err := testissuer.NewKey("other", "ES256")
		if err != nil {
			t.Fatal(err)
		}
		jwk := asJWK(t, "other", key.Signer.Public())
		if jwk["use"] = use; use == "" {
			delete(jwk, "use")
		}
		if use == "x509-svid" {
			jwk["x5c"] = []string{base64.StdEncoding.EncodeToString(systemAuthority.Certificate.Raw)}
		}
		a.mu.Lock()
		a.extra = []map[string]any{jwk}
		own := a.key
		a.key = key
		a.mu.Unlock()
		if _, err := verify(newVerifier(t, a.web(server)), a.token(nil)); (err == nil) != good {
			t.Errorf("use %q: got %v", use, err)
		}
		a.mu.Lock()
		a.key = own
		a.mu.Unlock()
	}
}

func TestATrustDomainIsNotAnotherOfTheSameKeys(t *testing.T) {
	c := identitytest.NewClock()
	a, b := newAuthority(t, domain, "ES256", c), newAuthority(t, "other.org", "ES256", c)
	ours, theirs := newVerifier(t, a.web(a.endpoint(t))), newVerifier(t, b.web(b.endpoint(t)))
	token := b.token(map[string]any{"sub": "spiffe://other.org/acme"})
	if p, err := verify(theirs, token); err != nil || p.IssuerURL != "spiffe://other.org" {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := verify(ours, token); !errors.Is(err, identity.ErrRejected) {
		t.Errorf("got %v", err)
	}
	forged := b.token(nil) // of our trust domain, by their key
	for _, v := range []*spiffe.Verifier{ours, theirs} {
		if _, err := verify(v, forged); !errors.Is(err, identity.ErrRejected) {
			t.Errorf("got %v", err)
		}
	}
	chain, _ := a.leaf(t, b.ca, nil)
	_, err := certified(ours, chain)
	why(t, err, spiffe.WhyChain)
	_, err = certified(theirs, chain)
	why(t, err, spiffe.WhySubject)
}

func TestAFileThatIsReplacedCountsWithinAMinute(t *testing.T) {
	c := identitytest.NewClock()
	a, b := newAuthority(t, domain, "ES256", c), newAuthority(t, domain, "ES256", c)
	var text atomic.Pointer[[]byte]
	put := func(data []byte) { text.Store(&data) }
	put(a.document(t))
	v := newVerifier(t, spiffe.Config{Name: "mesh", TrustDomain: domain, Audience: audience, Now: c.Now, Bundle: spiffe.Bundle{
		File: func() ([]byte, error) {
			if data := text.Load(); data != nil {
				return *data, nil
			}
			return nil, os.ErrNotExist
		},
	}})
	good := func(a *authority) bool {
		chain, _ := a.leaf(t, a.ca, nil)
		_, first := verify(v, a.token(nil))
		_, second := certified(v, chain)
		if (first == nil) != (second == nil) {
			t.Errorf("JWT-SVID: %v; X509-SVID: %v", first, second)
		}
		return first == nil
	}
	if !good(a) {
		t.Error("the bundle of the file does not count")
	}
	put(b.document(t))
	c.Advance(time.Minute)
	if !good(b) || good(a) {
		t.Error("the new bundle does not count, or the old one does")
	}
	put([]byte(`{"keys":[{"use":"x509-svid","kty":"EC","crv":"P-256","x":"","y":""}]}`))
	c.Advance(time.Minute)
	if !good(b) {
		t.Error("a bad file puts the last good bundle out of use")
	}
	text.Store(nil)
	c.Advance(23 * time.Hour)
	if !good(b) {
		t.Error("a missing file puts the last good bundle out of use")
	}
	c.Advance(2 * time.Hour)
	if good(b) {
		t.Error("a bundle works for ever")
	}
}

func TestTheRefreshHintIsFollowed(t *testing.T) {
	c := identitytest.NewClock()
	a := newAuthority(t, domain, "ES256", c)
	a.bundle.SetRefreshHint(2 * time.Minute)
	v := newVerifier(t, a.web(a.endpoint(t)))
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {119 * time.Second, 1}, {time.Second, 2}, {time.Minute, 2}, {time.Minute, 3}} {
		c.Advance(step.after)
		chain, _ := a.leaf(t, a.ca, nil)
		if _, err := certified(v, chain); err != nil {
			t.Fatal(err)
		}
		if a.fetches() != step.want {
			t.Errorf("%d fetches, want %d", a.fetches(), step.want)
		}
	}
}

func TestX509SVIDsOutliveTheirEndpointUntilTheBundleIsTooOld(t *testing.T) {
	c := identitytest.NewClock()
	a := newAuthority(t, domain, "ES256", c)
	cfg := a.web(a.endpoint(t))
	cfg.Keys, cfg.Keep = &memory{}, 6*time.Hour
	v := newVerifier(t, cfg)
	try := func(v *spiffe.Verifier) error {
		chain, _ := a.leaf(t, a.ca, nil)
		_, err := certified(v, chain)
		return err
	}
	if err := try(v); err != nil {
		t.Fatal(err)
	}
	a.fail(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	c.Advance(5 * time.Hour)
	for name, v := range map[string]*spiffe.Verifier{"the same": v, "another after a restart": newVerifier(t, cfg)} {
		if err := try(v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.Advance(time.Hour)
	if err := try(v); err == nil || errors.Is(err, identity.ErrRejected) {
		t.Errorf("got %v; want an error that does not call the certificate bad", err)
	}
	a.fail(nil)
	c.Advance(time.Minute)
	if err := try(v); err != nil {
		t.Errorf("the endpoint is back: %v", err)
	}
}

// serveSPIFFE serves a bundle by the profile https_spiffe, with handler and TLS configuration of go-spiffe. The
// certificate that it shows can be changed.
func serveSPIFFE(t *testing.T, a *authority, shown *atomic.Pointer[x509svid.SVID]) *httptest.Server {
	t.Helper()
	handler, err := federation.NewHandler(a.domain, a.bundle)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)                                            // of handshakes that fail on purpose
	server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { // else it shows one of its own
		return tlsconfig.TLSServerConfig(source{shown}), nil
	}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

type source struct {
	at *atomic.Pointer[x509svid.SVID]
}

func (s source) GetX509SVID() (*x509svid.SVID, error) { return s.at.Load(), nil }

// server makes the X509-SVID of an endpoint.
func (a *authority) server(t *testing.T, by identitytest.Authority, path string) *x509svid.SVID {
	chain, key := a.leaf(t, by, func(c *x509.Certificate) { c.URIs[0].Path = path; c.NotAfter = a.Now().Add(48 * time.Hour) })
	return &x509svid.SVID{ID: spiffeid.RequireFromPath(a.domain, path), Certificates: chain, PrivateKey: key}
}

func TestAnEndpointIsKnownByItsX509SVID(t *testing.T) {
	c := identitytest.NewClock()
	a := newAuthority(t, domain, "ES256", c)
	first := a.document(t)
	var shown atomic.Pointer[x509svid.SVID]
	server := serveSPIFFE(t, a, &shown)
	cfg := spiffe.Config{Name: "mesh", TrustDomain: domain, Audience: audience, Now: c.Now, Keys: &memory{}, Bundle: spiffe.Bundle{
		Endpoint: server.URL, Profile: spiffe.SPIFFE, ServerID: "spiffe://example.org/bundles", File: func() ([]byte, error) { return first, nil },
	}}
	stranger := identitytest.NewAuthority(t, "stranger", c.Now())
	for name, wrong := range map[string]struct {
		svid *x509svid.SVID
		says string
	}{
		"another workload":      {a.server(t, a.ca, "/acme/orders"), "not"},
		"a stranger":            {a.server(t, stranger, "/bundles"), "leads to no authority"},
		"one that is too old":   {a.expired(t, "/bundles"), "is good from"},
		"one of another domain": {newAuthority(t, "other.org", "ES256", c).server(t, a.ca, "/bundles"), "no X509-SVID of the trust domain"},
		"one of the web":        {a.ofTheWeb(t), "no X509-SVID of the trust domain"},
	} {
		shown.Store(wrong.svid)
		_, err := verify(newVerifier(t, cfg), a.token(nil))
		if err == nil || errors.Is(err, identity.ErrRejected) || !strings.Contains(err.Error(), wrong.says) {
			t.Errorf("%s: got %v; want an error that does not call the token bad", name, err)
		}
	}
	shown.Store(a.server(t, a.ca, "/bundles"))
	v := newVerifier(t, cfg)
	if p, err := verify(v, a.token(nil)); err != nil || p.Subject != workload {
		t.Fatalf("got %+v, %v", p, err)
	}
	// The trust domain gets another authority, announces it, and drops the first. The file keeps the first.
	next := identitytest.NewAuthority(t, domain, c.Now())
	a.bundle.AddX509Authority(next.Certificate)
	refresh := func() error {
		c.Advance(spiffe.DefaultRefresh)
		server.CloseClientConnections()
		chain, _ := a.leaf(t, next, nil)
		_, err := certified(v, chain)
		return err
	}
	if err := refresh(); err != nil {
		t.Fatalf("the announced authority does not count: %v", err)
	}
	shown.Store(a.server(t, next, "/bundles"))
	a.bundle.RemoveX509Authority(a.ca.Certificate)
	if err := refresh(); err != nil {
		t.Fatalf("the endpoint is not known by the announced authority: %v", err)
	}
	old, _ := a.leaf(t, a.ca, nil)
	if _, err := certified(v, old); err == nil {
		t.Error("the dropped authority counts")
	}
	before := v.Status().Failures
	shown.Store(a.server(t, a.ca, "/bundles")) // whoever has the dropped key
	if err := refresh(); err != nil || v.Status().Failures != before+1 {
		t.Errorf("an endpoint with the dropped key: %v, %d failures", err, v.Status().Failures-before)
	}
	shown.Store(a.server(t, next, "/bundles"))
	restarted := newVerifier(t, cfg)
	if _, err := verify(restarted, a.token(nil)); err != nil || restarted.Status().Failures != 0 {
		t.Errorf("after a restart: %v, %+v", err, restarted.Status())
	}
}

func (a *authority) expired(t *testing.T, path string) *x509svid.SVID {
	chain, key := a.leaf(t, a.ca, func(c *x509.Certificate) { c.URIs[0].Path = path; c.NotAfter = a.Now().Add(-time.Second) })
	return &x509svid.SVID{ID: spiffeid.RequireFromPath(a.domain, path), Certificates: chain, PrivateKey: key}
}

// ofTheWeb is a certificate that browsers take for our host.
func (a *authority) ofTheWeb(t *testing.T) *x509svid.SVID {
	chain, key := a.leaf(t, systemAuthority, func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"localhost"} })
	return &x509svid.SVID{ID: spiffeid.RequireFromPath(a.domain, "/bundles"), Certificates: chain, PrivateKey: key}
}

func TestAnEndpointOfTheWebIsKnownByItsAuthority(t *testing.T) {
	a := newAuthority(t, domain, "ES256", identitytest.NewClock())
	cfg := a.web(a.endpoint(t))
	cfg.Bundle.CA = identitytest.PEM(systemAuthority.Certificate)
	if _, err := verify(newVerifier(t, cfg), a.token(nil)); err == nil || errors.Is(err, identity.ErrRejected) {
		t.Errorf("got %v", err)
	}
	cfg.Bundle.CA = nil
	if _, err := verify(newVerifier(t, cfg), a.token(nil)); err == nil || errors.Is(err, identity.ErrRejected) {
		t.Errorf("got %v", err)
	}
}

func TestConfigurationsThatCannotBeSafeAreRefused(t *testing.T) {
	file := func() ([]byte, error) { return nil, nil }
	good := func() spiffe.Config {
		return spiffe.Config{Name: "mesh", TrustDomain: domain, Audience: audience, Now: identitytest.NewClock().Now, Bundle: spiffe.Bundle{File: file}}
	}
	web := spiffe.Bundle{Endpoint: "https://bundle.example/", Profile: spiffe.Web}
	own := spiffe.Bundle{Endpoint: "https://bundle.example/", Profile: spiffe.SPIFFE, ServerID: "spiffe://example.org/bundles", File: file}
	for _, bundle := range []spiffe.Bundle{web, own, {File: file}} {
		cfg := good()
		cfg.Bundle = bundle
		if _, err := spiffe.New(cfg); err != nil {
			t.Fatal(err)
		}
	}
	with := func(b spiffe.Bundle, change func(*spiffe.Bundle)) func(*spiffe.Config) {
		change(&b)
		return func(c *spiffe.Config) { c.Bundle = b }
	}
	for name, change := range map[string]func(*spiffe.Config){
		"no name":                         func(c *spiffe.Config) { c.Name = "" },
		"no trust domain":                 func(c *spiffe.Config) { c.TrustDomain = "" },
		"a trust domain in capitals":      func(c *spiffe.Config) { c.TrustDomain = "Example.org" },
		"a trust domain as URL":           func(c *spiffe.Config) { c.TrustDomain = "spiffe://example.org" },
		"a trust domain with a path":      func(c *spiffe.Config) { c.TrustDomain = "example.org/x" },
		"a very long trust domain":        func(c *spiffe.Config) { c.TrustDomain = strings.Repeat("x", 201) },
		"no audience":                     func(c *spiffe.Config) { c.Audience = "" },
		"no clock":                        func(c *spiffe.Config) { c.Now = nil },
		"a negative age":                  func(c *spiffe.Config) { c.MaxAge = -1 },
		"no bundle":                       func(c *spiffe.Config) { c.Bundle = spiffe.Bundle{} },
		"a file with a profile":           with(spiffe.Bundle{File: file}, func(b *spiffe.Bundle) { b.Profile = spiffe.Web }),
		"an endpoint without a profile":   with(web, func(b *spiffe.Bundle) { b.Profile = "" }),
		"another profile":                 with(web, func(b *spiffe.Bundle) { b.Profile = "http" }),
		"plain http":                      with(web, func(b *spiffe.Bundle) { b.Endpoint = "http://bundle.example/" }),
		"a user in the URL":               with(web, func(b *spiffe.Bundle) { b.Endpoint = "https://u:p@bundle.example/" }),
		"authorities that are none":       with(web, func(b *spiffe.Bundle) { b.CA = []byte("x") }),
		"a file of the profile https_web": with(web, func(b *spiffe.Bundle) { b.File = file }),
		"an endpoint without an ID":       with(own, func(b *spiffe.Bundle) { b.ServerID = "" }),
		"an endpoint of another domain":   with(own, func(b *spiffe.Bundle) { b.ServerID = "spiffe://other.org/bundles" }),
		"an endpoint nobody vouches for":  with(own, func(b *spiffe.Bundle) { b.File = nil }),
	} {
		cfg := good()
		change(&cfg)
		if _, err := spiffe.New(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
