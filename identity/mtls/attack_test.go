package mtls_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/identitytest"
)

// ring is authorities of one name, each signed by the next and the last one by the first, so that no way through them ends.
func ring(t *testing.T, n int, now time.Time, change func(*x509.Certificate)) (all []identitytest.Authority) {
	t.Helper()
	keys := make([]*ecdsa.PrivateKey, n)
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	for i, key := range keys {
		signer := identitytest.NewAuthority(t, "one of many", now)
		template := *signer.Certificate
		template.SerialNumber, template.SubjectKeyId, template.AuthorityKeyId, template.ExtraExtensions = nil, nil, nil, nil
		if change != nil {
			change(&template)
		}
		parent := *signer.Certificate
		parent.PublicKey = keys[(i+1)%n].Public()
		by := identitytest.Authority{Certificate: &parent, Key: keys[(i+1)%n]}
		all = append(all, identitytest.Authority{Certificate: by.Issue(t, &template, key.Public()), Key: key})
	}
	return all
}

// A client chooses the certificates that it sends along: such that the search for a way is long, or each step of it.
func TestAChainThatIsMadeToBeSearchedForLongIsRefusedSoon(t *testing.T) {
	w := newWorld(t)
	many := func(format string) (names []string) {
		for i := range 2000 {
			names = append(names, fmt.Sprintf(format, i))
		}
		return names
	}
	plain := ring(t, 9, w.Now(), nil)
	narrow := ring(t, 4, w.Now(), func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.ExcludedDNSDomains = many("p%d.invalid"), many("x%d.invalid")
	})
	for name, c := range map[string]struct {
		by     []identitytest.Authority
		change func(*x509.Certificate)
	}{
		"authorities that sign each other in a ring":   {plain, nil},
		"very many names under very many restrictions": {narrow, func(c *x509.Certificate) { c.DNSNames = many("a.b.c.d.p%d.invalid") }},
	} {
		chain := []*x509.Certificate{w.leaf(t, c.by[0], c.change)}
		for _, one := range c.by {
			chain = append(chain, one.Certificate)
		}
		begun := time.Now()
		if _, err := w.verify(chain...); !errors.Is(err, identity.ErrRejected) {
			t.Errorf("%s: %v", name, err)
		}
		took := time.Since(begun)
		if took > 10*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
	// They hide no way that there is.
	chain := []*x509.Certificate{w.leaf(t, w.ca, nil)}
	for _, one := range plain {
		chain = append(chain, one.Certificate)
	}
	if _, err := w.verify(chain...); err != nil {
		t.Errorf("a good leaf among others' authorities: %v", err)
	}
}
