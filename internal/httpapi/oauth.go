package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/oauth"
	"github.com/daypass/daypass/secret"
)

// oauthEndpoints are the paths whose refusals are OAuth's, with what they are counted as.
func oauthEndpoints() map[string]string {
	return map[string]string{issuer.TokenPath: "token", issuer.IntrospectionPath: "introspect", issuer.RevocationPath: "revoke"}
}

func oauthRoutes() []route {
	role := parameter{"scope", "role:<name> for a lease of that role; without a role the answer is an access token"}
	token := route{method: http.MethodPost, path: issuer.TokenPath, id: "token", open: true, status: []int{http.StatusOK}, out: reflect.TypeFor[api.TokenAnswer](),
		summary: "Exchange evidence for an access token that is bound to a key, or for a lease (RFC 8693, 7523, 6749, 9449, 8705)",
		header: []parameter{{dpop.Header, "proof of the key that the token is to be bound to"},
			{"Idempotency-Key", "with a role: as of POST /v1/leases"}},
		form: []parameter{{"grant_type", "token exchange, JWT bearer or client_credentials, by the URIs of issuer metadata"},
			{"subject_token", "evidence, of token exchange"}, {"subject_token_type", "jwt, id_token, access_token, or " + api.TokenEvidence},
			{"actor_token", "evidence of who acts for the subject, whose token names it in may_act"}, {"actor_token_type", "as of the subject"},
			{"requested_token_type", "the type that the answer must have"}, {"assertion", "evidence, of the JWT bearer grant"},
			{"client_assertion", "evidence, of client_credentials; a client certificate does too"}, {"client_assertion_type", "jwt-bearer or jwt-spiffe"},
			{"client_id", "of client_credentials: the subject, or the principal"}, role,
			{"resource", "<url>/roles/<name>"}, {"audience", "as resource, or as scope"},
			{"authorization_details", `[{"type":"daypass_role","role":"…","ttl":"15m","reason":"…"}]`}},
		serve: (*call).token}
	one := []parameter{{"token", "an access token or a lease token of this server"}, {"token_type_hint", "not needed"}}
	return []route{
		token,
		{method: http.MethodPost, path: issuer.IntrospectionPath, id: "introspect", summary: "Ask what a token is: one's own, or any for administrators (RFC 7662)",
			open: true, status: []int{http.StatusOK}, form: one, out: reflect.TypeFor[api.Introspection](), serve: (*call).introspect},
		{method: http.MethodPost, path: issuer.RevocationPath, id: "revoke", summary: "End an access token, or the lease of a lease token (RFC 7009)",
			open: true, status: []int{http.StatusOK}, form: one, serve: (*call).revoke},
	}
}

// token is the token endpoint.
func (c *call) token() error {
	c.offerNonce()
	codes, err := c.exchange()
	if err != nil {
		c.refuseOAuth("token", codes, err)
	}
	return nil
}

// exchange reads a request, has it served, and answers. It returns what refusals of it are called.
func (c *call) exchange() (oauth.Codes, error) {
	codes := malformedRequest()
	if err := c.identifyRequest(); err != nil {
		return codes, err
	}
	f, err := oauth.ReadForm(c.w, c.r)
	if err != nil {
		return codes, err
	}
	asked, err := oauth.Read(f, c.r.Header, c.who.Evidence, c.edge.URL)
	if err != nil {
		return codes, err
	}
	if err := checkReason(asked.Reason); err != nil {
		return codes, &oauth.Refusal{Code: oauth.InvalidDetails, Text: publicOf(err)}
	}
	key, err := c.idempotencyKey()
	if err != nil {
		return codes, err
	}
	out, err := c.edge.Broker.Exchange(c.edge.Tracer.Accept(c.r.Context(), c.r.Header.Values("Traceparent")), broker.ExchangeRequest{
		Parties: asked.Parties, Role: asked.Role, TTL: asked.TTL, Reason: asked.Reason, Key: key, Origin: c.who.Origin})
	if err != nil {
		return asked.Codes, err
	}
	return asked.Codes, c.giveToken(asked, out)
}

// malformedRequest is what refusals are called before it is known what is asked.
func malformedRequest() oauth.Codes {
	return oauth.Codes{Evidence: oauth.InvalidRequest, Denied: oauth.InvalidRequest}
}

// giveToken answers with what an exchange gave.
func (c *call) giveToken(asked oauth.Request, out broker.Exchanged) error {
	if out.Acquired == nil {
		c.edge.OAuth("token", "ok")
		return c.answer(api.TokenAnswer{AccessToken: out.Text.Reveal(), IssuedType: oauth.TypeAccess, TokenType: out.Token.Binding.TokenType(),
			ExpiresIn: seconds(out.Token.ExpiresAt.Sub(c.edge.Now()))})
	}
	answer := leaseAnswer(*out.Acquired, c.edge.Guard.View(), c.edge.Now())
	if asked.Wanted != "" && asked.Wanted != answer.IssuedType {
		c.edge.Broker.Undelivered(c.r.Context(), out.Acquired.Lease.ID)
		return &oauth.Refusal{Code: oauth.InvalidRequest, Text: "the role gives no token of the requested_token_type; its lease has ended (RFC 8693 §2.1)"}
	}
	answer.Scope, answer.Details = asked.Scope, asked.Details
	c.edge.OAuth("token", "ok")
	return c.deliver(*out.Acquired, answer, http.StatusOK)
}

