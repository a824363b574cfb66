package mtls

import (
	"crypto/x509"
	"errors"
	"time"

	"github.com/daypass/daypass/identity"
)

// maxChain is how many certificates a client may send.
const maxChain = 10

// chains returns the ways from a leaf to an authority of ours; at least one.
func (v *Verifier) chains(sent []*x509.Certificate, now time.Time) ([][]*x509.Certificate, error) {
	if len(sent) == 0 {
		return nil, identity.Reject(WhyMalformed, "there is no certificate")
	}
	if len(sent) > maxChain {
		return nil, identity.Reject(WhyMalformed, "the chain has more than %d certificates", maxChain)
	}
	for _, c := range sent {
		if !identity.Strong(c.PublicKey) {
			return nil, identity.Reject(WhyKey, "the key of %s is too weak, too large or of an unknown kind", identity.Quote(c.Subject.String()))
		}
	}
	leaf := sent[0]
	if err := checkLeaf(leaf); err != nil {
		return nil, err
	}
	between := x509.NewCertPool()
	for _, c := range sent[1:] {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: v.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, explain(leaf, err)
	}
	return chains, nil
}

// checkLeaf holds a leaf to RFC 5280 §4.2.1: it is no authority, and it says that it is for clients. A certificate
// that says nothing of its use was not made for this.
func checkLeaf(leaf *x509.Certificate) error {
	clients := false
	for _, use := range leaf.ExtKeyUsage {
		clients = clients || use == x509.ExtKeyUsageClientAuth
	}
	switch {
	case leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return identity.Reject(WhyUse, "it is the certificate of an authority")
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return identity.Reject(WhyUse, "its key is not for signatures")
	case !clients:
		return identity.Reject(WhyUse, "it is not for clients: its extended key usage lacks clientAuth")
	}
	return nil
}

// explain turns what the library says into a rejection: each of its errors is about the certificates alone.
func explain(leaf *x509.Certificate, err error) error {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch invalid.Reason {
		case x509.Expired:
			return identity.Reject(WhyExpired, "%s", times(invalid.Cert))
		case x509.TooManyIntermediates:
			return identity.Reject(WhyChain, "an authority of the chain may not have so many below it")
		case x509.IncompatibleUsage:
			return identity.Reject(WhyUse, "an authority of the chain is not for clients")
		case x509.CANotAuthorizedForThisName:
			return identity.Reject(WhyChain, "an authority of the chain may not give it its names")
		}
		return identity.Reject(WhyChain, "the chain is not valid (RFC 5280 §6): reason %d", invalid.Reason)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return identity.Reject(WhyChain, "it is signed by %s, which leads to no authority of this issuer", identity.Quote(leaf.Issuer.String()))
	}
	if _, ok := errors.AsType[x509.UnhandledCriticalExtension](err); ok {
		return identity.Reject(WhyMalformed, "a certificate of the chain has a critical extension that is not known")
	}
	return identity.Reject(WhyChain, "the chain is not valid (RFC 5280 §6)")
}

func times(c *x509.Certificate) string {
	return "the certificate of " + identity.Quote(c.Subject.String()) + " is good from " + utc(c.NotBefore) + " to " + utc(c.NotAfter)
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }
