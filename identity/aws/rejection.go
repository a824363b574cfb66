package aws

import "github.com/daypass/daypass/identity"

// Why is the kind of a [Rejection]: a closed list, fit for the label of a metric.
type Why string

// Why evidence is rejected.
const (
	WhyMalformed Why = "malformed" // not evidence of this kind
	WhyEndpoint  Why = "endpoint"  // not for STS, or for STS of another partition
	WhyRequest   Why = "request"   // another request, or not all of it is signed
	WhyAudience  Why = "audience"  // signed for another server
	WhyExpired   Why = "expired"
	WhyEarly     Why = "early"     // signed in the future
	WhySignature Why = "signature" // STS does not know the signature or the credentials
	WhyAccount   Why = "account"   // of an account that is not ours
	WhySubject   Why = "subject"   // a caller that we have no name for
)

// Rejection says why evidence is bad. Its text holds no part of the signature and no credential.
type Rejection = identity.Rejection[Why]
