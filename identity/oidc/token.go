package oidc

import (
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/secret"
)

// maxKeyID bounds `kid`, in bytes: unknown ones are remembered.
const maxKeyID = 256

// header is what a token says about its signature: nobody has vouched for it yet.
type header struct {
	alg jose.SignatureAlgorithm
	kid string
	typ string
}

// parseHeader reads the header of a JWS in compact form (RFC 7515 §7.1), and checks the form of all of it.
func parseHeader(token string) (header, error) {
	segment, _, err := split(token)
	if err != nil {
		return header{}, err
	}
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return header{}, reject(WhyMalformed, "the header is not base64url")
	}
	params, err := parseObject(text)
	if err != nil {
		return header{}, reject(WhyMalformed, "the header is not a JSON object that all readers agree on")
	}
	return readHeader(params)
}

// split returns the first two segments of a token that has three, each of canonical base64url.
func split(token string) (protected, payload string, err error) {
	if len(token) > api.MaxToken {
		return "", "", reject(WhyMalformed, "the token has more than %d bytes", api.MaxToken)
	}
	protected, rest, _ := strings.Cut(token, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	for _, segment := range []string{protected, payload, signature} {
		if !canonical(segment) {
			return "", "", reject(WhyMalformed, "the token is not three segments of base64url")
		}
	}
	return protected, payload, nil
}

// alphabet is that of base64url, in the order of its values.
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// canonical reports whether a segment is the one way to write its bytes. Go's decoder skips line breaks and
// ignores the unused bits of the last character, so that one signature would cover many texts.
func canonical(segment string) bool {
	if segment == "" || strings.ContainsAny(segment, "\r\n.") {
		return false
	}
	last := strings.IndexByte(alphabet, segment[len(segment)-1])
	switch len(segment) % 4 {
	case 0:
		return last >= 0
	case 2:
		return last >= 0 && last&15 == 0
	case 3:
		return last >= 0 && last&3 == 0
	}
	return false
}

// readHeader takes what it knows out of the header. Parameters that bring a key, point at one, or change what
// is signed are refused rather than passed over: whoever sends them hopes that somebody listens.
func readHeader(params map[string]any) (h header, err error) {
	for _, name := range []string{"crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc", "epk", "p2c"} {
		if _, ok := params[name]; ok {
			return header{}, reject(WhyMalformed, "the header parameter %q is not accepted", name)
		}
	}
	if cty, ok := params["cty"]; ok && cty != "json" && cty != "application/json" {
		return header{}, reject(WhyMalformed, "the content is not JSON")
	}
	alg, ok := params["alg"].(string)
	if !ok {
		return header{}, reject(WhyMalformed, "the header names no algorithm")
	}
	h.alg = jose.SignatureAlgorithm(alg)
	if h.kid, ok = params["kid"].(string); !ok || h.kid == "" || len(h.kid) > maxKeyID {
		return header{}, reject(WhyMalformed, "the header names no key, or one of more than %d bytes", maxKeyID)
	}
	if typ, present := params["typ"]; present {
		// Present and empty is not absent: it must not pass as "none".
		if h.typ, ok = typ.(string); !ok || h.typ == "" {
			return header{}, reject(WhyType, "the header's type is not a text")
		}
	}
	return h, nil
}

// open verifies the signature and returns the payload that it covers.
func open(token string, h header, key *key) ([]byte, error) {
	if !key.fits(h.alg) {
		return nil, reject(WhyAlgorithm, "algorithm %s does not fit key %s", quote(string(h.alg)), quote(h.kid))
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{h.alg})
	if err != nil {
		// The library's text is left out here and below: it may quote the token.
		return nil, reject(WhyMalformed, "the token is not a JWS")
	}
	payload, err := jws.Verify(key.public)
	if err != nil {
		return nil, reject(WhySignature, "the signature is not that of key %s", quote(h.kid))
	}
	return payload, nil
}

// ClaimedIssuer returns the `iss` that a token claims. Nobody has vouched for it: it is good for choosing the
// verifier of that issuer, which checks it, and for nothing else. The error is a [Rejection].
func ClaimedIssuer(evidence secret.Text) (string, error) {
	_, segment, err := split(evidence.Reveal())
	if err != nil {
		return "", err
	}
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return "", reject(WhyMalformed, "the payload is not base64url")
	}
	claims, err := parseClaims(text)
	if err != nil {
		return "", err
	}
	issuer, ok := claims["iss"].(string)
	if !ok {
		return "", reject(WhyIssuer, "the token names no issuer")
	}
	return issuer, nil
}
