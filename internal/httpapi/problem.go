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
	"slices"
	"strconv"
	"strings"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/oauth"
	"github.com/daypass/daypass/internal/source"
)

// The kinds that only the edge knows: what is wrong with a request before anybody looks at what it asks.
const (
	methodNotAllowed fault.Kind = "method_not_allowed"
	tooLarge         fault.Kind = "too_large"
	unsupportedMedia fault.Kind = "unsupported_media"
)

// problemKind is how a kind of fault looks from outside.
type problemKind struct {
	status int
	title  string
}

// problemKinds is the one table from kinds to statuses and titles. A title is also the detail of errors that have
// no public text.
func problemKinds() map[fault.Kind]problemKind {
	return map[fault.Kind]problemKind{
		fault.Invalid:           {http.StatusBadRequest, "the request is malformed"},
		fault.Unauthenticated:   {http.StatusUnauthorized, "the evidence is missing or was not accepted"},
		fault.Denied:            {http.StatusForbidden, "denied"},
		fault.NotFound:          {http.StatusNotFound, "there is no such thing, or it is not for you to know"},
		fault.Conflict:          {http.StatusConflict, "the state of the thing does not allow it"},
		fault.TooMany:           {http.StatusTooManyRequests, "too many"},
		fault.TargetUnavailable: {http.StatusServiceUnavailable, "the target is not available"},
		fault.StoreUnavailable:  {http.StatusServiceUnavailable, "the store is not available; nothing was done"},
		fault.IssuerUnavailable: {http.StatusServiceUnavailable, "the token's issuer gave no keys to judge it by"},
		fault.Internal:          {http.StatusInternalServerError, "something went wrong inside; the server's log has it under this request ID"},
		methodNotAllowed:        {http.StatusMethodNotAllowed, "the method is not allowed here"},
		tooLarge:                {http.StatusRequestEntityTooLarge, "the request is too large"},
		unsupportedMedia:        {http.StatusUnsupportedMediaType, "the body is not JSON"},
	}
}

// Codes are the codes of all problems, sorted.
func Codes() (codes []string) {
	for kind := range problemKinds() {
		codes = append(codes, string(kind))
	}
	slices.Sort(codes)
	return codes
}

// problemType is the tag URI of a code.
func problemType(code fault.Kind) string { return "tag:daypass.dev,2026:problem/" + string(code) }

// problemOf is err as its caller may see it.
func problemOf(err error, request string) api.Problem {
	kind := fault.KindOf(err)
	look, known := problemKinds()[kind]
	if !known {
		kind, look = fault.Internal, problemKinds()[fault.Internal]
	}
	p := api.Problem{Type: problemType(kind), Title: look.title, Status: look.status, Instance: request, Code: string(kind)}
	if e, ok := errors.AsType[*fault.Error](err); ok {
		p.Detail = e.Public
		if kind == fault.Unauthenticated && !strings.Contains(p.Detail, "RFC ") {
			p.Detail = cmp.Or(p.Detail, look.title) + " (RFC 6750 §3.1)" // what issuers and devices are is ours to say, what a token is not
		}
		p.DecisionID = e.Decision
		p.RetryAfter = int(math.Ceil(e.RetryAfter.Seconds()))
	}
	if wrong, ok := errors.AsType[source.Errors](err); ok {
		p.Errors = mistakes(wrong)
	}
	return p
}

// fail answers with a problem and logs the cause, once. What was merely asked wrongly is for those who look for it:
// nobody without good evidence should fill the log.
func (c *call) fail(err error) {
	p := problemOf(err, c.id)
	level := slog.LevelDebug
	switch kind := fault.Kind(p.Code); {
	case kind == fault.IssuerUnavailable:
		level = slog.LevelWarn // whoever makes up a key's name makes one; that an issuer fails is told by what watches it
	case p.Status >= http.StatusInternalServerError:
		level = slog.LevelError
	case kind == fault.Denied || kind == fault.TooMany || kind == fault.Conflict || kind == fault.Unauthenticated && errors.Unwrap(err) != nil:
		level = slog.LevelInfo // a token that was not accepted has a cause; one that is missing has none
	}
	if !errors.Is(err, context.Canceled) || c.r.Context().Err() == nil {
		c.edge.Log.Log(c.r.Context(), level, refusedLine, "request", c.id, "method", c.r.Method, "path", c.route,
			"code", p.Code, "err", err)
	}
	if p.Status == http.StatusUnauthorized {
		oauth.Challenge(c.w.Header(), err, c.edge.Broker.Nonce())
	}
	c.tellRefused(err)
	c.sendProblem(p)
}

// tellRefused tells where evidence came from that was missing or not accepted. Who is asked to take up a nonce did
// nothing wrong.
func (c *call) tellRefused(err error) {
	if refusal, ok := errors.AsType[*accesstoken.Refusal](err); ok && refusal.Code == accesstoken.UseNonce {
		return
	}
	if c.edge.Refused != nil && fault.KindOf(err) == fault.Unauthenticated {
		c.edge.Refused(sourceIP(c.r, c.edge.TrustedProxies))
	}
}

// sendProblem answers with a problem, and counts it.
func (c *call) sendProblem(p api.Problem) {
	c.edge.Problem(p.Code)
	body, err := json.Marshal(p)
	if err != nil { // texts and numbers: it cannot happen
		body = []byte("{}")
	}
	h := c.w.Header()
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	c.status = p.Status
	if err := c.send(api.MediaProblem, body); err != nil {
		c.edge.Log.Debug("a problem could not be written", "request", c.id, "err", err)
	}
}

// mistakes are errors in access files as the API shows them.
func mistakes(wrong source.Errors) []api.Mistake {
	list := make([]api.Mistake, len(wrong))
	for i, e := range wrong {
		list[i] = api.Mistake{File: e.File, Line: e.Line, Column: e.Column, Message: e.Message, Hint: e.Hint, Excerpt: e.Excerpt}
	}
	return list
}

// refuseMistakes makes errors in access files an error with a kind.
func refuseMistakes(op string, err error) error {
	wrong, ok := errors.AsType[source.Errors](err)
	if !ok || len(wrong) == 0 {
		return err
	}
	public := fmt.Sprintf("%s: %s", wrong[0].Place(), wrong[0].Message)
	if len(wrong) > 1 {
		public = fmt.Sprintf("%d mistakes, the first at %s", len(wrong), public)
	}
	return fault.Wrap(fault.Invalid, op, public, err)
}

func unknownPath() error {
	return fault.New(fault.NotFound, "find the call", "there is no such call (RFC 9110 §15.5.5); /openapi.json lists all")
}

// refuseMethod answers a known path with another method.
func refuseMethod(allowed []string) func(*call) error {
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	slices.Sort(allowed)
	list := strings.Join(allowed, ", ")
	return func(c *call) error {
		c.w.Header().Set("Allow", list)
		return fault.New(methodNotAllowed, "find the call", "this path takes "+list+" (RFC 9110 §15.5.6)")
	}
}

// malformed is the error of a request that cannot be read. It names the rule that was broken: that of an RFC where the
// text has one, else what our own description of the call says.
func malformed(public string) error {
	if !strings.Contains(public, "RFC ") {
		public += " (see the call in /openapi.json)"
	}
	return fault.New(fault.Invalid, "read the request", public)
}
