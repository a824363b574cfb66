package oidc

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/identity"
)

// What a key set may hold. Bigger RSA keys cost more to verify with than they are worth.
const (
	maxKeys    = 100
	minModulus = 2048
	maxModulus = 4096
	minRSAExp  = 65537
)

// useSignature is the `use` of keys for signatures (RFC 7517 §4.2).
const useSignature = "sig"

// key is one public key of an issuer.
type key struct {
	public any                       // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	algs   []jose.SignatureAlgorithm // what it may be used with
}

// fits reports whether the key may verify signatures of alg.
func (k *key) fits(alg jose.SignatureAlgorithm) bool { return slices.Contains(k.algs, alg) }

// parseKeySet reads a JWK Set (RFC 7517 §5). Keys that we cannot or must not use are left out, and named in
// skipped: a set may hold kinds of keys that are not for us. An empty set is valid: the issuer withdrew all.
func parseKeySet(text []byte, use string) (keys map[string]*key, skipped []error, err error) {
	document, err := parseObject(text, 1)
	if err != nil {
		return nil, nil, fmt.Errorf("read the key set: %w", err)
	}
	list, ok := document["keys"].([]any)
	if !ok {
		return nil, nil, errors.New("read the key set: it has no list of keys")
	}
	if len(list) > maxKeys {
		return nil, nil, fmt.Errorf("read the key set: it has more than %d keys", maxKeys)
	}
	keys = map[string]*key{}
	ambiguous := map[string]bool{}
	for i, element := range list {
		id, k, err := parseKey(element, use)
		if known := keys[id]; err == nil && known != nil && !known.equal(k) {
			ambiguous[id] = true
			err = errors.New("another key has the same ID")
		}
		if err != nil {
			skipped = append(skipped, fmt.Errorf("key %d with ID %s: %w", i+1, identity.Quote(id), err))
			continue
		}
		keys[id] = k
	}
	for id := range ambiguous {
		delete(keys, id)
	}
	return keys, skipped, nil
}

// comparableKey is what all public keys of the standard library are.
type comparableKey interface{ Equal(crypto.PublicKey) bool }

// equal reports whether two keys of one ID are the same key, which may be listed twice.
func (k *key) equal(other *key) bool {
	public, ok := k.public.(comparableKey)
	return ok && public.Equal(other.public) && slices.Equal(k.algs, other.algs)
}

// parseKey reads one JWK. The library sees only the members that make up a public key: certificates and
// private parts never reach a parser.
func parseKey(element any, use string) (id string, k *key, err error) {
	jwk, ok := element.(map[string]any)
	if !ok {
		return "", nil, errors.New("not an object")
	}
	id, _ = jwk["kid"].(string)
	if id == "" || len(id) > maxKeyID {
		return "", nil, fmt.Errorf("no ID, or one of more than %d bytes", maxKeyID)
	}
	if err := checkUse(jwk, use); err != nil {
		return id, nil, err
	}
	public := map[string]any{}
	for _, name := range []string{"kty", "crv", "n", "e", "x", "y"} {
		if member, ok := jwk[name]; ok {
			public[name] = member
		}
	}
	text, err := json.Marshal(public)
	if err != nil {
		return id, nil, err
	}
	var parsed jose.JSONWebKey
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&parsed); err != nil {
		return id, nil, errors.New("not a public key that we know")
	}
	algs, err := suits(parsed.Key)
	if err != nil {
		return id, nil, err
	}
	if alg, present := jwk["alg"]; present {
		name, _ := alg.(string)
		if !slices.Contains(algs, jose.SignatureAlgorithm(name)) {
			return id, nil, fmt.Errorf("its algorithm %s does not fit its type", identity.Quote(name))
		}
		algs = []jose.SignatureAlgorithm{jose.SignatureAlgorithm(name)}
	}
	return id, &key{public: parsed.Key, algs: algs}, nil
}

// checkUse refuses keys that are not for verifying, or no longer secret.
func checkUse(jwk map[string]any, want string) error {
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
		if _, ok := jwk[name]; ok {
			return errors.New("it is published with its private or symmetric part")
		}
	}
	if use, ok := jwk["use"]; ok && use != want || !ok && want != useSignature {
		return errors.New("it is not for signatures of tokens")
	}
	if ops, ok := jwk["key_ops"]; ok {
		list, _ := ops.([]any)
		if !slices.Contains(list, any("verify")) {
			return errors.New("it is not for verifying")
		}
	}
	return nil
}

// suits returns the algorithms that a public key may be used with.
func suits(public any) ([]jose.SignatureAlgorithm, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minModulus || bits > maxModulus {
			return nil, fmt.Errorf("an RSA key of %d bits; %d to %d are accepted", bits, minModulus, maxModulus)
		}
		if k.E < minRSAExp || k.E > math.MaxInt32 || k.E&1 == 0 || k.N.Bit(0) == 0 {
			return nil, errors.New("an RSA key with a weak exponent or modulus")
		}
		return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}, nil
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return []jose.SignatureAlgorithm{jose.ES256}, nil
		case 384:
			return []jose.SignatureAlgorithm{jose.ES384}, nil
		case 521:
			return []jose.SignatureAlgorithm{jose.ES512}, nil
		}
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}, nil
	}
	return nil, errors.New("not a public key that we know")
}
