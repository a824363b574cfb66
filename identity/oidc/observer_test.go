package oidc_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

// notes keeps what an observer hears.
type notes struct {
	mu      sync.Mutex
	fetches []oidc.Fetch
	tokens  []oidc.Verification
	fetched chan struct{} // one value for each fetch
}

func newNotes() *notes { return &notes{fetched: make(chan struct{}, 100)} }

func (n *notes) Fetched(f oidc.Fetch) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fetches = append(n.fetches, f)
	n.fetched <- struct{}{}
}

func (n *notes) Verified(v oidc.Verification) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tokens = append(n.tokens, v)
}

// last returns the fetch that was heard of last, after waiting for one.
func (n *notes) last(t *testing.T) oidc.Fetch {
	t.Helper()
	select {
	case <-n.fetched:
	case <-time.After(10 * time.Second):
		t.Fatal("no fetch was heard of")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fetches[len(n.fetches)-1]
}

func (n *notes) token(t *testing.T) oidc.Verification {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.tokens) == 0 {
		t.Fatal("no token was heard of")
	}
	return n.tokens[len(n.tokens)-1]
}

// named is an issuer that a name of the net leads to, as an attacker of names can move it.
func named(t *testing.T, c *identitytest.Clock, dns *testbed.DNS, dialer egress.Dialer) (*testissuer.Issuer, *oidc.Verifier, *notes) {
	t.Helper()
	var handler http.Handler
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // so that each fetch connects anew
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	issuer, err := testissuer.New(testissuer.Options{Now: c.Now, Algorithm: "ES256", URL: "https://example.com:" + port})
	if err != nil {
		t.Fatal(err)
	}
	handler = issuer
	heard := newNotes()
	dialer.Resolver = dns.Resolver()
	v, err := oidc.New(oidc.Config{
		Name: "named", URL: issuer.URL(), Audience: audience, Now: c.Now, Egress: dialer, Observer: heard,
		CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return issuer, v, heard
}

func TestAnIssuerWhoseNameMovesToAMetadataServiceIsNotAskedThere(t *testing.T) {
	c, dns := identitytest.NewClock(), testbed.NewDNS(t, "127.0.0.1")
	here := egress.Dialer{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	issuer, v, heard := named(t, c, dns, here)
	token := secret.New(issuer.Token(map[string]any{"aud": audience, "sub": "one"}))
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if f := heard.last(t); f.Err != nil {
		t.Fatal(f.Err)
	}
	dns.Answer("169.254.169.254")
	c.Advance(oidc.DefaultKeyAge)
	token = secret.New(issuer.Token(map[string]any{"aud": audience, "sub": "one"}))
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("with the last good keys: %v", err)
	}
	if f := heard.last(t); !errors.Is(f.Err, egress.ErrRefused) {
		t.Errorf("the fetch after the change: %v", f.Err)
	}
	if s := v.Status(); !s.Failing || !s.FailingSince.Equal(c.Now()) || s.KeysUntil.IsZero() {
		t.Errorf("status %+v", s)
	}
}

func TestAnIssuerOfANameIsNotLookedForOnOurOwnMachine(t *testing.T) {
	c, dns := identitytest.NewClock(), testbed.NewDNS(t, "127.0.0.1")
	issuer, v, heard := named(t, c, dns, egress.Dialer{})
	if _, err := v.Verify(t.Context(), secret.New(issuer.Token(map[string]any{"aud": audience, "sub": "one"}))); err == nil {
		t.Fatal("it was accepted")
	}
	if f := heard.last(t); !errors.Is(f.Err, egress.ErrRefused) {
		t.Errorf("the fetch: %v", f.Err)
	}
}

func TestKeysAreNotFetchedFromAMetadataServiceThatDiscoveryNames(t *testing.T) {
	for _, keysAt := range []string{"https://169.254.169.254/latest/meta-data", "https://[fd00:ec2::254]/", "https://[::ffff:169.254.169.254]/", "https://0.0.0.0/"} {
		c, dns := identitytest.NewClock(), testbed.NewDNS(t, "127.0.0.1")
		issuer, v, heard := named(t, c, dns, egress.Dialer{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
		issuer.SetFaults(testissuer.Faults{KeysAt: keysAt})
		if _, err := v.Verify(t.Context(), secret.New(issuer.Token(map[string]any{"aud": audience, "sub": "one"}))); err == nil {
			t.Error("it was accepted")
		}
		if f := heard.last(t); !errors.Is(f.Err, egress.ErrRefused) {
			t.Errorf("%s: %v", keysAt, f.Err)
		}
	}
}

func TestAnObserverHearsOfKeysThatWereReplacedAndOfDocumentsThatMoved(t *testing.T) {
	c := identitytest.NewClock()
	issuer, err := testissuer.Start(testissuer.Options{Now: c.Now, Algorithm: "ES256"})
	if err != nil {
		t.Fatal(err)
	}
	defer issuer.Close()
	heard := newNotes()
	v, err := oidc.New(oidc.Config{Name: "test", URL: issuer.URL(), Audience: audience, Now: c.Now, Observer: heard})
	if err != nil {
		t.Fatal(err)
	}
	fetch := func() oidc.Fetch {
		t.Helper()
		c.Advance(oidc.DefaultKeyAge)
		_, _ = v.Verify(t.Context(), secret.New(issuer.Token(map[string]any{"aud": audience, "sub": "one"})))
		return heard.last(t)
	}
	first := issuer.Key()
	if f := fetch(); f.Before != 0 || f.Now != 1 || f.Discovery.KeysAt == "" || len(f.Discovery.Algorithms) != 1 || f.Issuer != "test" {
		t.Errorf("the first fetch: %+v", f)
	}
	if _, err := issuer.Rotate("ES256"); err != nil {
		t.Fatal(err)
	}
	if f := fetch(); f.Before != 1 || f.Now != 2 || f.Kept != 1 {
		t.Errorf("a rotation with overlap: %+v", f)
	}
	second := issuer.Key()
	if _, err := issuer.Rotate("RS256"); err != nil {
		t.Fatal(err)
	}
	issuer.Remove(first.ID)
	issuer.Remove(second.ID)
	if f := fetch(); f.Before != 2 || f.Now != 1 || f.Kept != 0 {
		t.Errorf("a rotation without overlap: %+v", f)
	}
	issuer.SetFaults(testissuer.Faults{Issuer: "https://elsewhere.example"})
	if f := fetch(); !errors.Is(f.Err, oidc.ErrOtherIssuer) {
		t.Errorf("another issuer: %v", f.Err)
	}
	issuer.SetFaults(testissuer.Faults{KeySet: bytes.Repeat([]byte("{"), 100)})
	if f := fetch(); f.Err == nil {
		t.Error("garbage is no error")
	}
}

func TestAnObserverHearsWhatATokenSaysOfTimeOnlyWhenItIsSigned(t *testing.T) {
	c := identitytest.NewClock()
	issuer, err := testissuer.Start(testissuer.Options{Now: c.Now, Algorithm: "ES256"})
	if err != nil {
		t.Fatal(err)
	}
	defer issuer.Close()
	heard := newNotes()
	v, err := oidc.New(oidc.Config{Name: "test", URL: issuer.URL(), Audience: audience, Now: c.Now, Observer: heard})
	if err != nil {
		t.Fatal(err)
	}
	later := c.Now().Add(time.Minute)
	ahead := issuer.Token(map[string]any{"aud": audience, "sub": "one", "iat": later.Unix(), "nbf": later.Unix()})
	_, _ = v.Verify(t.Context(), secret.New(ahead))
	if got := heard.token(t); got.Why != oidc.WhyEarly || !got.IssuedAt.Equal(later) || !got.NotBefore.Equal(later) {
		t.Errorf("a token from the future: %+v", got)
	}
	_, _ = v.Verify(t.Context(), secret.New(ahead[:strings.LastIndex(ahead, ".")+1]+strings.Repeat("A", 86)))
	if got := heard.token(t); got.Why != oidc.WhySignature || !got.IssuedAt.IsZero() {
		t.Errorf("a token that nobody signed: %+v", got)
	}
	if _, err := v.Verify(t.Context(), secret.New(issuer.Token(map[string]any{"aud": audience, "sub": "one"}))); err != nil {
		t.Fatal(err)
	}
	if got := heard.token(t); got.Why != "" || got.Unavailable || !got.IssuedAt.Equal(c.Now()) {
		t.Errorf("a good token: %+v", got)
	}
}
