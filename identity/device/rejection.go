package device

import (
	"fmt"
	"strconv"

	"github.com/daypass/daypass/identity"
)

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

// Rejection says why a token is bad. It is an [identity.ErrRejected].
type Rejection struct {
	Why    Why
	detail string
}

// Error says what is wrong, in words that hold nothing of the token but names.
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
