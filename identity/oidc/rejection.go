package oidc

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/daypass/daypass/identity"
)

// Why is the kind of a [Rejection]: a closed list, fit for the label of a metric.
type Why string

// Why tokens are rejected.
const (
	WhyMalformed Why = "malformed" // not a token, or one that two parsers could read differently
	WhyAlgorithm Why = "algorithm" // `alg` is not allowed, or does not fit the key
	WhyType      Why = "type"      // `typ` is not allowed, or the claims are those of another kind of token
	WhyKey       Why = "key"       // the issuer does not publish the key
	WhySignature Why = "signature"
	WhyIssuer    Why = "issuer"
	WhyAudience  Why = "audience"
	WhySubject   Why = "subject"
	WhyExpired   Why = "expired"
	WhyEarly     Why = "early" // not valid yet, or signed in the future
	WhyAge       Why = "age"   // signed too long ago, or meant to live too long
)

// Rejection says why a token is bad. It is an [identity.ErrRejected].
type Rejection struct {
	Why    Why
	detail string
}

// Error says what is wrong. The text may quote the token's header and, once the signature is verified, its
// claims, but holds no piece from which a token could be made.
func (r *Rejection) Error() string { return r.detail }

// Is makes a rejection an [identity.ErrRejected].
func (r *Rejection) Is(target error) bool { return target == identity.ErrRejected }

// ErrUnknownKey says that the issuer's key set, as we have it, lacks the token's key, and that it is too soon
// to ask again. The token may be good: try again after [Config.Floor].
var ErrUnknownKey = errors.New("the key is not known and the issuer was asked a moment ago")

// reject returns a Rejection.
func reject(why Why, format string, args ...any) error {
	return &Rejection{Why: why, detail: fmt.Sprintf(format, args...)}
}

// quote makes a stranger's text fit for an error: printable and short.
func quote(text string) string {
	const most = 100
	if len(text) > most {
		return strconv.QuoteToASCII(text[:most]) + "…"
	}
	return strconv.QuoteToASCII(text)
}
