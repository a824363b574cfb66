package mtls_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/identity/mtls"
)

// world is an authority and a verifier that trusts it.
type world struct {
	*identitytest.Clock
	ca       identitytest.Authority
	verifier *mtls.Verifier
}

func newWorld(t testing.TB, change ...func(*mtls.Config)) *world {
	t.Helper()
	w := &world{Clock: identitytest.NewClock()}
	w.ca = identitytest.NewAuthority(t, "Acme machines", w.Now())
	cfg := mtls.Config{Name: "machines", CA: identitytest.PEM(w.ca.Certificate), Subject: mtls.URI, Now: w.Now}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if w.verifier, err = mtls.New(cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// template is that of a good leaf.
func (w *world) template() *x509.Certificate {
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: "press-7", Organization: []string{"Acme"}, OrganizationalUnit: []string{"Plant 3", "Line B"}, Country: []string{"DE"}},
		NotBefore: w.Now().Add(-time.Minute), NotAfter: w.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{{Scheme: "https", Host: "acme.example", Path: "/machines/press-7"}}, DNSNames: []string{"Press-7.Acme.example"},
		EmailAddresses: []string{"press-7@acme.example"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 7).To4()},
	}
}

func (w *world) leaf(t testing.TB, by identitytest.Authority, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := w.template()
	if change != nil {
		change(template)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return by.Issue(t, template, key.Public())
}

func (w *world) verify(chain ...*x509.Certificate) (identity.Principal, error) {
	return w.verifier.VerifyCertificate(context.Background(), chain)
}

func TestMain(m *testing.M) {
	os.Exit(identitytest.MainTrusting(m, func(a identitytest.Authority) { systemAuthority = a }))
}

// systemAuthority is an authority that the system of this process trusts.
var systemAuthority identitytest.Authority

func TestTheVerifierKeepsTheContract(t *testing.T) {
	for rule, subject := range map[mtls.Rule]string{mtls.URI: "https://acme.example/machines/press-7", mtls.DNS: "press-7.acme.example", mtls.Email: "press-7@acme.example", mtls.CommonName: "press-7"} {
		t.Run(string(rule), func(t *testing.T) {
			identitytest.RunCertificates(t, func(t *testing.T) *identitytest.Certificates {
				w := newWorld(t, func(c *mtls.Config) { c.Subject = rule })
				return &identitytest.Certificates{
					Verifier: w.verifier, Name: "machines", URL: "urn:daypass:mtls:machines", Subject: subject,
					Now: w.Now, Advance: w.Advance, CA: w.ca, Leaf: w.template,
				}
			})
		})
	}
}

func TestTheSystemsAuthoritiesNeverCount(t *testing.T) {
	w := newWorld(t)
	leaf := w.leaf(t, systemAuthority, nil)
	if _, err := leaf.Verify(x509.VerifyOptions{CurrentTime: w.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Fatalf("the test does not stand: the system does not trust its authority: %v", err)
	}
	for _, chain := range [][]*x509.Certificate{{leaf}, {leaf, systemAuthority.Certificate}} {
		_, err := w.verify(chain...)
		why(t, err, mtls.WhyChain)
	}
}

// why fails unless err is a rejection of that kind.
func why(t *testing.T, err error, want mtls.Why) {
	t.Helper()
	rejection, ok := errors.AsType[*mtls.Rejection](err)
	if !ok || rejection.Why != want || !errors.Is(err, identity.ErrRejected) {
		t.Errorf("got %v; want a rejection for %s", err, want)
	}
}

func TestTheCertificateReachesThePrincipal(t *testing.T) {
	w := newWorld(t, func(c *mtls.Config) { c.ID = "urn:acme:machines" })
	leaf := w.leaf(t, w.ca, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(0xcafe) })
	p, err := w.verify(leaf)
	if err != nil {
		t.Fatal(err)
	}
	if p.IssuerURL != "urn:acme:machines" || p.Name() != "machines:https://acme.example/machines/press-7" || p.TokenID != "" {
		t.Errorf("got %+v", p)
	}
	for name, want := range map[string]any{
		"common_name": "press-7", "organization": []any{"Acme"}, "organizational_unit": []any{"Line B", "Plant 3"}, "country": []any{"DE"},
		"subject_dn": "CN=press-7,OU=Line B+OU=Plant 3,O=Acme,C=DE", "issuer_dn": "CN=Acme machines,O=Acme", "serial": "cafe",
		"uri": []any{"https://acme.example/machines/press-7"}, "dns": []any{"Press-7.Acme.example"}, "email": []any{"press-7@acme.example"},
		"ip": []any{"10.0.0.7"}, "not_after": leaf.NotAfter.Unix(),
	} {
		if got := p.Claims[name]; !reflect.DeepEqual(got, want) {
			t.Errorf("claim %s is %v, want %v", name, got, want)
		}
	}
	if print, _ := p.Claims["fingerprint"].(string); len(print) != 64 {
		t.Errorf("claim fingerprint is %v", p.Claims["fingerprint"])
	}
	bare := w.leaf(t, w.ca, func(c *x509.Certificate) {
		c.Subject, c.DNSNames, c.EmailAddresses, c.IPAddresses = pkix.Name{}, nil, nil, nil
	})
	if p, err = w.verify(bare); err != nil || !reflect.DeepEqual(p.Claims["dns"], []any{}) || p.Claims["common_name"] != "" {
		t.Errorf("got %+v, %v", p.Claims, err)
	}
}

func TestASubjectIsExactlyOneNameThatNobodyMistakes(t *testing.T) {
	long := strings.Repeat("x", 256)
	twice := pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "one"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "two"},
	}}
	for name, c := range map[string]struct {
		rule   mtls.Rule
		change func(*x509.Certificate)
		want   string // no subject: rejected
	}{
		"the serial number":                {mtls.Serial, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(255) }, "ff"},
		"a common name in another script":  {mtls.CommonName, func(c *x509.Certificate) { c.Subject.CommonName = "presse-é" }, "presse-é"},
		"no URI":                           {mtls.URI, func(c *x509.Certificate) { c.URIs = nil }, ""},
		"two URIs":                         {mtls.URI, func(c *x509.Certificate) { c.URIs = append(c.URIs, &url.URL{Scheme: "urn", Opaque: "x"}) }, ""},
		"a long URI":                       {mtls.URI, func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "urn", Opaque: long}} }, ""},
		"no DNS name":                      {mtls.DNS, func(c *x509.Certificate) { c.DNSNames = nil }, ""},
		"two DNS names":                    {mtls.DNS, func(c *x509.Certificate) { c.DNSNames = []string{"a.example", "b.example"} }, ""},
		"a wildcard":                       {mtls.DNS, func(c *x509.Certificate) { c.DNSNames = []string{"*.acme.example"} }, ""},
		"two addresses":                    {mtls.Email, func(c *x509.Certificate) { c.EmailAddresses = []string{"a@acme.example", "b@acme.example"} }, ""},
		"no common name":                   {mtls.CommonName, func(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{"Acme"}} }, ""},
		"two common names":                 {mtls.CommonName, func(c *x509.Certificate) { c.Subject = twice }, ""},
		"a long common name":               {mtls.CommonName, func(c *x509.Certificate) { c.Subject.CommonName = long }, ""},
		"a common name that turns writing": {mtls.CommonName, func(c *x509.Certificate) { c.Subject.CommonName = "a\u202eb" }, ""},
		"a common name of two lines":       {mtls.CommonName, func(c *x509.Certificate) { c.Subject.CommonName = "a\nb" }, ""},
		"a common name with nothing seen":  {mtls.CommonName, func(c *x509.Certificate) { c.Subject.CommonName = "a\u200bb" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(cfg *mtls.Config) { cfg.Subject = c.rule })
			p, err := w.verify(w.leaf(t, w.ca, c.change))
			if c.want == "" {
				why(t, err, mtls.WhySubject)
			} else if err != nil || p.Subject != c.want {
				t.Errorf("got %q, %v", p.Subject, err)
			}
		})
	}
}

