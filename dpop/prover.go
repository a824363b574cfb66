package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
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
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{EmbedJWK: true}).WithType(typ))
	if err != nil {
		return nil, fmt.Errorf("make a signer of proofs: %w", err)
	}
	thumbprint, err := thumbprintOf(jose.JSONWebKey{Key: &key.PublicKey})
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
