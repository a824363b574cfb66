package verifier

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/identity/mtls"
	"github.com/daypass/daypass/internal/kind"
)

// Two issuers may share an authority, and one of them may have no revocation list: whoever was revoked at the other would
// walk in there.
func TestACertificateThatOneIssuerCallsRevokedIsGoodAtNone(t *testing.T) {
	now := time.Now()
	ca := identitytest.NewAuthority(t, "machines", now)
	good, bad := machine(t, ca, "press-7"), machine(t, ca, "press-8")
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: bad.SerialNumber, RevocationTime: now}},
	}, ca.Certificate, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	issuer := func(name string, lists func() ([]byte, error)) *used {
		v, err := mtls.New(mtls.Config{
			Name: name, Subject: "cn", Revocations: lists, Now: func() time.Time { return now },
			CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate.Raw}),
		})
		if err != nil {
			t.Fatal(err)
		}
		return &used{OpenIssuer: kind.OpenIssuer{Certificates: v}, name: name}
	}
	plain := issuer("plain", nil)
	listed := issuer("listed", func() ([]byte, error) { return list, nil })
	broken := issuer("broken", func() ([]byte, error) { return nil, errors.New("the disk is gone") })
	for name, order := range map[string][]*used{"with the list first": {listed, plain}, "with the list last": {plain, listed}} {
		r := &router{measure: func() func(string, error) { return func(string, error) {} }, certified: order}
		if p, err := r.VerifyCertificate(t.Context(), []*x509.Certificate{good}); err != nil || p.Issuer != order[0].name {
			t.Errorf("%s: a good one is of %q: %v", name, p.Issuer, err)
		}
		p, err := r.VerifyCertificate(t.Context(), []*x509.Certificate{bad})
		if !errors.Is(err, identity.ErrRejected) || p.Subject != "" {
			t.Errorf("%s: a revoked one is %q of %q: %v", name, p.Subject, p.Issuer, err)
		}
		if rejection, ok := errors.AsType[*mtls.Rejection](err); !ok || rejection.Why != mtls.WhyRevoked {
			t.Errorf("%s: the reason is %v", name, err)
		}
	}
	for name, order := range map[string][]*used{"who cannot tell first": {broken, plain}, "who cannot tell last": {plain, broken}} {
		r := &router{measure: func() func(string, error) { return func(string, error) {} }, certified: order}
		if _, err := r.VerifyCertificate(t.Context(), []*x509.Certificate{good}); err == nil || errors.Is(err, identity.ErrRejected) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func machine(t *testing.T, ca identitytest.Authority, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ca.Issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key.Public())
}
