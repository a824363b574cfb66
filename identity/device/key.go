package device

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"fmt"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/identity"
)

// signedBy refuses a token that the key did not sign, or not by the one algorithm that goes with the key.
func (t *token) signedBy(jwk []byte) error {
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(jwk); err != nil {
		return fmt.Errorf("read the key of a device: %w", err)
	}
	algorithm, err := algorithmOf(key.Key)
	if err != nil {
		return fmt.Errorf("read the key of a device: %w", err)
	}
	if t.algorithm != string(algorithm) {
		return identity.Reject(WhyKey, "algorithm %s does not go with the key", identity.Quote(t.algorithm))
	}
	// The library's text is left out: it may quote the token.
	jws, err := jose.ParseSignedCompact(t.text, []jose.SignatureAlgorithm{algorithm})
	if err != nil || len(jws.Signatures) != 1 {
		return identity.Reject(WhyMalformed, "it is not a signed token")
	}
	if _, err := jws.Verify(key.Key); err != nil {
		return identity.Reject(WhySignature, "the signature is not that of the device's key")
	}
	return nil
}

func algorithmOf(key any) (jose.SignatureAlgorithm, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return jose.ES256, nil
		}
	case ed25519.PublicKey:
		return jose.EdDSA, nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits >= 2048 && bits <= 4096 {
			return jose.RS256, nil
		}
	}
	return "", fmt.Errorf("keys of devices are of P-256, Ed25519, or RSA with 2,048 to 4,096 bits, not %T", key)
}

// CheckKey refuses a public key (JWK) that no device of ours may have, and returns its thumbprint.
func CheckKey(jwk []byte) (thumbprint string, err error) {
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(jwk); err != nil || !key.Valid() || !key.IsPublic() {
		return "", identity.Reject(WhyKey, "it is no public key")
	}
	if _, err := algorithmOf(key.Key); err != nil {
		return "", identity.Reject(WhyKey, "%v", err)
	}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("hash a public key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}
