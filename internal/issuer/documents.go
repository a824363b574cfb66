package issuer

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Where the documents stand below the issuer's URL.
const (
	ConfigurationPath = "/.well-known/openid-configuration"
	KeysPath          = "/.well-known/jwks.json"
)

// Document is one of the two documents by which others find our keys.
type Document struct {
	Path string // below the issuer's URL
	Body []byte // JSON
}

// Documents returns the configuration and the keys that others verify our tokens by. When the shelf cannot be read,
// they are those of the last look.
func (i *Issuer) Documents(ctx context.Context) ([]Document, error) {
	k, err := i.current(ctx)
	if err != nil {
		if k = i.held.Load(); k == nil {
			return nil, err
		}
	}
	return k.documents, nil
}

// configuration is the discovery document: what OpenID Connect Discovery 1.0 §3 asks of an issuer that only signs.
type configuration struct {
	Issuer        string      `json:"issuer"`
	KeysURL       string      `json:"jwks_uri"`
	ResponseTypes []string    `json:"response_types_supported"`
	SubjectTypes  []string    `json:"subject_types_supported"`
	Algorithms    []Algorithm `json:"id_token_signing_alg_values_supported"`
	Claims        []string    `json:"claims_supported"`
}

// documents are made once for each look at the shelf.
func documents(url string, k *keys, now time.Time) ([]Document, error) {
	about, err := json.MarshalIndent(configuration{
		Issuer:        url,
		KeysURL:       url + KeysPath,
		ResponseTypes: []string{"id_token"},
		SubjectTypes:  []string{"public"},
		Algorithms:    Algorithms(),
		Claims:        Registered(),
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	set, err := json.MarshalIndent(k.public(now), "", "  ")
	return []Document{{ConfigurationPath, about}, {KeysPath, set}}, err
}

// public is the key set: what signs first, then what will, then what did.
func (k *keys) public(now time.Time) jose.JSONWebKeySet {
	ordered := []generation{k.signing(), k.next()}
	retired := slices.Clone(k.generations[:len(k.generations)-2])
	slices.Reverse(retired)
	var set jose.JSONWebKeySet
	for _, g := range append(ordered, retired...) {
		if g.expired(now) {
			continue
		}
		for _, key := range g.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.public, KeyID: key.id, Algorithm: string(key.algorithm), Use: "sig"})
		}
	}
	return set
}
