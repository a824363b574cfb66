package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/dpop"
)

const (
	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	jwtType       = "urn:ietf:params:oauth:token-type:jwt"
)

// holder is a workload with a key of its own.
type holder struct {
	*rig
	*dpop.Prover
	nonce string
}

func (r *rig) holder(t testing.TB) *holder {
	t.Helper()
	p, err := dpop.NewProver()
	if err != nil {
		t.Fatal(err)
	}
	return &holder{rig: r, Prover: p, nonce: r.ask(t, "GET", "/.well-known/oauth-authorization-server", "").header.Get(dpop.HeaderNonce)}
}

// proof is a DPoP header line for a request.
func (h *holder) proof(t testing.TB, method, path, token string) string {
	t.Helper()
	return "DPoP: " + h.prove(t, dpop.Request{Method: method, URL: h.URL() + path, Token: token}, h.nonce)
}

func (h *holder) prove(t testing.TB, r dpop.Request, nonce string) string {
	t.Helper()
	proof, err := h.Prove(r, nonce, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

// post sends a form.
func (r *rig) post(t testing.TB, path string, fields map[string]string, head ...string) answer {
	t.Helper()
	values := url.Values{}
	for name, value := range fields {
		values.Set(name, value)
	}
	return r.ask(t, "POST", path, values.Encode(), append(head, "Content-Type: application/x-www-form-urlencoded")...)
}

// fields are those of a token exchange, with more.
func fields(subject string, more map[string]string) map[string]string {
	all := map[string]string{"grant_type": exchangeGrant, "subject_token": subject, "subject_token_type": jwtType}
	maps.Copy(all, more)
	return all
}

func given(t testing.TB, a answer) api.TokenAnswer {
	t.Helper()
	var out api.TokenAnswer
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != 200 || out.AccessToken == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	return out
}

// access is an access token of a subject, bound to the holder's key.
func (h *holder) access(t testing.TB, subject string) string {
	t.Helper()
	return given(t, h.post(t, "/oauth/token", fields(h.token(subject), nil), h.proof(t, "POST", "/oauth/token", ""))).AccessToken
}

// checkOAuth holds a refusal to what those of OAuth are.
func checkOAuth(t *testing.T, a answer, status int, code string, secrets ...string) {
	t.Helper()
	var e api.OAuthError
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.status != status || e.Code != code || e.Description == "" {
		t.Errorf("%d %s, want %d %s", a.status, a.body, status, code)
	}
	if !strings.Contains(e.Description, "RFC ") {
		t.Errorf("the refusal names no rule: %s", a.body)
	}
	if e.Request == "" || e.Request != a.header.Get(api.HeaderRequest) {
		t.Errorf("the request ID %q is not that of the header", e.Request)
	}
	cited := map[string]bool{}
	for _, rule := range regexp.MustCompile(`RFC \d+ (section [\d.]*\d|appendix \w)`).FindAllString(e.Description, -1) {
		if cited[rule] {
			t.Errorf("%s is cited twice: %s", rule, a.body)
		}
		cited[rule] = true
	}
	for _, r := range e.Description {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			t.Errorf("error_description holds %q", r)
		}
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(a.body, secret) {
			t.Errorf("the refusal echoes what was sent: %s", a.body)
		}
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", a.header)
	}
}

func TestEvidenceIsExchangedOnceForATokenThatIsBoundToAKey(t *testing.T) {
	r := newRig(t, nil)
	h := r.holder(t)
	got := given(t, r.post(t, "/oauth/token", fields(r.token("worker"), nil), h.proof(t, "POST", "/oauth/token", "")))
	if got.TokenType != "DPoP" || got.IssuedType != "urn:ietf:params:oauth:token-type:access_token" || got.ExpiresIn < 290 || got.ExpiresIn > 300 || got.Lease != nil {
		t.Errorf("%+v", got)
	}
	dpopAuth := "Authorization: DPoP " + got.AccessToken
	acquired := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, dpopAuth, h.proof(t, "POST", "/v1/leases", got.AccessToken))
	if acquired.status != 201 {
		t.Fatalf("%d %s\n%s", acquired.status, acquired.body, r.log.String())
	}
	var a api.Acquired
	decode(t, acquired, &a)
	if a.Lease.Principal != "test:worker" {
		t.Errorf("the lease is of %q", a.Lease.Principal)
	}
	path := "/v1/leases/" + a.Lease.ID
	for _, step := range []struct{ method, path, body string }{{"GET", path, ""}, {"GET", "/v1/leases?role=reader", ""}, {"POST", path + "/renew", `{}`}, {"DELETE", path, ""}} {
		plain, _, _ := strings.Cut(step.path, "?")
		if got := r.ask(t, step.method, step.path, step.body, dpopAuth, h.proof(t, step.method, plain, got.AccessToken)); got.status/100 != 2 {
			t.Errorf("%s %s: %d %s", step.method, step.path, got.status, got.body)
		}
	}
}

