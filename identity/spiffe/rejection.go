package spiffe

import (
	"fmt"

	"github.com/daypass/daypass/identity"
)

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

// Rejection says why a certificate is bad. It is an [identity.ErrRejected].
type Rejection struct {
	Why    Why
	detail string
}

// Error says what is wrong. The text may quote the certificate, which is no secret.
func (r *Rejection) Error() string { return r.detail }

// Is makes a rejection an [identity.ErrRejected].
func (r *Rejection) Is(target error) bool { return target == identity.ErrRejected }

func reject(why Why, format string, args ...any) error {
	return &Rejection{Why: why, detail: fmt.Sprintf(format, args...)}
}