func TestRejectionsSayWhy(t *testing.T) {
	w := newWorld(t)
	for want, change := range map[mtls.Why]func(*x509.Certificate){
		mtls.WhyExpired: func(c *x509.Certificate) { c.NotAfter = w.Now().Add(-time.Second) },
		mtls.WhyUse:     func(c *x509.Certificate) { c.ExtKeyUsage = nil },
		mtls.WhySubject: func(c *x509.Certificate) { c.URIs = nil },
	} {
		_, err := w.verify(w.leaf(t, w.ca, change))
		why(t, err, want)
		if !strings.Contains(err.Error(), `"machines"`) {
			t.Errorf("the error does not name the issuer: %v", err)
		}
	}
	_, err := w.verify()
	why(t, err, mtls.WhyMalformed)
}

func TestConfigurationsThatCannotBeSafeAreRefused(t *testing.T) {
	w := newWorld(t)
	good := mtls.Config{Name: "machines", CA: identitytest.PEM(w.ca.Certificate), Subject: mtls.CommonName, Now: w.Now}
	if _, err := mtls.New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*mtls.Config){
		"no name":               func(c *mtls.Config) { c.Name = "" },
		"a colon in the name":   func(c *mtls.Config) { c.Name = "a:b" },
		"no clock":              func(c *mtls.Config) { c.Now = nil },
		"no subject":            func(c *mtls.Config) { c.Subject = "" },
		"another subject":       func(c *mtls.Config) { c.Subject = "ip" },
		"no authorities":        func(c *mtls.Config) { c.CA = nil },
		"authorities of text":   func(c *mtls.Config) { c.CA = []byte("x") },
		"a client as authority": func(c *mtls.Config) { c.CA = identitytest.PEM(w.ca.Certificate, w.leaf(t, w.ca, nil)) },
		"a key as authority": func(c *mtls.Config) {
			c.CA = append(c.CA, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})...)
		},
		"a broken certificate": func(c *mtls.Config) {
			c.CA = append(c.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})...)
		},
	} {
		cfg := good
		change(&cfg)
		if _, err := mtls.New(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