func TestAStolenAccessTokenIsWorthNothing(t *testing.T) {
	r := newRig(t, nil)
	h, thief := r.holder(t), r.holder(t)
	token := h.access(t, "worker")
	good := h.proof(t, "GET", "/v1/leases", token)
	if got := r.ask(t, "GET", "/v1/leases", "", "Authorization: DPoP "+token, good); got.status != 200 {
		t.Fatalf("the holder: %d %s", got.status, got.body)
	}
	stale := "DPoP: " + h.prove(t, dpop.Request{Method: "GET", URL: r.URL() + "/v1/leases", Token: token}, "")
	for name, c := range map[string]struct {
		head []string
		code string
	}{
		"as a bearer token":             {[]string{bearer(token)}, "invalid_token"},
		"as a bearer token, with proof": {[]string{bearer(token), h.proof(t, "GET", "/v1/leases", token)}, "invalid_token"},
		"without proof":                 {[]string{"Authorization: DPoP " + token}, "invalid_dpop_proof"},
		"with the thief's key":          {[]string{"Authorization: DPoP " + token, thief.proof(t, "GET", "/v1/leases", token)}, "invalid_dpop_proof"},
		"with a proof that was used":    {[]string{"Authorization: DPoP " + token, good}, "invalid_dpop_proof"},
		"with a proof for POST":         {[]string{"Authorization: DPoP " + token, h.proof(t, "POST", "/v1/leases", token)}, "invalid_dpop_proof"},
		"with a proof for another path": {[]string{"Authorization: DPoP " + token, h.proof(t, "GET", "/v1/locks", token)}, "invalid_dpop_proof"},
		"with a proof for no token":     {[]string{"Authorization: DPoP " + token, h.proof(t, "GET", "/v1/leases", "")}, "invalid_dpop_proof"},
		"with two proofs":               {[]string{"Authorization: DPoP " + token, h.proof(t, "GET", "/v1/leases", token), h.proof(t, "GET", "/v1/leases", token)}, "invalid_dpop_proof"},
		"with a proof without nonce":    {[]string{"Authorization: DPoP " + token, stale}, "use_dpop_nonce"},
		"with an end cut off":           {[]string{"Authorization: DPoP " + token[:len(token)-8], h.proof(t, "GET", "/v1/leases", token[:len(token)-8])}, "invalid_token"},
		"evidence under the scheme":     {[]string{"Authorization: DPoP " + r.token("worker"), h.proof(t, "GET", "/v1/leases", "")}, "invalid_token"},
	} {
		got := r.ask(t, "GET", "/v1/leases", "", c.head...)
		checkProblem(t, got, 401, "unauthenticated")
		said := got.header.Get("WWW-Authenticate")
		if !strings.HasPrefix(said, "DPoP ") || !strings.Contains(said, `error="`+c.code+`"`) || !strings.Contains(said, `algs="ES256 `) {
			t.Errorf("%s: WWW-Authenticate: %s", name, said)
		}
		if got.header.Get(dpop.HeaderNonce) == "" || strings.Contains(got.body+said, token[:40]) {
			t.Errorf("%s: no nonce, or the token: %v %s", name, got.header, got.body)
		}
	}
	host := r.askAt(t, r.local, "http://socket", "GET", "/v1/leases", "", "Authorization: DPoP "+token, "Host: evil.example", h.proof(t, "GET", "/v1/leases", token))
	if host.status != 200 {
		t.Errorf("the URL of a request is our own name, whatever the Host header says: %d %s", host.status, host.body)
	}
}

