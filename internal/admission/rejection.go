package admission

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/daypass/daypass/internal/accesstoken"
)

// rules are the reasons by which evidence that is not accepted is counted, each with the rule that was broken, where it
// is one for whoever asks to know.
func rules() map[string]string {
	return map[string]string{
		"malformed": "it is not evidence as its kind has it (RFC 7519 §7.2, RFC 5280 §4.1)",
		"algorithm": "its algorithm is not taken here (RFC 8725 §3.1)",
		"type":      "its type is that of another kind of token (RFC 8725 §3.11)",
		"key":       "its key is not one that counts (RFC 7515 §6, RFC 5280 §6)",
		"signature": "its signature is not good (RFC 7515 §5.2)",
		"issuer":    "nobody here knows its issuer (RFC 7519 §4.1.1)",
		"audience":  "it is not for this server alone (RFC 7519 §4.1.3)",
		"subject":   "its subject is none that is taken here (RFC 7519 §4.1.2, RFC 5280 §4.2.1.6)",
		"expired":   "it has expired, or is not good yet (RFC 7519 §4.1.4, RFC 5280 §4.1.2.5)",
		"early":     "it is not good yet (RFC 7519 §4.1.5 and §4.1.6)",
		"time":      "it is not good at this time (RFC 7519 §4.1.4 to §4.1.6)",
		"age":       "it is too old, or lives too long (RFC 7519 §4.1.6, RFC 8725 §3.10)",
		"chain":     "it leads to no authority that is trusted here (RFC 5280 §6)",
		"use":       "it is not for clients (RFC 5280 §4.2.1.12)",
		"revoked":   "it was revoked (RFC 5280 §6.3, RFC 7009)",
		"device":    "its device is not enrolled",
		"account":   "its account is none of those that are named here",
		"review":    "its cluster does not take it, or it is not as a cluster writes it",
		"endpoint":  "it is for another endpoint",
		"request":   "it is another request than the one that is taken",
		// Those that tell by themselves what is wrong.
		"access-token": "", "actor": "", "client": "", "lease-token": "", "proof": "", "token-id": "", "used": "", "other": "",
	}
}

// newRejected returns the count of evidence that was not accepted, which begins at zero for each reason.
func newRejected() *prometheus.CounterVec {
	rejected := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "daypass_evidence_rejected_total", Help: "Evidence that was not accepted, by reason: a word of a closed list."}, []string{"reason"})
	for reason := range rules() {
		rejected.WithLabelValues(reason)
	}
	return rejected
}

// reject counts evidence that was not accepted.
func (g *Guard) reject(reason string) { g.rejected.WithLabelValues(reason).Inc() }

// notAccepted counts what a verifier rejected, and is what its caller may know of it.
func (g *Guard) notAccepted(what string, err error) string {
	reason := "other"
	if why, ok := errors.AsType[interface {
		error
		Reason() string
	}](err); ok {
		reason = why.Reason()
	}
	rule, known := rules()[reason]
	if !known {
		reason = "other"
	}
	g.reject(reason)
	if rule != "" {
		rule = ": " + rule
	}
	return fmt.Sprintf("the %s was not accepted%s; the server's log has more under this request ID", what, rule)
}

// reasonOf is the reason of a token or proof of possession that was refused.
func reasonOf(refusal *accesstoken.Refusal) string {
	if refusal.Code == accesstoken.InvalidToken {
		return "access-token"
	}
	return "proof"
}
