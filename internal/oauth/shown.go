package oauth

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/secret"
)

// Authorization returns the token of the one Authorization header and its scheme, or none.
func Authorization(h http.Header) (token secret.Text, scheme string, err error) {
	const op = "read the Authorization header"
	values := h.Values("Authorization")
	if len(values) == 0 {
		return token, "", nil
	}
	if len(values) > 1 {
		return token, "", fault.New(fault.Unauthenticated, op, "there is more than one Authorization header (RFC 9110 §5.3, RFC 6750 §2)")
	}
	given, text, ok := strings.Cut(values[0], " ")
	switch {
	case ok && strings.EqualFold(given, accesstoken.SchemeBearer):
		scheme = accesstoken.SchemeBearer
	case ok && strings.EqualFold(given, accesstoken.SchemeDPoP):
		scheme = accesstoken.SchemeDPoP
	default:
		return token, "", fault.New(fault.Unauthenticated, op, "send the token as Authorization: Bearer (RFC 6750 §2.1)")
	}
	if len(text) > api.MaxToken {
		return token, "", fault.New(fault.Unauthenticated, op, fmt.Sprintf("the token has more than %d bytes (RFC 6750 §3.1)", api.MaxToken))
	}
	if text == "" || !isToken(text) {
		return token, "", fault.New(fault.Unauthenticated, op, "the token is empty or has characters that no token has (RFC 6750 §2.1)")
	}
	return secret.New(text), scheme, nil
}

// isToken reports whether all characters of a text are of RFC 6750's b64token.
func isToken(text string) bool {
	for _, c := range []byte(text) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("-._~+/=", c) < 0:
			return false
		}
	}
	return true
}

// Proof returns the one DPoP header, or none.
func Proof(h http.Header) (string, error) {
	values := h.Values(dpop.Header)
	if len(values) > 1 {
		return "", fault.Wrap(fault.Unauthenticated, "read the DPoP header", "",
			&accesstoken.Refusal{Code: accesstoken.InvalidProof, Text: "there is more than one DPoP header (RFC 9449 §4.3)"})
	}
	return h.Get(dpop.Header), nil
}