func TestAProofBuysOneAcquisition(t *testing.T) {
	r := newRig(t, nil)
	h := r.holder(t)
	token := h.access(t, "worker")
	proof := h.proof(t, "POST", "/v1/leases", token)
	if got := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, "Authorization: DPoP "+token, proof); got.status != 201 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	checkProblem(t, r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, "Authorization: DPoP "+token, proof), 401, "unauthenticated")
}

func TestTheTokenEndpointGivesLeasesWhereARoleIsNamed(t *testing.T) {
	r := newRig(t, nil)
	for name, how := range map[string]map[string]string{
		"scope":    {"scope": "role:reader"},
		"resource": {"resource": r.URL() + "/roles/reader"},
		"audience": {"audience": "role:reader"},
		"details":  {"authorization_details": `[{"type":"daypass_role","role":"reader","ttl":"2m","reason":"a test"}]`},
		"all":      {"scope": "role:reader", "resource": r.URL() + "/roles/reader", "audience": r.URL()},
	} {
		got := given(t, r.post(t, "/oauth/token", fields(r.token("worker"), how)))
		if got.TokenType != "N_A" || got.IssuedType != api.TokenLease || got.Lease == nil || got.AccessToken != got.LeaseToken || got.Credential.Fields["password"] != canary || got.Receipt == "" {
			t.Errorf("%s: %+v", name, got)
		}
		if name == "details" && (got.ExpiresIn > 120 || len(got.Details) != 1 || got.Details[0].Role != "reader") {
			t.Errorf("details: %+v", got)
		}
		if name == "scope" && got.Scope != "role:reader" {
			t.Errorf("scope %q", got.Scope)
		}
	}
}

