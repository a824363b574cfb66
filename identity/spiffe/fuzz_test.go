package spiffe

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/internal/testissuer"
)

func FuzzBundle(f *testing.F) {
	domain := spiffeid.RequireTrustDomainFromString("example.org")
	bundle := spiffebundle.New(domain)
	bundle.SetRefreshHint(time.Minute)
	bundle.SetSequenceNumber(7)
	bundle.AddX509Authority(identitytest.NewAuthority(f, "ca", time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)).Certificate)
	for _, algorithm := range []string{"RS256", "ES256"} {
		key, err := testissuer.NewKey(algorithm, algorithm)
		if err != nil {
			f.Fatal(err)
		}
		if err := bundle.AddJWTAuthority(key.ID, key.Signer.Public()); err != nil {
			f.Fatal(err)
		}
	}
	text, err := bundle.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"keys":[],"spiffe_refresh_hint":-9223372036854775808}`))
	f.Add([]byte(`{"keys":[{"use":"jwt-svid","kty":"oct","k":"AA","kid":"a"},{"use":"x509-svid","kty":"RSA","n":"AQAB","e":"AQAB","x5c":[]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		parsed, err := parse(domain, text)
		if err != nil {
			return
		}
		for _, c := range parsed.X509Authorities() {
			if _, err := x509.ParseCertificate(c.Raw); err != nil {
				t.Fatalf("%q gives an authority that is none", text)
			}
		}
		if set, err := readFile(func() ([]byte, error) { return text, nil }, domain); err != nil || set.MaxAge != 0 {
			t.Fatal(set, err)
		}
	})
}

func FuzzID(f *testing.F) {
	v := &Verifier{domain: spiffeid.RequireTrustDomainFromString("example.org")}
	f.Add("spiffe://example.org/a/b")
	f.Add("spiffe://example.org/a/../b")
	f.Add("spiffe://example.org.evil/a")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := v.member(text)
		if err != nil {
			return
		}
		rest, ok := strings.CutPrefix(text, "spiffe://example.org/")
		if !ok || rest == "" || strings.ContainsFunc(rest, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`%?#\:@`, r) }) ||
			strings.Contains("/"+rest+"/", "/../") || strings.Contains("/"+rest, "//") {
			t.Fatalf("%q passes for %s", text, id)
		}
		if claims := v.claims(text); claims["spiffe_id"] != text || claims["path"] != "/"+rest {
			t.Fatalf("%q gives %v", text, claims)
		}
	})
}
