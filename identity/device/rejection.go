package device

import "github.com/daypass/daypass/identity"

// Why is the kind of a [Rejection]: a closed list, fit for the label of a metric.
type Why string

// Why tokens are rejected.
const (
	WhyMalformed Why = "malformed"
	WhyIssuer    Why = "issuer"
	WhyAudience  Why = "audience"
	WhySubject   Why = "subject"
	WhyTime      Why = "time"
	WhyDevice    Why = "device"    // there is none of the name, or it counts no more
	WhyKey       Why = "key"       // another one than the device has
	WhySignature Why = "signature" // not by the device's key
)

// Rejection says why a token is bad. Its text holds nothing of the token but names.
type Rejection = identity.Rejection[Why]
