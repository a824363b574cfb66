package oauth

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
)

// The codes of refusals, with where they are defined.
const (
	InvalidRequest   = "invalid_request"               // RFC 6749 §5.2, RFC 8693 §2.2.2
	InvalidClient    = "invalid_client"                // RFC 6749 §5.2, RFC 7521 §4.2.1
	InvalidGrant     = "invalid_grant"                 // RFC 6749 §5.2, RFC 7521 §4.1.1
	InvalidScope     = "invalid_scope"                 // RFC 6749 §5.2
	InvalidTarget    = "invalid_target"                // RFC 8693 §2.2.2, RFC 8707 §2
	InvalidDetails   = "invalid_authorization_details" // RFC 9396 §5
	UnsupportedGrant = "unsupported_grant_type"        // RFC 6749 §5.2
	Unavailable      = "temporarily_unavailable"       // RFC 6749 §4.1.2.1
	ServerError      = "server_error"                  // RFC 6749 §4.1.2.1
)

// Refusal is a refusal of an OAuth endpoint.
type Refusal struct {
	Status   int // 400 unless given; 401 of an invalid client
	Code     string
	Text     string // for the caller: names the rule, and nothing of what was sent
	Decision string
	Retry    int    // seconds
	Scheme   string // that the client authenticated by, if it did
	Unproven bool   // who asks did not show who they are: they are told how, as at any other call
	Err      error
}

// Error tells the text and the cause.
func (e *Refusal) Error() string {
	if e.Err == nil {
		return e.Code + ": " + e.Text
	}
	return e.Code + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Refusal) Unwrap() error { return e.Err }

func bad(text string) error { return &Refusal{Code: InvalidRequest, Text: text} }

// Codes are what refusals are called at an endpoint or by a grant.
type Codes struct {
	Evidence string // the evidence is not accepted
	Denied   string // it is, and the answer is no
}

// Of is an error as OAuth clients understand it, with a text for those that have none for them.
func (codes Codes) Of(err error, otherwise string) *Refusal {
	if e, ok := errors.AsType[*Refusal](err); ok {
		return e
	}
	e := &Refusal{Code: ServerError, Status: http.StatusInternalServerError, Text: otherwise, Err: err}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		e.Decision, e.Retry = f.Decision, int(math.Ceil(f.RetryAfter.Seconds()))
		if f.Public != "" {
			e.Text = f.Public
		}
	}
	if refusal, ok := errors.AsType[*accesstoken.Refusal](err); ok && refusal.Code != accesstoken.InvalidToken {
		e.Code, e.Status = refusal.Code, http.StatusBadRequest
		return e
	}
	switch fault.KindOf(err) {
	case fault.Unauthenticated:
		e.Code, e.Status = codes.Evidence, http.StatusBadRequest
		if party, ok := errors.AsType[*admission.PartyError](err); ok {
			e.Text = cite(fmt.Sprintf("the token of the %s: %s", party.Party, e.Text), codes.rule())
			if party.Party == admission.TheActor {
				e.Code = InvalidRequest // RFC 8693 §2.2.2
			}
		}
	case fault.Denied:
		e.Code, e.Status = codes.Denied, http.StatusBadRequest
	case fault.Invalid, fault.Conflict, fault.NotFound:
		e.Code, e.Status = InvalidRequest, http.StatusBadRequest
	case fault.TooMany:
		e.Code, e.Status = Unavailable, http.StatusTooManyRequests
	case fault.TargetUnavailable, fault.StoreUnavailable, fault.IssuerUnavailable:
		e.Code, e.Status = Unavailable, http.StatusServiceUnavailable
	}
	return e
}

// rule is where it stands what a token that is not accepted is called.
func (codes Codes) rule() string {
	switch codes.Evidence {
	case InvalidGrant:
		return "RFC 7521 §4.1.1"
	case InvalidClient:
		return "RFC 7521 §4.2.1"
	}
	return "RFC 8693 §2.2.2"
}

// cite adds a rule to a text, once.
func cite(text, rule string) string {
	if strings.Contains(text+" ", rule+" ") || strings.Contains(text, rule+")") || strings.Contains(text, rule+",") {
		return text
	}
	return text + " (" + rule + ")"
}

// ruleOf is where it stands what a refusal is called.
func ruleOf(code string) string {
	switch code {
	case InvalidTarget:
		return "RFC 8693 §2.2.2"
	case InvalidDetails:
		return "RFC 9396 §5"
	case accesstoken.InvalidProof:
		return "RFC 9449 §5"
	case accesstoken.UseNonce:
		return "RFC 9449 §8"
	case Unavailable, ServerError:
		return "RFC 6749 §4.1.2.1"
	}
	return "RFC 6749 §5.2"
}

// HTTPStatus is the status of its answer: 400 and 401 where it does not say another.
func (e *Refusal) HTTPStatus() int {
	if e.Code == InvalidClient {
		return http.StatusUnauthorized
	}
	return cmp.Or(e.Status, http.StatusBadRequest)
}

// Head writes the headers of its answer. The nonce is for the next proof; empty where proofs need none.
func (e *Refusal) Head(h http.Header, nonce string) {
	switch {
	case e.Unproven:
		Challenge(h, e.Err, nonce)
	case e.HTTPStatus() == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", cmp.Or(e.Scheme, accesstoken.SchemeBearer)+` realm="daypass"`)
	}
	if e.Retry > 0 {
		h.Set("Retry-After", strconv.Itoa(e.Retry))
	}
}

// Body is the body of its answer. It names the rule that was broken.
func (e *Refusal) Body() api.OAuthError {
	text := e.Text
	if !strings.Contains(text, "RFC ") {
		text = cite(text, ruleOf(e.Code))
	}
	return api.OAuthError{Code: e.Code, Description: describable(text), DecisionID: e.Decision}
}

// describable keeps to the characters of error_description: RFC 6749 §5.2.
func describable(text string) string {
	text = strings.NewReplacer("§", "section ", `"`, "'", `\`, "/").Replace(text)
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

// Challenge says what a caller who was refused should show: RFC 6750 §3, RFC 9449 §7.1.
func Challenge(h http.Header, err error, nonce string) {
	refusal, ok := errors.AsType[*accesstoken.Refusal](err)
	algorithms := `algs="` + strings.Join(dpop.Algorithms(), " ") + `"`
	if !ok {
		h.Add("WWW-Authenticate", `Bearer realm="daypass"`)
		if nonce != "" {
			h.Add("WWW-Authenticate", `DPoP realm="daypass", `+algorithms)
		}
		return
	}
	h.Set("WWW-Authenticate", fmt.Sprintf(`DPoP realm="daypass", error=%q, error_description="%s", %s`, refusal.Code, describable(refusal.Text), algorithms))
	if nonce != "" {
		h.Set(dpop.HeaderNonce, nonce)
	}
}
