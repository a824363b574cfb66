package identitytest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/identity"
)

// Certificates is a fixture for [RunCertificates]: an authority, and a verifier that trusts it and nobody else.
type Certificates struct {
	Verifier identity.CertificateVerifier
	Name     string // what [identity.Principal.Issuer] must be
	URL      string // what [identity.Principal.IssuerURL] must be
	Subject  string // what [identity.Principal.Subject] of a good leaf must be

	Now     func() time.Time
	Advance func(time.Duration) // moves the clock of the verifier

	CA   Authority
	Leaf func() *x509.Certificate // fresh template of a good leaf with a name that constraints apply to; good for an hour
}

// Authority signs certificates.
type Authority struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// NewAuthority returns an authority that signed itself, good for ten years around now.
func NewAuthority(t testing.TB, name string, now time.Time) Authority {
	t.Helper()
	key := newKey(t)
	return Authority{Key: key}.signed(t, authorityTemplate(name, now), key, nil)
}

// Below returns an authority that a signed; change may alter its template.
func (a Authority) Below(t testing.TB, name string, now time.Time, change func(*x509.Certificate)) Authority {
	t.Helper()
	template := authorityTemplate(name, now)
	if change != nil {
		change(template)
	}
	return a.signed(t, template, newKey(t), a.Certificate)
}

// Issue returns a certificate for a key.
func (a Authority) Issue(t testing.TB, template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	return create(t, template, a.Certificate, public, a.Key)
}

func (a Authority) signed(t testing.TB, template *x509.Certificate, key crypto.Signer, parent *x509.Certificate) Authority {
	t.Helper()
	if parent == nil {
		parent = template
	}
	return Authority{Certificate: create(t, template, parent, key.Public(), a.Key), Key: key}
}

func create(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	if template.SerialNumber == nil {
		template.SerialNumber, _ = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func authorityTemplate(name string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: name, Organization: []string{"Acme"}},
		NotBefore: now.Add(-5 * 365 * 24 * time.Hour), NotAfter: now.Add(5 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// RunCertificates runs the suite for verifiers of client certificates; start is called for each part.
func RunCertificates(t *testing.T, start func(t *testing.T) *Certificates) {
	t.Helper()
	for name, part := range map[string]func(*testing.T, *Certificates){
		"good certificates":      testGoodCertificates,
		"leaves":                 testLeaves,
		"chains":                 testChains,
		"keys that are too weak": testWeakKeys,
		"times":                  testCertificateTimes,
		"a real handshake":       testHandshake,
	} {
		t.Run(name, func(t *testing.T) { part(t, start(t)) })
	}
}

// leaf returns a chain of a leaf that differs from a good one as said.
func (f *Certificates) leaf(t *testing.T, by Authority, change func(*x509.Certificate)) []*x509.Certificate {
	t.Helper()
	template := f.Leaf()
	if change != nil {
		change(template)
	}
	return []*x509.Certificate{by.Issue(t, template, newKey(t).Public())}
}

func (f *Certificates) accept(t *testing.T, chain []*x509.Certificate) identity.Principal {
	t.Helper()
	p, err := f.Verifier.VerifyCertificate(context.Background(), chain)
	if err != nil {
		t.Fatalf("a good certificate is refused: %v", err)
	}
	if p.Issuer != f.Name || p.IssuerURL != f.URL || p.Subject != f.Subject {
		t.Errorf("got principal %+v", p)
	}
	return p
}

func (f *Certificates) reject(t *testing.T, chain []*x509.Certificate) {
	t.Helper()
	p, err := f.Verifier.VerifyCertificate(context.Background(), chain)
	switch {
	case err == nil:
		t.Fatalf("the certificate is accepted, as %s", p.Name())
	case !errors.Is(err, identity.ErrRejected):
		t.Errorf("got %v, which is not ErrRejected", err)
	case p.Subject != "" || p.Claims != nil || p.Issuer != "":
		t.Errorf("a principal comes with the error: %+v", p)
	}
}

func testGoodCertificates(t *testing.T, f *Certificates) {
	t.Run("a leaf of the authority is good", func(t *testing.T) {
		chain := f.leaf(t, f.CA, nil)
		p := f.accept(t, chain)
		if !p.IssuedAt.Equal(chain[0].NotBefore) || !p.ExpiresAt.Equal(chain[0].NotAfter) {
			t.Errorf("got issued %v, expires %v", p.IssuedAt, p.ExpiresAt)
		}
	})
	t.Run("a leaf below another authority is good, in any order, also with the root", func(t *testing.T) {
		one := f.CA.Below(t, "one", f.Now(), nil)
		two := one.Below(t, "two", f.Now(), nil)
		leaf := f.leaf(t, two, nil)[0]
		f.accept(t, []*x509.Certificate{leaf, two.Certificate, one.Certificate})
		f.accept(t, []*x509.Certificate{leaf, f.CA.Certificate, one.Certificate, two.Certificate})
		f.reject(t, []*x509.Certificate{leaf, two.Certificate})
		f.reject(t, []*x509.Certificate{leaf})
	})
	t.Run("callers at the same time do not disturb each other", func(t *testing.T) {
		good, bad := f.leaf(t, f.CA, nil), f.leaf(t, NewAuthority(t, "stranger", f.Now()), nil)
		var all sync.WaitGroup
		for n := range 16 {
			all.Go(func() {
				chain := good
				if n%2 == 1 {
					chain = bad
				}
				if _, err := f.Verifier.VerifyCertificate(context.Background(), chain); (err == nil) != (n%2 == 0) {
					t.Errorf("caller %d: %v", n, err)
				}
			})
		}
		all.Wait()
	})
}

func testLeaves(t *testing.T, f *Certificates) {
	unknown := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}
	f.accept(t, f.leaf(t, f.CA, nil))
	for name, change := range map[string]func(*x509.Certificate){
		"that is an authority":              func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
		"that may sign certificates":        func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign },
		"that may sign revocation lists":    func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign },
		"whose key is not for signatures":   func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment },
		"that is for servers":               func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
		"that is for code":                  func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} },
		"with a critical extension unknown": func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{unknown} },
		"without any name":                  nameless,
		"that was good until an hour ago": func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = f.Now().Add(-2*time.Hour), f.Now().Add(-time.Hour)
		},
		"that will be good in an hour": func(c *x509.Certificate) { c.NotBefore, c.NotAfter = f.Now().Add(time.Hour), f.Now().Add(2*time.Hour) },
	} {
		t.Run("a leaf "+name+" is rejected", func(t *testing.T) { f.reject(t, f.leaf(t, f.CA, change)) })
	}
	t.Run("nothing is rejected", func(t *testing.T) { f.reject(t, nil); f.reject(t, []*x509.Certificate{}) })
	t.Run("the authority itself is rejected", func(t *testing.T) { f.reject(t, []*x509.Certificate{f.CA.Certificate}) })
}

