package mtls

import (
	"fmt"
	"strconv"

	"github.com/daypass/daypass/identity"
)

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

// show makes a stranger's text fit for an error: printable and short.
func show(text string) string {
	const most = 100
	if len(text) > most {
		return strconv.QuoteToASCII(text[:most]) + "…"
	}
	return strconv.QuoteToASCII(text)
}