func seconds(d time.Duration) int64 { return int64(max(d, 0) / time.Second) }

// introspect is the introspection endpoint. Its caller shows who they are as at any other call.
func (c *call) introspect() error {
	err := c.meet()
	token, err := c.formToken(err)
	var found broker.Introspection
	if err == nil {
		found, err = c.edge.Broker.Introspect(c.r.Context(), c.who, token)
	}
	if err != nil {
		e := oauth.Codes{Evidence: oauth.InvalidClient, Denied: oauth.InvalidClient}.Of(err, problemOf(err, "").Title)
		if e.Code == oauth.InvalidClient || e.Code == accesstoken.UseNonce || e.Code == accesstoken.InvalidProof {
			e.Status, e.Unproven = http.StatusUnauthorized, true
		}
		c.failOAuth("introspect", e)
		return nil
	}
	c.edge.OAuth("introspect", "ok")
	return c.answer(c.wireIntrospection(found))
}

func (c *call) wireIntrospection(found broker.Introspection) api.Introspection {
	if !found.Active {
		return api.Introspection{}
	}
	if l := found.Lease; l.ID != "" {
		return api.Introspection{Active: true, Issuer: l.IssuerURL, Subject: l.Subject, Client: l.Issuer + ":" + l.Subject, Audience: c.edge.URL, ID: string(l.ID),
			TokenType: "N_A", Scope: api.ScopeRole + l.Role, IssuedAt: l.CreatedAt.Unix(), ExpiresAt: l.ExpiresAt.Unix()}
	}
	t := found.Token
	out := api.Introspection{Active: true, Issuer: c.edge.IssuerURL, Subject: t.Principal.Name(), Client: t.Principal.Name(), Audience: c.edge.URL, ID: t.ID,
		TokenType: t.Binding.TokenType(), IssuedAt: t.IssuedAt.Unix(), ExpiresAt: t.ExpiresAt.Unix()}
	out.Confirm, _ = json.Marshal(t.Binding) // texts cannot fail
	if act, ok := t.Principal.Claims["act"]; ok {
		out.Actor, _ = json.Marshal(act) // it came as JSON
	}
	return out
}

// revoke is the revocation endpoint. Who has a token may end it, so nobody has to say who they are.
func (c *call) revoke() error {
	err := c.identifyRequest()
	token, err := c.formToken(err)
	if err == nil {
		err = c.edge.Broker.RevokeToken(c.r.Context(), c.who.Origin, token)
	}
	if err != nil {
		c.refuseOAuth("revoke", malformedRequest(), err)
		return nil
	}
	c.edge.OAuth("revoke", "ok")
	return c.answer(struct{}{})
}

// formToken reads the one token that a form is about, unless there is an error already.
func (c *call) formToken(before error) (secret.Text, error) {
	if before != nil {
		return secret.Text{}, before
	}
	f, err := oauth.ReadForm(c.w, c.r)
	if err != nil {
		return secret.Text{}, err
	}
	return f.Token("token")
}

// inOAuth has an OAuth endpoint say in OAuth's words what refuse says.
func inOAuth(endpoint string, refuse func(*call) error) func(*call) error {
	return func(c *call) error {
		err := refuse(c)
		c.failOAuth(endpoint, &oauth.Refusal{Status: problemOf(err, "").Status, Code: oauth.InvalidRequest, Text: publicOf(err), Err: err})
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

// refuseOAuth answers with an error as OAuth clients understand it.
func (c *call) refuseOAuth(endpoint string, codes oauth.Codes, err error) {
	c.failOAuth(endpoint, codes.Of(err, problemOf(err, "").Title))
}

// failOAuth answers with a refusal, counts it and logs its cause, once.
func (c *call) failOAuth(endpoint string, e *oauth.Refusal) {
	c.edge.OAuth(endpoint, e.Code)
	c.tellRefused(e)
	c.status = e.HTTPStatus()
	level := slog.LevelDebug
	switch {
	case fault.Is(e.Err, fault.IssuerUnavailable):
		level = slog.LevelWarn // as in fail
	case c.status >= http.StatusInternalServerError:
		level = slog.LevelError
	case e.Err != nil && e.Code != accesstoken.UseNonce:
		level = slog.LevelInfo
	}
	if !errors.Is(e.Err, context.Canceled) || c.r.Context().Err() == nil {
		c.edge.Log.Log(c.r.Context(), level, refusedLine, "request", c.id, "method", c.r.Method, "path", c.route, "code", e.Code, "err", e)
	}
	e.Head(c.w.Header(), c.edge.Broker.Nonce())
	refused := e.Body()
	refused.Request = c.id
	if e.Err != nil {
		refused.Kind = problemOf(e.Err, "").Code
	}
	body, err := json.Marshal(refused)
	if err != nil { // texts: it cannot happen
		body = []byte("{}")
	}
	if err := c.send("application/json", body); err != nil {
		c.edge.Log.Debug("a refusal could not be written", "request", c.id, "err", err)
	}
}
