package mtls

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/daypass/daypass/identity/identitytest"
)

// FuzzCertificate changes a good certificate: whatever is accepted must be what the authority signed.
func FuzzCertificate(f *testing.F) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ca := identitytest.NewAuthority(f, "ca", now)
	good := ca.Issue(f, &x509.Certificate{
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, URIs: []*url.URL{{Scheme: "urn", Opaque: "a:b"}},
	}, ca.Key.Public())
	v, err := New(Config{Name: "x", CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate.Raw}), Subject: URI, Now: func() time.Time { return now }})
	if err != nil {
		f.Fatal(err)
	}
	if p, err := v.verify([]*x509.Certificate{good}); err != nil || p.Subject != "urn:a:b" {
		f.Fatal(p, err)
	}
	f.Add(good.Raw)
	f.Add(ca.Certificate.Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		if p, err := v.verify([]*x509.Certificate{c}); err == nil && (p.Subject != "urn:a:b" || string(c.RawTBSCertificate) != string(good.RawTBSCertificate)) {
			t.Fatalf("%x is accepted as %q", der, p.Subject)
		}
		for _, rule := range []Rule{URI, DNS, Email, CommonName, Serial} {
			if subject, err := rule.of(c); err == nil && (subject == "" || len(subject) > maxSubject || !utf8.ValidString(subject)) {
				t.Fatalf("%x gives the %s %q", der, rule, subject)
			}
		}
		for name, value := range claims(c) {
			if text, ok := value.(string); ok && !utf8.ValidString(text) {
				t.Fatalf("%x gives claim %s %q", der, name, text)
			}
		}
	})
}

func FuzzRevocationLists(f *testing.F) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ca := identitytest.NewAuthority(f, "ca", now)
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: now, ReasonCode: 1}},
	}, ca.Certificate, ca.Key)
	if err != nil {
		f.Fatal(err)
	}
	signed, err := parseList(der)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
	f.Add([]byte("-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parseLists(text)
		if err != nil {
			return
		}
		for _, list := range all {
			if list.isOf(ca.Certificate) && (string(list.RawTBSRevocationList) != string(signed.RawTBSRevocationList) || !list.revoked["7"]) {
				t.Fatalf("%x passes for a list of the authority", text)
			}
		}
	})
}
