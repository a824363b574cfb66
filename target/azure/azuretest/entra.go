package azuretest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Entra is what tests change of the token endpoint.
type Entra struct {
	Cut     bool          // the issuer's documents cannot be read
	Unknown bool          // the issuer's keys are other ones than Entra has read
	Blocked bool          // Conditional Access is against everybody
	Lost    string        // a resource that the tenant does not know
	Ahead   time.Duration // of Entra's clock when it looks at our tokens
}

// Change changes the token endpoint.
func (c *Cloud) Change(e Entra) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entra = e
}

// Federate gives an application one federated credential in place of what it has.
func (c *Cloud) Federate(clientID, issuer, subject, forWhom string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.application(clientID).federated = map[string]federation{"one": {issuer: issuer, subject: subject, audiences: []any{forWhom}}}
}

// Dismiss takes the service principal of an application away.
func (c *Cloud) Dismiss(clientID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.principals = slices.DeleteFunc(c.principals, func(o *object) bool { return o.appID == clientID })
}

// refuse is an answer of Entra's, as its reference and public reports quote them.
func refuse(code, format string, args ...any) error {
	status := http.StatusUnauthorized
	if code != "invalid_client" {
		status = http.StatusBadRequest
	}
	return refusal{status, code, fmt.Sprintf(format, args...) + " Trace ID: 00000000-0000-0000-0000-000000000000 Correlation ID: 00000000-0000-0000-0000-000000000000 Timestamp: 2026-01-01 00:00:00Z"}
}

// noTenant is what it says of every other tenant.
func (c *Cloud) noTenant(r *http.Request, _ map[string]any) (answer, error) {
	return answer{}, refuse("invalid_request", "AADSTS90002: Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", r.PathValue("tenant"))
}

// assert is Entra's token endpoint, for client assertions.
func (c *Cloud) assert(r *http.Request, _ map[string]any) (answer, error) {
	if r.PostFormValue("grant_type") != "client_credentials" || r.PostFormValue("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		return answer{}, refuse("unsupported_grant_type", "AADSTS70003: the grant is not one")
	}
	app := c.application(r.PostFormValue("client_id"))
	if app == nil || hide(&app.hidden) {
		return answer{}, refuse("unauthorized_client", "AADSTS700016: Application with identifier '%s' was not found in the directory 'test'.", r.PostFormValue("client_id"))
	}
	id, err := c.admit(r.PostFormValue("client_assertion"), app)
	if err != nil {
		return answer{}, err
	}
	if c.principal(app.appID) == nil {
		return answer{}, refuse("invalid_client", "AADSTS7000229: The client application %s is missing service principal in the tenant %s.", app.appID, c.cfg.Tenant)
	}
	resource, scoped := strings.CutSuffix(r.PostFormValue("scope"), "/.default")
	if !scoped {
		// A client adds scopes of its own.
		resource, _, scoped = strings.Cut(r.PostFormValue("scope"), "/.default ")
	}
	switch {
	case !scoped:
		return answer{}, refuse("invalid_scope", "AADSTS1002012: The provided value for scope is not valid.")
	case c.entra.Lost != "" && resource == c.entra.Lost:
		return answer{}, refuse("invalid_resource", "AADSTS500011: The resource principal named %s was not found in the tenant named test.", resource)
	case c.entra.Blocked:
		return answer{}, refuse("invalid_grant", "AADSTS53003: Access has been blocked by Conditional Access policies.")
	}
	text := "eyJ-stand-in." + rand.Text()
	c.tokens[text] = token{app.appID, resource, id, c.cfg.Now().Add(c.life)}
	return ok(map[string]any{"access_token": text, "token_type": "Bearer", "expires_in": int(c.life.Seconds()), "ext_expires_in": int(c.life.Seconds())})
}

// admit takes an assertion of ours for an application, or says what is against it.
func (c *Cloud) admit(assertion string, app *object) (id string, err error) {
	var claims struct {
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		Audience any    `json:"aud"` // one or several
		Before   int64  `json:"nbf"`
		Expires  int64  `json:"exp"`
	}
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return "", refuse("invalid_client", "AADSTS50027: JWT token is invalid or malformed.")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return "", refuse("invalid_client", "AADSTS50027: JWT token is invalid or malformed.")
	}
	aud, _ := claims.Audience.(string)
	if several, ok := claims.Audience.([]any); ok && len(several) == 1 {
		aud, _ = several[0].(string)
	}
	if err := app.trusts(claims.Issuer, claims.Subject, aud); err != nil {
		return "", err
	}
	now := c.cfg.Now().Add(c.entra.Ahead)
	switch {
	case c.entra.Cut:
		return "", refuse("invalid_request", "AADSTS501661: Request to External OIDC endpoint failed.")
	case now.Unix() > claims.Expires || now.Add(5*time.Minute).Unix() < claims.Before:
		return "", refuse("invalid_client", "AADSTS700024: Client assertion is not within its valid time range. Current time: %s.", now.UTC().Format(time.RFC3339))
	case c.entra.Unknown:
		return "", refuse("invalid_client", "AADSTS7000272: The certificate used to sign the federated credential could not be found in the metadata of identity provider %s.", claims.Issuer)
	}
	_, id, err = c.cfg.Verify(assertion, audience)
	if err != nil {
		return "", refuse("invalid_client", "AADSTS50013: Assertion failed signature validation: %v", err)
	}
	return id, nil
}

// trusts says which part of an assertion no federated credential has, in the order in which Entra looks.
func (o *object) trusts(issuer, subject, forWhom string) error {
	const text = "No matching federated identity record found for presented assertion"
	one := func(fits func(federation) bool) bool {
		for _, f := range o.federated {
			if fits(f) {
				return true
			}
		}
		return false
	}
	switch {
	case len(o.federated) == 0:
		return refuse("invalid_request", "AADSTS70021: %s. Assertion Issuer: '%s'. Assertion Subject: '%s'. Assertion Audience: '%s'.", text, issuer, subject, forWhom)
	case !one(func(f federation) bool { return f.issuer == issuer }):
		return refuse("invalid_client", "AADSTS700211: %s issuer '%s'.", text, issuer)
	case !one(func(f federation) bool { return f.issuer == issuer && strings.EqualFold(f.subject, subject) }):
		return refuse("invalid_client", "AADSTS700213: %s subject '%s'.", text, subject)
	case !one(func(f federation) bool { return f.issuer == issuer && f.subject == subject }):
		return refuse("invalid_client", "AADSTS7002138: %s subject '%s'. The subject matches with case-insensitive comparison, but not with case-sensitive comparison.", text, subject)
	case !one(func(f federation) bool {
		return f.issuer == issuer && f.subject == subject && slices.Contains(f.audiences, any(forWhom))
	}):
		return refuse("invalid_client", "AADSTS700212: %s audience '%s'.", text, forWhom)
	}
	return nil
}
