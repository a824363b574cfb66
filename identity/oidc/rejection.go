package oidc

import (
	"errors"

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

// Rejection says why a token is bad. Its text may quote the token's header and, once the signature is verified, its
// claims, but holds no piece from which a token could be made.
type Rejection = identity.Rejection[Why]

// ErrUnknownKey says that the issuer's key set, as we have it, lacks the token's key, and that it is too soon
// to ask again. The token may be good: try again after [Config.Floor].
var ErrUnknownKey = errors.New("the key is not known and the issuer was asked a moment ago")