func TestTheTokenEndpointSaysWhichRuleWasBroken(t *testing.T) {
	r := newRig(t, nil)
	h := r.holder(t)
	good, stranger := r.token("worker"), r.token("stranger")
	signature := good[strings.LastIndex(good, ".")+1:]
	two := func(name string) string {
		return "grant_type=" + url.QueryEscape(exchangeGrant) + "&" + name + "=a&" + name + "=b"
	}
	for name, c := range map[string]struct {
		fields map[string]string
		head   []string
		status int
		code   string
	}{
		"no grant type":              {map[string]string{"subject_token": good}, nil, 400, "invalid_request"},
		"another grant type":         {map[string]string{"grant_type": "password"}, nil, 400, "unsupported_grant_type"},
		"no subject token":           {map[string]string{"grant_type": exchangeGrant}, nil, 400, "invalid_request"},
		"no type of it":              {fields(good, map[string]string{"subject_token_type": ""}), nil, 400, "invalid_request"},
		"a SAML assertion":           {fields(good, map[string]string{"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}), nil, 400, "invalid_request"},
		"a token of nobody":          {fields("a.b.c", nil), nil, 400, "invalid_request"},
		"a changed token":            {fields(good[:len(good)-4]+"AAAA", nil), nil, 400, "invalid_request"},
		"no key to bind to":          {fields(good, nil), nil, 400, "invalid_dpop_proof"},
		"a proof that is none":       {fields(good, nil), []string{"DPoP: a.b.c"}, 400, "invalid_dpop_proof"},
		"a role that was denied":     {fields(stranger, map[string]string{"scope": "role:reader"}), nil, 400, "invalid_scope"},
		"a role that is not":         {fields(good, map[string]string{"resource": r.URL() + "/roles/none"}), nil, 400, "invalid_target"},
		"another server":             {fields(good, map[string]string{"resource": "https://elsewhere.example"}), nil, 400, "invalid_target"},
		"another audience":           {fields(good, map[string]string{"audience": "https://elsewhere.example"}), nil, 400, "invalid_target"},
		"a scope that is no role":    {fields(good, map[string]string{"scope": "openid"}), nil, 400, "invalid_scope"},
		"two roles":                  {fields(good, map[string]string{"scope": "role:reader role:writer"}), nil, 400, "invalid_scope"},
		"two roles in two ways":      {fields(good, map[string]string{"scope": "role:reader", "audience": "role:writer"}), nil, 400, "invalid_scope"},
		"details of another type":    {fields(good, map[string]string{"authorization_details": `[{"type":"payment","role":"reader"}]`}), nil, 400, "invalid_authorization_details"},
		"details with more":          {fields(good, map[string]string{"authorization_details": `[{"type":"daypass_role","role":"reader","x":1}]`}), nil, 400, "invalid_authorization_details"},
		"details that were denied":   {fields(stranger, map[string]string{"authorization_details": `[{"type":"daypass_role","role":"reader"}]`}), nil, 400, "invalid_authorization_details"},
		"a type we do not issue":     {fields(good, map[string]string{"requested_token_type": "urn:ietf:params:oauth:token-type:saml1"}), nil, 400, "invalid_request"},
		"a type the role has not":    {fields(good, map[string]string{"requested_token_type": jwtType, "scope": "role:reader"}), nil, 400, "invalid_request"},
		"a secret":                   {fields(good, map[string]string{"client_secret": canary}), nil, 401, "invalid_client"},
		"a secret in the header":     {fields(good, nil), []string{"Authorization: Basic dTpw"}, 401, "invalid_client"},
		"a bad assertion":            {map[string]string{"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "a.b.c"}, nil, 400, "invalid_grant"},
		"no assertion":               {map[string]string{"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}, nil, 400, "invalid_request"},
		"a client without assertion": {map[string]string{"grant_type": "client_credentials"}, nil, 401, "invalid_client"},
		"a bad client assertion":     {client("a.b.c", nil), nil, 401, "invalid_client"},
		"another client":             {client(good, map[string]string{"client_id": "boss"}), nil, 401, "invalid_client"},
		"a client that is no SPIFFE": {client(good, map[string]string{"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"}), nil, 401, "invalid_client"},
		"an assertion of no type":    {client(good, map[string]string{"client_assertion_type": "x"}), nil, 401, "invalid_client"},
	} {
		t.Run(name, func(t *testing.T) {
			got := r.post(t, "/oauth/token", c.fields, c.head...)
			checkOAuth(t, got, c.status, c.code, signature, canary)
			if c.status == 401 && got.header.Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
		})
	}
	for name, body := range map[string]string{"a parameter twice": two("subject_token"), "bad escapes": "grant_type=%zz", "bad UTF-8": "grant_type=%ff", "many": strings.Repeat("a=b&", 60)} {
		checkOAuth(t, r.ask(t, "POST", "/oauth/token", body, "Content-Type: application/x-www-form-urlencoded"), 400, "invalid_request")
		t.Log(name)
	}
	checkOAuth(t, r.ask(t, "POST", "/oauth/token", `{}`, "Content-Type: application/json"), 400, "invalid_request")
	checkOAuth(t, r.ask(t, "POST", "/oauth/token?grant_type=x", ``, "Content-Type: application/x-www-form-urlencoded"), 400, "invalid_request")
	checkOAuth(t, r.ask(t, "POST", "/oauth/token", strings.Repeat("a", 70_000), "Content-Type: application/x-www-form-urlencoded"), 413, "invalid_request")

	missing := r.post(t, "/oauth/token", fields(good, nil), "DPoP: "+h.prove(t, dpop.Request{Method: "POST", URL: r.URL() + "/oauth/token"}, ""))
	checkOAuth(t, missing, 400, "use_dpop_nonce")
	h.nonce = missing.header.Get(dpop.HeaderNonce)
	given(t, r.post(t, "/oauth/token", fields(good, nil), h.proof(t, "POST", "/oauth/token", "")))
	if text := r.ask(t, "GET", "/metrics", "").body; !strings.Contains(text, `daypass_oauth_answers_total{endpoint="token",outcome="use_dpop_nonce"} 1`) {
		t.Error("refusals are not counted by reason")
	}
}

// client are the fields of a client that authenticates itself.
func client(assertion string, more map[string]string) map[string]string {
	all := map[string]string{"grant_type": "client_credentials", "client_assertion": assertion,
		"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}
	maps.Copy(all, more)
	return all
}

func TestEveryGrantTakesEvidence(t *testing.T) {
	r := newRig(t, nil)
	h := r.holder(t)
	for name, f := range map[string]map[string]string{
		"token exchange":     fields(r.token("worker"), map[string]string{"requested_token_type": "urn:ietf:params:oauth:token-type:access_token", "audience": r.URL()}),
		"JWT bearer":         {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": r.token("worker")},
		"client credentials": client(r.token("worker"), map[string]string{"client_id": "test:worker"}),
	} {
		if got := given(t, r.post(t, "/oauth/token", f, h.proof(t, "POST", "/oauth/token", ""))); got.TokenType != "DPoP" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// A token that is bound to a key is exchanged by its holder, and by nobody else.
	token := h.access(t, "worker")
	own := fields(token, map[string]string{"subject_token_type": "urn:ietf:params:oauth:token-type:access_token"})
	given(t, r.post(t, "/oauth/token", own, h.proof(t, "POST", "/oauth/token", "")))
	thief := r.holder(t)
	checkOAuth(t, r.post(t, "/oauth/token", own, thief.proof(t, "POST", "/oauth/token", "")), 400, "invalid_dpop_proof", token)
	checkOAuth(t, r.post(t, "/oauth/token", own), 400, "invalid_dpop_proof", token)
	own["scope"] = "role:reader"
	checkOAuth(t, r.post(t, "/oauth/token", own, thief.proof(t, "POST", "/oauth/token", "")), 400, "invalid_dpop_proof", token)
}

func TestAnAccessTokenLivesNoLongerThanItsEvidence(t *testing.T) {
	r := newRig(t, nil)
	h := r.holder(t)
	evidence := func(subject string, life int64) string {
		now := time.Now().Unix()
		return r.issuer.Token(map[string]any{"iss": r.issuer.URL(), "aud": r.URL(), "sub": subject, "iat": now - 60, "exp": now + life,
			"may_act": map[string]any{"iss": r.issuer.URL(), "sub": "deputy"}})
	}
	for name, c := range map[string]struct{ subject, actor, most int64 }{
		"of minutes":                         {subject: 300, most: 300},
		"of hours":                           {subject: 2 * 3600, most: 3600},
		"that is about to expire":            {subject: 3, most: 30},
		"that has expired, by another clock": {subject: -5, most: 30},
		"and an actor's that is shorter":     {subject: 300, actor: 100, most: 100},
		"and an actor's that is longer":      {subject: 100, actor: 300, most: 100},
	} {
		f := fields(evidence("alice", c.subject), nil)
		if c.actor != 0 {
			f["actor_token"], f["actor_token_type"] = evidence("deputy", c.actor), jwtType
		}
		got := given(t, r.post(t, "/oauth/token", f, h.proof(t, "POST", "/oauth/token", "")))
		if got.ExpiresIn > c.most || got.ExpiresIn < c.most-10 {
			t.Errorf("evidence %s: it lives for %d s, want about %d", name, got.ExpiresIn, c.most)
		}
		// A lease is another matter: it is renewed by its handle or by fresh evidence.
		if got := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, "Authorization: DPoP "+got.AccessToken, h.proof(t, "POST", "/v1/leases", got.AccessToken)); got.status != 201 {
			t.Errorf("evidence %s: %d %s", name, got.status, got.body)
		}
	}
}

func TestOnlyTheActorThatASubjectNamesActsForIt(t *testing.T) {
	r := newRig(t, nil)
	h := r.holder(t)
	now := time.Now().Unix()
	subject := func(mayAct any) string {
		return r.issuer.Token(map[string]any{"iss": r.issuer.URL(), "aud": r.URL(), "sub": "alice", "iat": now, "exp": now + 300, "may_act": mayAct,
			"act": map[string]any{"iss": "https://gateway.example", "sub": "gateway"}})
	}
	ask := func(subject, actor string, more map[string]string) answer {
		f := fields(subject, map[string]string{"actor_token": actor, "actor_token_type": jwtType})
		maps.Copy(f, more)
		return r.post(t, "/oauth/token", f, h.proof(t, "POST", "/oauth/token", ""))
	}
	named := subject(map[string]any{"iss": r.issuer.URL(), "sub": "deputy"})
	token := given(t, ask(named, r.token("deputy"), nil)).AccessToken
	got := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, "Authorization: DPoP "+token, h.proof(t, "POST", "/v1/leases", token))
	var a api.Acquired
	decode(t, got, &a)
	if a.Lease.Principal != "test:alice" {
		t.Errorf("the lease is of %q", a.Lease.Principal)
	}
	told := r.post(t, "/oauth/introspect", map[string]string{"token": token}, "Authorization: DPoP "+token, h.proof(t, "POST", "/oauth/introspect", token))
	var about api.Introspection
	decode(t, told, &about)
	if want := `{"act":{"iss":"https://gateway.example","sub":"gateway"},"iss":"` + r.issuer.URL() + `","sub":"deputy"}`; string(about.Actor) != want {
		t.Errorf("act is %s, want %s", about.Actor, want)
	}
	for name, pair := range map[string][2]string{
		"an actor that is not named":      {named, r.token("mallory")},
		"an actor of another issuer":      {subject(map[string]any{"iss": "https://elsewhere.example", "sub": "deputy"}), r.token("deputy")},
		"a name without issuer":           {subject(map[string]any{"sub": "deputy"}), r.token("deputy")},
		"a subject that names nobody":     {r.token("alice"), r.token("deputy")},
		"an actor that cannot be checked": {named, "a.b.c"},
	} {
		checkOAuth(t, ask(pair[0], pair[1], nil), 400, "invalid_request")
		checkOAuth(t, ask(pair[0], pair[1], map[string]string{"scope": "role:reader"}), 400, "invalid_request")
		t.Log(name)
	}
	checkOAuth(t, r.post(t, "/oauth/token", fields(named, map[string]string{"actor_token_type": jwtType}), h.proof(t, "POST", "/oauth/token", "")), 400, "invalid_request")

	// A lock on the actor stops it, whomever it acts for.
	if lock := r.administer(t, "POST", "/v1/locks", `{"match":{"principal":"test:deputy"},"reason":"a test"}`); lock.status/100 != 2 {
		t.Fatal(lock.body)
	}
	checkProblem(t, r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, "Authorization: DPoP "+token, h.proof(t, "POST", "/v1/leases", token)), 403, "denied")
	checkOAuth(t, ask(named, r.token("deputy"), map[string]string{"scope": "role:reader"}), 400, "invalid_scope")
	given(t, r.post(t, "/oauth/token", fields(named, map[string]string{"scope": "role:reader"})))
}

func TestTokensAreIntrospectedByWhoHoldsThemAndRevokedByWhoHasThem(t *testing.T) {
	r := newRig(t, nil)
	h := r.holder(t)
	token := h.access(t, "worker")
	lease := r.acquire(t, "worker")
	told := func(token string, head ...string) (out api.Introspection) {
		got := r.post(t, "/oauth/introspect", map[string]string{"token": token}, head...)
		decode(t, got, &out)
		return out
	}
	worker, other, boss := bearer(r.token("worker")), bearer(r.token("other")), bearer(r.token("boss"))
	for _, who := range []string{worker, boss} {
		got := told(token, who)
		if !got.Active || got.Subject != "test:worker" || got.TokenType != "DPoP" || string(got.Confirm) != `{"jkt":"`+h.Thumbprint()+`"}` || got.ID == "" {
			t.Errorf("%+v", got)
		}
		if got := told(lease.LeaseToken, who); !got.Active || got.Scope != "role:reader" || got.Subject != "worker" {
			t.Errorf("%+v", got)
		}
	}
	for _, text := range []string{token, lease.LeaseToken, "dpl_nothing", "a.b.c", r.token("worker")} {
		if got := r.post(t, "/oauth/introspect", map[string]string{"token": text}, other); got.status != 200 || got.body != `{"active":false}` {
			t.Errorf("a stranger learns: %s", got.body)
		}
		checkOAuth(t, r.post(t, "/oauth/introspect", map[string]string{"token": text}), 401, "invalid_client", text)
	}
	for _, text := range []string{"dpl_nothing", "a.b.c", r.token("worker"), token, token, lease.LeaseToken, lease.LeaseToken} {
		if got := r.post(t, "/oauth/revoke", map[string]string{"token": text, "token_type_hint": "x"}); got.status != 200 || got.body != "{}" {
			t.Errorf("revoke: %d %s", got.status, got.body)
		}
	}
	if told(token, worker).Active || told(lease.LeaseToken, worker).Active {
		t.Error("what was revoked is active")
	}
	for _, method := range []string{"GET", "POST"} {
		checkProblem(t, r.ask(t, method, "/v1/leases", map[string]string{"POST": `{"role":"reader"}`}[method],
			"Authorization: DPoP "+token, h.proof(t, method, "/v1/leases", token)), 401, "unauthenticated")
	}
	checkOAuth(t, r.post(t, "/oauth/token", fields(token, nil), h.proof(t, "POST", "/oauth/token", "")), 400, "invalid_request", token)
	checkOAuth(t, r.post(t, "/oauth/revoke", nil), 400, "invalid_request")
}

// configure makes other access files active.
func (r *rig) configure(t testing.TB, text, policy string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"files": map[string]string{"a.yaml": text, "a.cedar": policy}})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.administer(t, "PUT", "/v1/access", string(body), "Content-Type: application/json"); got.status/100 != 2 {
		t.Fatal(got.body)
	}
}

func TestTokensOfAnIssuerThatSaysSoAreGoodOnce(t *testing.T) {
	r := newRig(t, nil)
	r.configure(t, fmt.Sprintf(`{kind: Issuer, name: test, oidc: {url: %q, single_use: true}}
---
{kind: Target, name: vault, memory: {}}
---
{kind: Role, name: reader, target: vault, memory: {read: true}}
`, r.issuer.URL()), policies)
	now := time.Now().Unix()
	token := func(id any) string {
		return r.issuer.Token(map[string]any{"iss": r.issuer.URL(), "aud": r.URL(), "sub": "worker", "iat": now, "exp": now + 300, "jti": id})
	}
	a, b, c, d := token("a"), token("b"), token("c"), token("d")
	uses := func(token string) map[string]func() answer {
		return map[string]func() answer{
			"an acquisition": func() answer { return r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer(token)) },
			"a look":         func() answer { return r.ask(t, "GET", "/v1/leases", "", bearer(token)) },
			"a release":      func() answer { return r.ask(t, "DELETE", "/v1/leases/aaaaaaaaaaaaaaaaaaaa", "", bearer(token)) },
		}
	}
	for _, first := range []struct {
		token, use string
		want       int
	}{{a, "an acquisition", 201}, {b, "a look", 200}, {c, "a release", 404}} {
		if got := uses(first.token)[first.use](); got.status != first.want {
			t.Fatalf("%s: %d %s", first.use, got.status, got.body)
		}
		for name, again := range uses(first.token) {
			if got := again(); got.status != 401 || !strings.Contains(got.body, "good once") {
				t.Errorf("%s after %s: %d %s", name, first.use, got.status, got.body)
			}
		}
	}
	h := r.holder(t)
	given(t, r.post(t, "/oauth/token", fields(d, nil), h.proof(t, "POST", "/oauth/token", "")))
	checkOAuth(t, r.post(t, "/oauth/token", fields(d, nil), h.proof(t, "POST", "/oauth/token", "")), 400, "invalid_request", d)
	checkOAuth(t, r.post(t, "/oauth/token", fields(d, map[string]string{"scope": "role:reader"})), 400, "invalid_request", d)
	checkProblem(t, r.ask(t, "GET", "/v1/leases", "", bearer(token(""))), 401, "unauthenticated") // it has no ID

	// Of two who use a token at once, one is the first.
	e := token("e")
	results := make(chan int)
	for range 8 {
		go func() { results <- r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer(e)).status }()
	}
	good := 0
	for range 8 {
		if <-results == 201 {
			good++
		}
	}
	if good != 1 {
		t.Errorf("one token bought %d leases", good)
	}
}

func TestARoleThatIsATokenIsTheAccessToken(t *testing.T) {
	r := newRig(t, nil)
	r.configure(t, fmt.Sprintf(`{kind: Issuer, name: test, oidc: {url: %q}}
---
{kind: Target, name: services, oidc-token: {}}
---
{kind: Role, name: deploy, target: services, oidc-token: {audience: sts.example.com}}
`, r.issuer.URL()), `permit (principal, action, resource);`)
	got := given(t, r.post(t, "/oauth/token", fields(r.token("worker"), map[string]string{"scope": "role:deploy", "requested_token_type": jwtType})))
	if got.TokenType != "Bearer" || got.IssuedType != jwtType || got.AccessToken != got.Credential.Fields["token"] || got.LeaseToken == "" || got.Lease.Role != "deploy" {
		t.Errorf("%+v", got)
	}
	// What the role gives is for others: here it is no access token, whatever key its bearer holds.
	h := r.holder(t)
	checkProblem(t, r.ask(t, "GET", "/v1/leases", "", "Authorization: DPoP "+got.AccessToken, h.proof(t, "GET", "/v1/leases", got.AccessToken)), 401, "unauthenticated")
	checkProblem(t, r.ask(t, "GET", "/v1/leases", "", bearer(got.AccessToken)), 401, "unauthenticated")
	checkOAuth(t, r.post(t, "/oauth/token", fields(got.AccessToken, nil), h.proof(t, "POST", "/oauth/token", "")), 400, "invalid_request", got.AccessToken)
}

func TestAPrincipalWhoseIssuerLeftHasNothingOfItsAccessToken(t *testing.T) {
	r := newRig(t, nil)
	h := r.holder(t)
	token := h.access(t, "worker")
	r.configure(t, `{kind: Issuer, name: test, oidc: {url: "https://elsewhere.example"}}
---
{kind: Target, name: vault, memory: {}}
---
{kind: Role, name: reader, target: vault, memory: {read: true}}
`, policies)
	got := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, "Authorization: DPoP "+token, h.proof(t, "POST", "/v1/leases", token))
	checkProblem(t, got, 401, "unauthenticated")
	checkProblem(t, r.ask(t, "GET", "/v1/leases", "", "Authorization: DPoP "+token, h.proof(t, "GET", "/v1/leases", token)), 401, "unauthenticated")
	checkOAuth(t, r.post(t, "/oauth/token", fields(token, nil), h.proof(t, "POST", "/oauth/token", "")), 400, "invalid_request", token)
}

func TestAnAccessTokenDoesNotKeepTheRightsOfANameThatMoved(t *testing.T) {
	r := newRig(t, nil)
	h := r.holder(t)
	token := h.access(t, "boss") // principals of "test" may administer
	ask := func() answer {
		return r.ask(t, "GET", "/v1/locks", "", "Authorization: DPoP "+token, h.proof(t, "GET", "/v1/locks", token))
	}
	if got := ask(); got.status != 200 {
		t.Fatalf("before: %d %s", got.status, got.body)
	}
	r.configure(t, fmt.Sprintf(`{kind: Issuer, name: demoted, oidc: {url: %q}}
---
{kind: Issuer, name: test, oidc: {url: "https://elsewhere.example"}}
---
{kind: Target, name: vault, memory: {}}
---
{kind: Role, name: reader, target: vault, memory: {read: true}}
`, r.issuer.URL()), policies)
	checkProblem(t, ask(), 403, "denied")
}

func TestTheTwoConfigurationDocumentsAreOne(t *testing.T) {
	r := newRig(t, nil)
	a, b := r.ask(t, "GET", "/.well-known/openid-configuration", ""), r.ask(t, "GET", "/.well-known/oauth-authorization-server", "")
	var said map[string]any
	decode(t, b, &said)
	if a.body != b.body || said["token_endpoint"] != r.URL()+"/oauth/token" || said["issuer"] != r.URL() ||
		!slices.Contains(said["token_endpoint_auth_methods_supported"].([]any), "spiffe_jwt") {
		t.Errorf("%s\n%s", a.body, b.body)
	}
}

func FuzzForms(f *testing.F) {
	r := newRig(f, nil)
	for _, seed := range []string{"grant_type=client_credentials&client_assertion=a", "scope=role%3Ax&scope=b", "authorization_details=%5B%7B", "%", "a=b;c=d"} {
		f.Add("/oauth/token", seed)
		f.Add("/oauth/revoke", seed)
	}
	f.Fuzz(func(t *testing.T, path, body string) {
		if path != "/oauth/revoke" {
			path = "/oauth/token"
		}
		got := r.ask(t, "POST", path, body, "Content-Type: application/x-www-form-urlencoded")
		if !json.Valid([]byte(got.body)) || got.status >= 500 || got.status != 200 && !strings.Contains(got.body, `"error":"`) {
			t.Errorf("%d %s", got.status, got.body)
		}
	})
}
