package spiffe

import "github.com/daypass/daypass/identity"

// Why is the kind of a [Rejection]: a closed list, fit for the label of a metric.
type Why string

// Why X509-SVIDs are rejected.
const (
	WhyMalformed Why = "malformed" // no certificate, or too many
	WhyKey       Why = "key"       // too weak
	WhyUse       Why = "use"       // not a client's
	WhyChain     Why = "chain"     // leads to no authority of the trust domain, or not by the rules
	WhyExpired   Why = "expired"   // or not valid yet
	WhySubject   Why = "subject"   // no SPIFFE ID, several, or one of another trust domain
)

// Rejection says why a certificate is bad. Its text may quote the certificate, which is no secret.
type Rejection = identity.Rejection[Why]