func nameless(c *x509.Certificate) {
	c.Subject, c.DNSNames, c.EmailAddresses, c.URIs, c.IPAddresses = pkix.Name{}, nil, nil, nil, nil
}

func testChains(t *testing.T, f *Certificates) {
	now := f.Now()
	stranger := NewAuthority(t, "stranger", now)
	twin := NewAuthority(t, f.CA.Certificate.Subject.CommonName, now) // the same name and another key
	constrained := func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.PermittedDNSDomains, c.PermittedURIDomains = []string{"other.invalid"}, []string{"other.invalid"}
		c.PermittedEmailAddresses = []string{"other.invalid"}
	}
	narrow := f.CA.Below(t, "no further", now, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	tooFar := narrow.Below(t, "too far", now, nil)
	bound := f.CA.Below(t, "for others", now, constrained)
	servers := f.CA.Below(t, "for servers", now, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	old := f.CA.Below(t, "old", now, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) })
	key := newKey(t)
	leaf := f.Leaf()
	pretender := Authority{Certificate: f.CA.Issue(t, leaf, key.Public()), Key: key} // a good leaf that signs
	self := Authority{Key: key}.signed(t, f.Leaf(), key, nil)
	for name, chain := range map[string][]*x509.Certificate{
		"of a stranger":                          f.leaf(t, stranger, nil),
		"of a stranger, with its root":           append(f.leaf(t, stranger, nil), stranger.Certificate),
		"of a stranger, with our root":           append(f.leaf(t, stranger, nil), f.CA.Certificate),
		"of a stranger with our root's name":     append(f.leaf(t, twin, nil), twin.Certificate, f.CA.Certificate),
		"that signed itself":                     {self.Certificate},
		"that a leaf signed":                     append(f.leaf(t, pretender, nil), pretender.Certificate),
		"further down than its authority allows": append(f.leaf(t, tooFar, nil), tooFar.Certificate, narrow.Certificate),
		"that its authority may not name":        append(f.leaf(t, bound, nil), bound.Certificate),
		"of an authority for servers":            append(f.leaf(t, servers, nil), servers.Certificate),
		"of an authority that is too old":        append(f.leaf(t, old, nil), old.Certificate),
	} {
		t.Run("a leaf "+name+" is rejected", func(t *testing.T) { f.reject(t, chain) })
	}
	t.Run("a chain of very many certificates is rejected", func(t *testing.T) {
		chain := f.leaf(t, f.CA, nil)
		for len(chain) < 64 {
			chain = append(chain, stranger.Certificate)
		}
		f.reject(t, chain)
	})
}

func testWeakKeys(t *testing.T, f *Certificates) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f.reject(t, []*x509.Certificate{f.CA.Issue(t, f.Leaf(), weak.Public())})
	f.reject(t, []*x509.Certificate{f.CA.Issue(t, f.Leaf(), small.Public())})
	template := authorityTemplate("weak", f.Now())
	between := Authority{Certificate: f.CA.Issue(t, template, weak.Public()), Key: weak}
	f.reject(t, append(f.leaf(t, between, nil), between.Certificate))
}

func testCertificateTimes(t *testing.T, f *Certificates) {
	chain := f.leaf(t, f.CA, nil)
	f.accept(t, chain)
	f.Advance(2 * time.Hour)
	f.reject(t, chain)
}

// testHandshake shows a leaf over TLS to a server that asks for any certificate and looks at none, as ours does.
func testHandshake(t *testing.T, f *Certificates) {
	verified := make(chan error, 2)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := f.Verifier.VerifyCertificate(r.Context(), r.TLS.PeerCertificates)
		verified <- err
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	defer server.Close()
	ask := func(by Authority) error {
		key := newKey(t)
		transport := server.Client().Transport.(*http.Transport).Clone()
		defer transport.CloseIdleConnections()
		shown := by.Issue(t, f.Leaf(), key.Public())
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{shown.Raw}, PrivateKey: key}, nil
		}
		answer, err := (&http.Client{Transport: transport}).Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return <-verified
	}
	if err := ask(f.CA); err != nil {
		t.Errorf("a good certificate: %v", err)
	}
	if err := ask(NewAuthority(t, "stranger", f.Now())); !errors.Is(err, identity.ErrRejected) {
		t.Errorf("a stranger's certificate: %v", err)
	}
}
