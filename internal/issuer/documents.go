package issuer

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/dpop"
)

// Where the documents stand below the issuer's URL.
const (
	ConfigurationPath = "/.well-known/openid-configuration"
	KeysPath          = "/.well-known/jwks.json"
	ServerPath        = "/.well-known/oauth-authorization-server"
)

// Where the OAuth endpoints stand below the server's URL.
const (
	TokenPath         = "/oauth/token"
	IntrospectionPath = "/oauth/introspect"
	RevocationPath    = "/oauth/revoke"
)

// The grants of the token endpoint: RFC 8693 §2.1, RFC 7523 §2.1, RFC 6749 §4.4.
const (
	GrantExchange          = "urn:ietf:params:oauth:grant-type:token-exchange"
	GrantJWTBearer         = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	GrantClientCredentials = "client_credentials"
)

// Document is one of the documents by which others find our keys and endpoints.
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

// configuration is what we say of ourselves, to relying parties (OpenID Connect Discovery 1.0 §3) and to OAuth clients
// (RFC 8414 §2) alike, so that the two documents cannot differ.
type configuration struct {
	Issuer        string      `json:"issuer"`
	KeysURL       string      `json:"jwks_uri"`
	ResponseTypes []string    `json:"response_types_supported"`
	SubjectTypes  []string    `json:"subject_types_supported"`
	Algorithms    []Algorithm `json:"id_token_signing_alg_values_supported"`
	Claims        []string    `json:"claims_supported"`
	*endpoints
}

// endpoints are the part of the configuration that is for OAuth clients.
type endpoints struct {
	Token            string   `json:"token_endpoint"`
	Introspection    string   `json:"introspection_endpoint"`
	Revocation       string   `json:"revocation_endpoint"`
	Grants           []string `json:"grant_types_supported"`
	TokenAuth        []string `json:"token_endpoint_auth_methods_supported"` // spiffe_jwt: draft-ietf-oauth-spiffe-client-auth
	TokenAlgorithms  []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	RevocationAuth   []string `json:"revocation_endpoint_auth_methods_supported"`
	ProofAlgorithms  []string `json:"dpop_signing_alg_values_supported"`
	Certificates     bool     `json:"tls_client_certificate_bound_access_tokens"`
	AuthorizationFor []string `json:"authorization_details_types_supported"`
}

// endpointsAt are the endpoints of a server.
func endpointsAt(url string) *endpoints {
	if url == "" {
		return nil
	}
	return &endpoints{
		Token: url + TokenPath, Introspection: url + IntrospectionPath, Revocation: url + RevocationPath,
		Grants:           []string{GrantExchange, GrantJWTBearer, GrantClientCredentials},
		TokenAuth:        []string{"none", "private_key_jwt", "spiffe_jwt", "tls_client_auth"},
		TokenAlgorithms:  []string{"RS256", "ES256"},
		RevocationAuth:   []string{"none"},
		ProofAlgorithms:  dpop.Algorithms(),
		Certificates:     true,
		AuthorizationFor: []string{api.DetailsRole},
	}
}

// documents are made once for each look at the shelf.
func documents(url, server string, k *keys, now time.Time) ([]Document, error) {
	about, err := json.MarshalIndent(configuration{
		Issuer:        url,
		KeysURL:       url + KeysPath,
		ResponseTypes: []string{"id_token"},
		SubjectTypes:  []string{"public"},
		Algorithms:    Algorithms(),
		Claims:        Registered(),
		endpoints:     endpointsAt(server),
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	set, err := json.MarshalIndent(k.public(now), "", "  ")
	all := []Document{{ConfigurationPath, about}, {KeysPath, set}}
	if server != "" {
		all = append(all, Document{ServerPath, about})
	}
	return all, err
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
