package oidc

import (
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/identity"
)

// maxKeyID bounds `kid`, in bytes: unknown ones are remembered.
const maxKeyID = 256

// parts are the segments of a JWS in compact form (RFC 7515 §7.1), as they came.
type parts struct{ protected, payload, signature string }

// header is what a token says about its signature: nobody has vouched for it yet.
type header struct {
	alg jose.SignatureAlgorithm
	kid string
	typ string

	segment string                // the bytes it was read from
	jws     jose.JSONWebSignature // a JWS with this header, and neither payload nor signature
}

// parseHeader reads the header. Tokens of one key have one header, so that the caller can keep the result.
func parseHeader(segment string) (*header, error) {
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return nil, identity.Reject(WhyMalformed, "the header is not base64url")
	}
	params, err := parseObject(text, 4)
	if err != nil {
		return nil, identity.Reject(WhyMalformed, "the header is not a JSON object that all readers agree on")
	}
	h, err := readHeader(params)
	if err != nil {
		return nil, err
	}
	h.segment = strings.Clone(segment) // else all of the token would live as long
	return h, nil
}

// prepare makes the library read the header, for signatures of its algorithm alone.
func (h *header) prepare() error {
	const nothing = ".AA.AA"
	jws, err := jose.ParseSignedCompact(h.segment+nothing, []jose.SignatureAlgorithm{h.alg})
	if err != nil || len(jws.Signatures) != 1 {
		// The library's text is left out here and below: it may quote the token.
		return identity.Reject(WhyMalformed, "the token is not a JWS")
	}
	h.jws = *jws
	return nil
}

// split takes a token apart that has three segments, each of canonical base64url.
func split(token string) (p parts, err error) {
	if len(token) > api.MaxToken {
		return p, identity.Reject(WhyMalformed, "the token has more than %d bytes", api.MaxToken)
	}
	var rest string
	p.protected, rest, _ = strings.Cut(token, ".")
	p.payload, p.signature, _ = strings.Cut(rest, ".")
	if !canonical(p.protected) || !canonical(p.payload) || !canonical(p.signature) {
		return p, identity.Reject(WhyMalformed, "the token is not three segments of base64url")
	}
	return p, nil
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
func readHeader(params map[string]any) (*header, error) {
	h := &header{}
	for _, name := range []string{"crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc", "epk", "p2c"} {
		if _, ok := params[name]; ok {
			return nil, identity.Reject(WhyMalformed, "the header parameter %q is not accepted", name)
		}
	}
	if cty, ok := params["cty"]; ok && cty != "json" && cty != "application/json" {
		return nil, identity.Reject(WhyMalformed, "the content is not JSON")
	}
	alg, ok := params["alg"].(string)
	if !ok {
		return nil, identity.Reject(WhyMalformed, "the header names no algorithm")
	}
	h.alg = jose.SignatureAlgorithm(alg)
	if h.kid, ok = params["kid"].(string); !ok || h.kid == "" || len(h.kid) > maxKeyID {
		return nil, identity.Reject(WhyMalformed, "the header names no key, or one of more than %d bytes", maxKeyID)
	}
	if typ, present := params["typ"]; present {
		// Present and empty is not absent: it must not pass as "none".
		if h.typ, ok = typ.(string); !ok || h.typ == "" {
			return nil, identity.Reject(WhyType, "the header's type is not a text")
		}
	}
	return h, nil
}

// open verifies the signature and returns the payload that it covers.
func open(p parts, h *header, key *key) ([]byte, error) {
	if !key.fits(h.alg) {
		return nil, identity.Reject(WhyAlgorithm, "algorithm %s does not fit key %s", identity.Quote(string(h.alg)), identity.Quote(h.kid))
	}
	payload, err := base64.RawURLEncoding.DecodeString(p.payload)
	if err != nil {
		return nil, identity.Reject(WhyMalformed, "the payload is not base64url")
	}
	signature := h.jws.Signatures[0]
	if signature.Signature, err = base64.RawURLEncoding.DecodeString(p.signature); err != nil {
		return nil, identity.Reject(WhyMalformed, "the signature is not base64url")
	}
	jws := jose.JSONWebSignature{Signatures: []jose.Signature{signature}}
	if err := jws.DetachedVerify(payload, key.public); err != nil {
		return nil, identity.Reject(WhySignature, "the signature is not that of key %s", identity.Quote(h.kid))
	}
	return payload, nil
}
