package mtls

import "github.com/daypass/daypass/identity"

// Why is the kind of a [Rejection]: a closed list, fit for the label of a metric.
type Why string

// Why certificates are rejected.
const (
	WhyMalformed Why = "malformed" // no certificate, too many, or one that nobody understands
	WhyKey       Why = "key"       // too weak
	WhyUse       Why = "use"       // not a client's
	WhyChain     Why = "chain"     // leads to no authority of ours, or not by the rules
	WhyExpired   Why = "expired"   // or not valid yet
	WhySubject   Why = "subject"   // no name of the kind that the issuer's subjects have, or several
	WhyRevoked   Why = "revoked"
)

// Rejection says why a certificate is bad. Its text may quote the certificate, which is no secret.
type Rejection = identity.Rejection[Why]
