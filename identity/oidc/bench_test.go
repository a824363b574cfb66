package oidc_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"

	"github.com/daypass/daypass/secret"
)

// BenchmarkVerify compares a whole verification of a token like GitHub's with its bare signature check.
func BenchmarkVerify(b *testing.B) {
	for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
		w := newWorld(b, algorithm)
		token := w.github()
		if _, err := w.verify(token); err != nil {
			b.Fatal(err)
		}
		b.Run(algorithm+"/signature only", func(b *testing.B) {
			check := bare(w.issuer.Key().Signer.Public(), token)
			for b.Loop() {
				if !check() {
					b.Fatal("refused")
				}
			}
		})
		b.Run(algorithm+"/whole", func(b *testing.B) {
			for b.Loop() {
				if _, err := w.verify(token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// bare returns the check that no verifier can do without: decode the signature, hash, verify.
func bare(public any, token secret.Text) func() bool {
	text := token.Reveal()
	dot := strings.LastIndexByte(text, '.')
	return func() bool {
		signature, _ := base64.RawURLEncoding.DecodeString(text[dot+1:])
		digest := sha256.Sum256([]byte(text[:dot]))
		switch key := public.(type) {
		case *rsa.PublicKey:
			return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
		case *ecdsa.PublicKey:
			return ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
		case ed25519.PublicKey:
			return ed25519.Verify(key, []byte(text[:dot]), signature)
		}
		return false
	}
}
