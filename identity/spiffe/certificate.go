package spiffe

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/daypass/daypass/identity"
)

// maxChain is how many certificates a client may send.
const maxChain = 10

func (v *Verifier) certificate(ctx context.Context, sent []*x509.Certificate) (identity.Principal, error) {
	if len(sent) == 0 || len(sent) > maxChain {
		return identity.Principal{}, identity.Reject(WhyMalformed, "there is no certificate, or more than %d", maxChain)
	}
	for _, c := range sent {
		if !identity.Strong(c.PublicKey) {
			return identity.Principal{}, identity.Reject(WhyKey, "the key of %s is too weak, too large or of an unknown kind", identity.Quote(c.Subject.String()))
		}
	}
	leaf := sent[0]
	if err := checkLeaf(leaf); err != nil {
		return identity.Principal{}, err
	}
	// Before the bundle is asked for: a certificate of another trust domain is none of ours whatever it says.
	subject := leaf.URIs[0].String()
	if _, err := v.member(subject); err != nil {
		return identity.Principal{}, identity.Reject(WhySubject, "%v", err)
	}
	bundle, err := v.bundle(ctx)
	if err != nil {
		return identity.Principal{}, err
	}
	id, chains, err := x509svid.Verify(sent, bundle, x509svid.WithTime(v.cfg.Now()))
	if err != nil {
		return identity.Principal{}, explain(err)
	}
	if id.String() != subject || !slices.ContainsFunc(chains, forClients) {
		return identity.Principal{}, identity.Reject(WhyUse, "an authority of the chain is not for clients")
	}
	claims := v.claims(subject)
	print := sha256.Sum256(leaf.Raw)
	claims["serial"], claims["fingerprint"] = leaf.SerialNumber.Text(16), hex.EncodeToString(print[:])
	return identity.Principal{
		Issuer: v.cfg.Name, IssuerURL: v.domain.IDString(), Subject: subject, Claims: claims,
		IssuedAt: leaf.NotBefore, ExpiresAt: leaf.NotAfter,
	}, nil
}

// checkLeaf holds a leaf to [X509-SVID, 4]: exactly one URI, no authority, a key for signatures, and for clients where
// it says what it is for.
func checkLeaf(leaf *x509.Certificate) error {
	switch {
	case len(leaf.URIs) != 1:
		return identity.Reject(WhySubject, "it has %d URIs among its names; an X509-SVID has exactly one", len(leaf.URIs))
	case leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return identity.Reject(WhyUse, "it is the certificate of an authority")
	case leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return identity.Reject(WhyUse, "its key is not for signatures")
	case !usableByClients(leaf):
		return identity.Reject(WhyUse, "it is not for clients: its extended key usage lacks clientAuth")
	}
	return nil
}

// forClients reports whether no certificate of a chain but its root is for something else than clients. The library
// asks for no use at all.
func forClients(chain []*x509.Certificate) bool {
	return !slices.ContainsFunc(chain[:len(chain)-1], func(c *x509.Certificate) bool { return !usableByClients(c) })
}

func usableByClients(c *x509.Certificate) bool {
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 || slices.ContainsFunc(c.ExtKeyUsage, func(use x509.ExtKeyUsage) bool {
		return use == x509.ExtKeyUsageClientAuth || use == x509.ExtKeyUsageAny
	})
}

// explain turns what the library says of a chain into a rejection.
func explain(err error) error {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return identity.Reject(WhyExpired, "the certificate of %s is good from %s to %s",
			identity.Quote(invalid.Cert.Subject.String()), utc(invalid.Cert.NotBefore), utc(invalid.Cert.NotAfter))
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return identity.Reject(WhyChain, "it leads to no authority of the trust domain's bundle")
	}
	return identity.Reject(WhyChain, "the chain is not valid (RFC 5280 §6)")
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }
