package aws

import (
	"fmt"
	"strconv"

	"github.com/daypass/daypass/identity"
)

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

// Rejection says why evidence is bad. It is an [identity.ErrRejected].
type Rejection struct {
	Why    Why
	detail string
}

// Error says what is wrong. The text holds no part of the signature and no credential.
func (r *Rejection) Error() string { return r.detail }

// Is makes a rejection an [identity.ErrRejected].
func (r *Rejection) Is(target error) bool { return target == identity.ErrRejected }

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
