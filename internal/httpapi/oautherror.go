package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
	invalidRequest   = "invalid_request"               // RFC 6749 §5.2, RFC 8693 §2.2.2
	invalidClient    = "invalid_client"                // RFC 6749 §5.2, RFC 7521 §4.2.1
	invalidGrant     = "invalid_grant"                 // RFC 6749 §5.2, RFC 7521 §4.1.1
	invalidScope     = "invalid_scope"                 // RFC 6749 §5.2
	invalidTarget    = "invalid_target"                // RFC 8693 §2.2.2, RFC 8707 §2
	invalidDetails   = "invalid_authorization_details" // RFC 9396 §5
	unsupportedGrant = "unsupported_grant_type"        // RFC 6749 §5.2
	unavailable      = "temporarily_unavailable"       // RFC 6749 §4.1.2.1
	serverError      = "server_error"                  // RFC 6749 §4.1.2.1
)

// oauthError is a refusal of an OAuth endpoint.
type oauthError struct {
	status   int // 400 unless given; 401 of an invalid client
	code     string
	text     string // for the caller: names the rule, and nothing of what was sent
	decision string
	retry    int    // seconds
	scheme   string // that the client authenticated by, if it did
	unproven bool   // who asks did not show who they are: they are told how, as at any other call
	err      error
}

// Error tells the text and the cause.
func (e *oauthError) Error() string {
	if e.err == nil {
		return e.code + ": " + e.text
	}
	return e.code + ": " + e.err.Error()
}

// Unwrap returns the cause.
func (e *oauthError) Unwrap() error { return e.err }

func badRequest(text string) error { return &oauthError{code: invalidRequest, text: text} }

// refusalCodes are what refusals are called at an endpoint or by a grant.
type refusalCodes struct {
	evidence string // the evidence is not accepted
	denied   string // it is, and the answer is no
}

// asOAuth is an error as OAuth clients understand it.
func (codes refusalCodes) asOAuth(err error) *oauthError {
	if e, ok := errors.AsType[*oauthError](err); ok {
		return e
	}
	e := &oauthError{code: serverError, status: http.StatusInternalServerError, text: problemOf(err, "").Title, err: err}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		e.decision, e.retry = f.Decision, int(math.Ceil(f.RetryAfter.Seconds()))
		if f.Public != "" {
			e.text = f.Public
		}
	}
	if refusal, ok := errors.AsType[*accesstoken.Refusal](err); ok && refusal.Code != accesstoken.InvalidToken {
		e.code, e.status = refusal.Code, http.StatusBadRequest
		return e
	}
	switch fault.KindOf(err) {
	case fault.Unauthenticated:
		e.code, e.status = codes.evidence, http.StatusBadRequest
		if party, ok := errors.AsType[*admission.PartyError](err); ok {
			e.text = fmt.Sprintf("the token of the %s: %s (%s)", party.Party, e.text, codes.rule())
			if party.Party == admission.TheActor {
				e.code = invalidRequest // RFC 8693 §2.2.2
			}
		}
	case fault.Denied:
		e.code, e.status = codes.denied, http.StatusBadRequest
	case fault.Invalid, fault.Conflict, fault.NotFound:
		e.code, e.status = invalidRequest, http.StatusBadRequest
	case fault.TooMany:
		e.code, e.status = unavailable, http.StatusTooManyRequests
	case fault.TargetUnavailable, fault.StoreUnavailable, fault.IssuerUnavailable:
		e.code, e.status = unavailable, http.StatusServiceUnavailable
	}
	return e
}

// rule is where it stands what a token that is not accepted is called.
func (codes refusalCodes) rule() string {
	switch codes.evidence {
	case invalidGrant:
		return "RFC 7521 §4.1.1"
	case invalidClient:
		return "RFC 7521 §4.2.1"
	}
	return "RFC 8693 §2.2.2"
}

// ruleOf is where it stands what a refusal is called.
func ruleOf(code string) string {
	switch code {
	case invalidTarget:
		return "RFC 8693 §2.2.2"
	case invalidDetails:
		return "RFC 9396 §5"
	case accesstoken.InvalidProof:
		return "RFC 9449 §5"
	case accesstoken.UseNonce:
		return "RFC 9449 §8"
	case unavailable, serverError:
		return "RFC 6749 §4.1.2.1"
	}
	return "RFC 6749 §5.2"
}

// inOAuth has an OAuth endpoint say in OAuth's words what refuse says.
func inOAuth(endpoint string, refuse func(*call) error) func(*call) error {
	return func(c *call) error {
		err := refuse(c)
		c.failOAuth(endpoint, &oauthError{status: problemOf(err, "").Status, code: invalidRequest, text: publicOf(err) + " (RFC 6749 §3.2)", err: err})
		return nil
	}
}

// publicOf is what of an error is for its caller.
func publicOf(err error) string {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f.Public
	}
	return ""
}

// failOAuth answers with a refusal, counts it and logs its cause, once.
func (c *call) failOAuth(endpoint string, e *oauthError) {
	if e.status == 0 {
		e.status = http.StatusBadRequest
	}
	if e.code == invalidClient {
		e.status = http.StatusUnauthorized
	}
	c.edge.OAuth(endpoint, e.code)
	c.tellRefused(e)
	level := slog.LevelDebug
	switch {
	case e.status >= http.StatusInternalServerError:
		level = slog.LevelError
	case e.err != nil && e.code != accesstoken.UseNonce:
		level = slog.LevelInfo
	}
	if !errors.Is(e.err, context.Canceled) || c.r.Context().Err() == nil {
		c.edge.Log.Log(c.r.Context(), level, "a request was refused", "request", c.id, "method", c.r.Method, "path", c.route, "code", e.code, "err", e)
	}
	h := c.w.Header()
	switch {
	case e.unproven:
		challenge(h, e.err, c.edge.Broker.Nonce())
	case e.status == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", cmp.Or(e.scheme, accesstoken.SchemeBearer)+` realm="daypass"`)
	}
	if e.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(e.retry))
	}
	text := e.text
	if !strings.Contains(text, "RFC ") {
		text += " (" + ruleOf(e.code) + ")"
	}
	refused := api.OAuthError{Code: e.code, Description: describable(text), DecisionID: e.decision}
	if e.err != nil {
		refused.Kind = problemOf(e.err, "").Code
	}
	body, err := json.Marshal(refused)
	if err != nil { // texts: it cannot happen
		body = []byte("{}")
	}
	c.status = e.status
	if err := c.send("application/json", body); err != nil {
		c.edge.Log.Debug("a refusal could not be written", "request", c.id, "err", err)
	}
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

// challenge says what a caller who was refused should show: RFC 6750 §3, RFC 9449 §7.1.
func challenge(h http.Header, err error, nonce string) {
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
