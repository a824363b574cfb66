package testissuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // crypto.Hash.New finds its functions by import
	_ "crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// Key signs tokens. Its fields do not change.
type Key struct {
	ID        string
	Algorithm string
	Signer    crypto.Signer
	hidden    bool // held by the issuer's lock
}

// NewKey makes a key for an algorithm of RFC 7518 or RFC 8037.
func NewKey(id, algorithm string) (*Key, error) {
	key := &Key{ID: id, Algorithm: algorithm}
	var err error
	switch algorithm {
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		key.Signer, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		key.Signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		key.Signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		key.Signer, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, key.Signer, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, fmt.Errorf("testissuer: algorithm %q is not known", algorithm)
	}
	return key, err
}

// Sign returns a token of this header and payload, byte for byte, whatever they say.
func (k *Key) Sign(header, payload []byte) string {
	return Compact(header, payload, k.Signature(signingInput(header, payload)))
}

func signingInput(header, payload []byte) []byte {
	b64 := base64.RawURLEncoding
	return []byte(b64.EncodeToString(header) + "." + b64.EncodeToString(payload))
}

// Signature signs the input of a JWS (RFC 7515 §5.1) the way the key's algorithm says.
func (k *Key) Signature(input []byte) []byte {
	hash := crypto.Hash(0)
	switch {
	case strings.HasSuffix(k.Algorithm, "256"):
		hash = crypto.SHA256
	case strings.HasSuffix(k.Algorithm, "384"):
		hash = crypto.SHA384
	case strings.HasSuffix(k.Algorithm, "512"):
		hash = crypto.SHA512
	}
	digest := input
	if hash != 0 {
		h := hash.New()
		h.Write(input)
		digest = h.Sum(nil)
	}
	signature, err := k.sign(digest, hash)
	if err != nil {
		panic(err) // a key that cannot sign is a bug of the test
	}
	return signature
}

func (k *Key) sign(digest []byte, hash crypto.Hash) ([]byte, error) {
	if strings.HasPrefix(k.Algorithm, "PS") {
		return k.Signer.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash})
	}
	ec, ok := k.Signer.(*ecdsa.PrivateKey)
	if !ok {
		return k.Signer.Sign(rand.Reader, digest, hash)
	}
	r, s, err := ecdsa.Sign(rand.Reader, ec, digest)
	if err != nil {
		return nil, err
	}
	size := (ec.Params().BitSize + 7) / 8
	signature := make([]byte, 2*size)
	r.FillBytes(signature[:size])
	s.FillBytes(signature[size:])
	return signature, nil
}

// selfSigned returns a certificate for loopback that is its own authority.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	// Fixed dates: the certificate must be good under the real clock, whatever clock the issuer has.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotBefore:   time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:    time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
