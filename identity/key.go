package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
)

const (
	minModulus = 2048
	maxModulus = 8192 // checking signatures of larger keys costs more than it is worth
)

// Strong reports whether the key of a certificate is one that verifiers rely on: RSA of 2048 to 8192 bits, a curve of 256
// bits at least, or Ed25519.
func Strong(public any) bool {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= minModulus && k.N.BitLen() <= maxModulus
	case *ecdsa.PublicKey:
		return k.Curve.Params().BitSize >= 256
	case ed25519.PublicKey:
		return true
	}
	return false
}
