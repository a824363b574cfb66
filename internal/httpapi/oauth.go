package httpapi

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/secret"
)

// Types of tokens: RFC 8693 §3.
const (
	typeAccess = "urn:ietf:params:oauth:token-type:access_token"
	typeJWT    = "urn:ietf:params:oauth:token-type:jwt"
	typeID     = "urn:ietf:params:oauth:token-type:id_token"
)

// Types of client assertions: RFC 7523 §2.2, and the draft of SPIFFE client authentication.
const (
	assertionJWT    = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	assertionSPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
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

// grant is one way to ask for a token.
type grant struct {
	read  func(*call, form) (broker.ExchangeRequest, error)
	codes refusalCodes
}

func grants() map[string]grant {
	return map[string]grant{
		issuer.GrantExchange:          {(*call).readExchange, refusalCodes{invalidRequest, invalidRequest}},
		issuer.GrantJWTBearer:         {(*call).readAssertion, refusalCodes{invalidGrant, invalidGrant}},
		issuer.GrantClientCredentials: {(*call).readClient, refusalCodes{invalidClient, "unauthorized_client"}},
	}
}

// token is the token endpoint.
func (c *call) token() error {
	c.offerNonce()
	codes, err := c.exchange()
	if err != nil {
		c.failOAuth("token", codes.asOAuth(err))
	}
	return nil
}

// exchange reads a request, has it served, and answers.
func (c *call) exchange() (refusalCodes, error) {
	codes := refusalCodes{invalidRequest, invalidRequest}
	if err := c.identifyRequest(); err != nil {
		return codes, err
	}
	f, err := c.form()
	if err != nil {
		return codes, err
	}
	if err := c.refuseSecrets(f); err != nil {
		return codes, err
	}
	g, ok := grants()[f.text("grant_type")]
	if !ok {
		if !f.has("grant_type") {
			return codes, badRequest("grant_type is missing (RFC 6749 §4.5)")
		}
		return codes, &oauthError{code: unsupportedGrant, text: "the grant types are token-exchange, jwt-bearer and client_credentials (RFC 6749 §5.2)"}
	}
	codes = g.codes
	wish, err := f.wish(c.edge.URL)
	if err != nil {
		return codes, err
	}
	if wish.Role != "" {
		codes.denied = wish.refusal
	}
	request, err := g.read(c, f)
	if err != nil {
		return codes, err
	}
	if request.Key, err = c.idempotencyKey(); err != nil {
		return codes, err
	}
	request.Role, request.Reason, request.Origin = wish.Role, wish.Reason, c.who.Origin
	if wish.TTL != nil {
		request.TTL = time.Duration(*wish.TTL)
	}
	out, err := c.edge.Broker.Exchange(c.edge.Tracer.Accept(c.r.Context(), c.r.Header.Values("Traceparent")), request)
	if err != nil {
		return codes, err
	}
	return codes, c.giveToken(f.text("requested_token_type"), wish, out)
}

// giveToken answers with what an exchange gave.
func (c *call) giveToken(wanted string, w wish, out broker.Exchanged) error {
	if out.Acquired == nil {
		c.edge.OAuth("token", "ok")
		return c.answer(api.TokenAnswer{AccessToken: out.Text.Reveal(), IssuedType: typeAccess, TokenType: out.Token.Binding.TokenType(),
			ExpiresIn: seconds(out.Token.ExpiresAt.Sub(c.edge.Now()))})
	}
	answer := leaseAnswer(*out.Acquired, c.edge.Guard.View(), c.edge.Now())
	if wanted != "" && wanted != answer.IssuedType {
		c.edge.Broker.Undelivered(c.r.Context(), out.Acquired.Lease.ID)
		return badRequest("the role gives no token of the requested_token_type; its lease has ended (RFC 8693 §2.1)")
	}
	answer.Scope = w.scope
	if w.refusal == invalidDetails {
		answer.Details = []api.RoleDetails{w.RoleDetails}
	}
	c.edge.OAuth("token", "ok")
	return c.deliver(*out.Acquired, answer, http.StatusOK)
}

func seconds(d time.Duration) int64 { return int64(max(d, 0) / time.Second) }

// identifyRequest notes where the request comes from, and what shows that its sender holds a key. A page of another site
// has no part in that: browsers show a client certificate whoever makes them ask.
func (c *call) identifyRequest() error {
	if http.NewCrossOriginProtection().Check(c.r) != nil {
		return fault.New(fault.Denied, "read the Origin header", "a page of another site asks for this in a browser; that is not served")
	}
	c.who.Origin = admission.Origin{Request: c.id, SourceIP: sourceIP(c.r, c.edge.TrustedProxies)}
	proof, err := proofOf(c.r.Header)
	if err != nil {
		return err
	}
	c.who.Evidence.Proof, c.who.Evidence.Method, c.who.Evidence.URL = proof, c.r.Method, c.edge.URL+c.r.URL.EscapedPath()
	// A proxy's certificate is the proxy's: it says nothing of whoever it speaks for, and would make all of them one.
	if hop, ok := parseHop(c.r.RemoteAddr); c.r.TLS != nil && ok && !isTrusted(hop, c.edge.TrustedProxies) {
		c.who.Evidence.Chain = c.r.TLS.PeerCertificates
	}
	return nil
}

// proofOf returns the one DPoP header, or none.
func proofOf(h http.Header) (string, error) {
	values := h.Values(dpop.Header)
	if len(values) > 1 {
		return "", fault.Wrap(fault.Unauthenticated, "read the DPoP header", "",
			&accesstoken.Refusal{Code: accesstoken.InvalidProof, Text: "there is more than one DPoP header (RFC 9449 §4.3)"})
	}
	return h.Get(dpop.Header), nil
}

// refuseSecrets refuses clients that authenticate by what they have to keep: there are none.
func (c *call) refuseSecrets(f form) error {
	text := "clients here have no secrets: they show tokens that their platform gives them (RFC 7523 §2.2)"
	if scheme, _, ok := strings.Cut(c.r.Header.Get("Authorization"), " "); ok || c.r.Header.Get("Authorization") != "" {
		if !strings.EqualFold(scheme, "Basic") {
			scheme = accesstoken.SchemeBearer
		}
		return &oauthError{code: invalidClient, text: text, scheme: scheme}
	}
	if f.has("client_secret") {
		return &oauthError{code: invalidClient, text: text}
	}
	return nil
}

// readExchange reads a token exchange: RFC 8693 §2.1.
func (c *call) readExchange(f form) (request broker.ExchangeRequest, err error) {
	if f.has("client_assertion") {
		return request, badRequest("client_assertion goes with grant_type=client_credentials: of a token exchange the tokens say who asks")
	}
	request.Parties.Subject = c.who.Evidence
	if request.Parties.Subject.Token, err = f.typedToken("subject_token"); err != nil {
		return request, err
	}
	if f.has("actor_token") || f.has("actor_token_type") {
		if request.Parties.Actor, err = f.typedToken("actor_token"); err != nil {
			return request, err
		}
	}
	wanted := f.text("requested_token_type")
	if wanted != "" && !slices.Contains([]string{typeAccess, typeJWT, api.TokenLease}, wanted) {
		return request, badRequest("tokens are issued of the types access_token, jwt and " + api.TokenLease + " (RFC 8693 §2.1)")
	}
	if wish, err := f.wish(c.edge.URL); err == nil && wish.Role == "" && wanted != "" && wanted != typeAccess {
		return request, badRequest("without a role the token is of type access_token (RFC 8693 §2.1)")
	}
	return request, nil
}

// typedToken reads a token that comes with its type.
func (f form) typedToken(name string) (secret.Text, error) {
	text, err := f.token(name)
	if err != nil {
		return text, err
	}
	if !slices.Contains([]string{typeJWT, typeID, typeAccess, api.TokenEvidence}, f.text(name+"_type")) {
		return text, badRequest(name + "_type is one of jwt, id_token and access_token (RFC 8693 §3), or " + api.TokenEvidence)
	}
	return text, nil
}

// readAssertion reads an assertion as grant: RFC 7523 §2.1.
func (c *call) readAssertion(f form) (request broker.ExchangeRequest, err error) {
	request.Parties.Subject = c.who.Evidence
	request.Parties.Subject.Token, err = f.token("assertion")
	return request, err
}

// readClient reads a client that authenticates itself, by an assertion or by its certificate.
func (c *call) readClient(f form) (request broker.ExchangeRequest, err error) {
	request.Parties.Subject, request.Parties.Client = c.who.Evidence, f.text("client_id")
	if !f.has("client_assertion") && !f.has("client_assertion_type") {
		if len(request.Parties.Subject.Chain) == 0 {
			return request, &oauthError{code: invalidClient, text: "send a client_assertion (RFC 7523 §2.2), or come with a client certificate that an issuer here accepts (RFC 8705 §2)"}
		}
		return request, nil
	}
	switch f.text("client_assertion_type") {
	case assertionJWT:
	case assertionSPIFFE:
		request.Parties.Prefix = "spiffe://"
	default:
		return request, &oauthError{code: invalidClient, text: "client_assertion_type is jwt-bearer (RFC 7523 §2.2) or jwt-spiffe"}
	}
	request.Parties.Subject.Token, err = f.token("client_assertion")
	return request, err
}

// introspect is the introspection endpoint. Its caller shows who they are as at any other call.
func (c *call) introspect() error {
	err := c.meet()
	var f form
	if err == nil {
		f, err = c.form()
	}
	var token secret.Text
	if err == nil {
		token, err = f.token("token")
	}
	var found broker.Introspection
	if err == nil {
		found, err = c.edge.Broker.Introspect(c.r.Context(), c.who, token)
	}
	if err != nil {
		e := refusalCodes{invalidClient, invalidClient}.asOAuth(err)
		if e.code == invalidClient || e.code == accesstoken.UseNonce || e.code == accesstoken.InvalidProof {
			e.status, e.unproven = http.StatusUnauthorized, true
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
	var f form
	if err == nil {
		f, err = c.form()
	}
	var token secret.Text
	if err == nil {
		token, err = f.token("token")
	}
	if err == nil {
		err = c.edge.Broker.RevokeToken(c.r.Context(), c.who.Origin, token)
	}
	if err != nil {
		c.failOAuth("revoke", refusalCodes{invalidRequest, invalidRequest}.asOAuth(err))
		return nil
	}
	c.edge.OAuth("revoke", "ok")
	return c.answer(struct{}{})
}
