package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
)

// Prover proves that it holds its key. It may be used concurrently.
type Prover struct {
	signer     jose.Signer
	thumbprint string
}

// NewProver makes a key that lives as long as the process.
func NewProver() (*Prover, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for proofs: %w", err)
	}
	return NewProverOf(key)
}

// NewProverOf returns a prover with a key that lives longer, such as a device's: one of P-256 or Ed25519.
func NewProverOf(key crypto.Signer) (*Prover, error) {
	algorithm := jose.ES256
	switch k := key.(type) {
	case ed25519.PrivateKey:
		algorithm = jose.EdDSA
	case *ecdsa.PrivateKey:
		if k.Curve != elliptic.P256() {
			return nil, errors.New("make a signer of proofs: the key is not of P-256")
		}
	default:
		return nil, fmt.Errorf("make a signer of proofs: keys of type %T cannot", key)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{EmbedJWK: true}).WithType(typ))
	if err != nil {
		return nil, fmt.Errorf("make a signer of proofs: %w", err)
	}
	thumbprint, err := thumbprintOf(jose.JSONWebKey{Key: key.Public()})
	return &Prover{signer, thumbprint}, err
}

// Thumbprint is what tokens that are bound to the key carry as `cnf.jkt` (RFC 7638, SHA-256).
func (p *Prover) Thumbprint() string { return p.thumbprint }

// Prove makes a proof for one request. Nonce is the last one that the server gave, empty before the first.
func (p *Prover) Prove(r Request, nonce string, now time.Time) (string, error) {
	where, err := plainURL(r.URL)
	if err != nil {
		return "", fmt.Errorf("prove a request to %q: %w", r.URL, err)
	}
	payload, err := json.Marshal(claims{
		ID: rand.Text(), Method: r.Method, URL: where, IssuedAt: now.Unix(), Nonce: nonce, Token: tokenHash(r.Token),
	})
	if err != nil {
		return "", fmt.Errorf("encode a proof: %w", err)
	}
	signed, err := p.signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign a proof: %w", err)
	}
	return signed.CompactSerialize()
}

func thumbprintOf(key jose.JSONWebKey) (string, error) {
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("hash a public key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}
