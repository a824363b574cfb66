package oauth_test

import (
	"crypto/x509"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/oauth"
)

const ours = "https://daypass.example.com"

// body is a token exchange with changes: an empty value takes a parameter away.
func body(changes map[string]string) string {
	all := map[string]string{"grant_type": issuer.GrantExchange, "subject_token": "a.b.c", "subject_token_type": oauth.TypeJWT}
	maps.Copy(all, changes)
	values := url.Values{}
	for name, value := range all {
		values.Set(name, value)
	}
	return values.Encode()
}

func read(t testing.TB, body string, h http.Header) (oauth.Request, error) {
	t.Helper()
	f, err := oauth.ParseForm(body)
	if err != nil {
		return oauth.Request{}, err
	}
	return oauth.Read(f, h, admission.Evidence{Proof: "proof", Method: "POST"}, ours)
}

func TestARoleMayBeNamedInSeveralWays(t *testing.T) {
	details := `[{"type":"` + api.DetailsRole + `","role":"reader","ttl":"15m","reason":"a drill"}]`
	for says, c := range map[string]struct {
		changes map[string]string
		role    string
		denied  string
	}{
		"not at all":             {nil, "", oauth.InvalidRequest},
		"by this server alone":   {map[string]string{"audience": ours}, "", oauth.InvalidRequest},
		"as scope":               {map[string]string{"scope": "role:reader"}, "reader", oauth.InvalidScope},
		"as resource":            {map[string]string{"resource": ours + "/roles/reader"}, "reader", oauth.InvalidTarget},
		"as audience":            {map[string]string{"audience": "role:reader"}, "reader", oauth.InvalidTarget},
		"in details":             {map[string]string{"authorization_details": details}, "reader", oauth.InvalidDetails},
		"in details and a scope": {map[string]string{"authorization_details": details, "scope": "role:reader"}, "reader", oauth.InvalidScope},
	} {
		r, err := read(t, body(c.changes), nil)
		if err != nil || r.Role != c.role || r.Codes.Denied != c.denied || r.Codes.Evidence != oauth.InvalidRequest || r.Scope != c.changes["scope"] {
			t.Errorf("%s: %+v, %v", says, r, err)
		}
		if c.denied == oauth.InvalidDetails && (r.TTL != 15*time.Minute || r.Reason != "a drill" || len(r.Details) != 1) {
			t.Errorf("%s: %+v", says, r)
		}
	}
}

// Each refusal has the code that its RFC gives it, names a rule, and quotes nothing of what was sent.
func TestWhatIsWrongWithARequestIsCalledByItsName(t *testing.T) {
	const canary = "canary-in-what-was-sent"
	for says, c := range map[string]struct {
		body string
		head http.Header
		code string
	}{
		"no grant type":                {body(map[string]string{"grant_type": ""}), nil, oauth.InvalidRequest},
		"another grant type":           {body(map[string]string{"grant_type": canary}), nil, oauth.UnsupportedGrant},
		"a client secret":              {body(map[string]string{"client_secret": canary}), nil, oauth.InvalidClient},
		"a client secret in front":     {body(nil), http.Header{"Authorization": {"Basic " + canary}}, oauth.InvalidClient},
		"no subject":                   {body(map[string]string{"subject_token": ""}), nil, oauth.InvalidRequest},
		"a subject of no type":         {body(map[string]string{"subject_token_type": canary}), nil, oauth.InvalidRequest},
		"a subject that is none":       {body(map[string]string{"subject_token": canary + " "}), nil, oauth.InvalidRequest},
		"a subject without end":        {body(map[string]string{"subject_token": strings.Repeat("a", api.MaxToken+1)}), nil, oauth.InvalidRequest},
		"an actor without a type":      {body(map[string]string{"actor_token": "a.b.c"}), nil, oauth.InvalidRequest},
		"a type that we do not give":   {body(map[string]string{"requested_token_type": canary}), nil, oauth.InvalidRequest},
		"a JWT without a role":         {body(map[string]string{"requested_token_type": oauth.TypeJWT}), nil, oauth.InvalidRequest},
		"another scope":                {body(map[string]string{"scope": canary}), nil, oauth.InvalidScope},
		"two roles":                    {body(map[string]string{"scope": "role:reader role:writer"}), nil, oauth.InvalidScope},
		"another server":               {body(map[string]string{"resource": "https://" + canary + "/roles/reader"}), nil, oauth.InvalidTarget},
		"a role that is no URL":        {body(map[string]string{"resource": "role:reader"}), nil, oauth.InvalidTarget},
		"details of another type":      {body(map[string]string{"authorization_details": `[{"type":"` + canary + `"}]`}), nil, oauth.InvalidDetails},
		"details with more in them":    {body(map[string]string{"authorization_details": `[{"type":"` + api.DetailsRole + `","role":"reader","` + canary + `":1}]`}), nil, oauth.InvalidDetails},
		"an assertion of no type":      {body(map[string]string{"grant_type": issuer.GrantClientCredentials, "client_assertion": canary}), nil, oauth.InvalidClient},
		"a client that shows nothing":  {body(map[string]string{"grant_type": issuer.GrantClientCredentials}), nil, oauth.InvalidClient},
		"a parameter that comes twice": {body(nil) + "&subject_token=x.y.z", nil, oauth.InvalidRequest},
		"bytes that are not UTF-8":     {body(nil) + "&scope=%ff", nil, oauth.InvalidRequest},
		"a body that is no form":       {"subject_token=%zz" + canary, nil, oauth.InvalidRequest},
		"many parameters":              {body(nil) + strings.Repeat("&x=", 50), nil, oauth.InvalidRequest},
	} {
		_, err := read(t, c.body, c.head)
		refusal, ok := errors.AsType[*oauth.Refusal](err)
		if !ok || refusal.Code != c.code {
			t.Errorf("%s: %v, want %s", says, err, c.code)
			continue
		}
		told := refusal.Body()
		if !strings.Contains(told.Description, "RFC ") || strings.Contains(told.Description, canary) {
			t.Errorf("%s: it is told %q", says, told.Description)
		}
	}
}

func TestTheGrantsSayWhoIsMeant(t *testing.T) {
	r, err := read(t, body(map[string]string{"actor_token": "d.e.f", "actor_token_type": api.TokenEvidence}), nil)
	if err != nil || r.Parties.Subject.Token.IsZero() || r.Parties.Subject.Proof != "proof" || r.Parties.Actor.IsZero() {
		t.Errorf("an exchange: %+v, %v", r, err)
	}
	r, err = read(t, url.Values{"grant_type": {issuer.GrantJWTBearer}, "assertion": {"a.b.c"}}.Encode(), nil)
	if err != nil || r.Parties.Subject.Token.IsZero() || r.Codes.Evidence != oauth.InvalidGrant {
		t.Errorf("an assertion: %+v, %v", r, err)
	}
	const spiffe = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
	r, err = read(t, url.Values{"grant_type": {issuer.GrantClientCredentials}, "client_id": {"ci:alice"}, "client_assertion": {"a.b.c"}, "client_assertion_type": {spiffe}}.Encode(), nil)
	if err != nil || r.Parties.Client != "ci:alice" || r.Parties.Prefix != "spiffe://" || r.Codes.Evidence != oauth.InvalidClient || r.Codes.Denied != "unauthorized_client" {
		t.Errorf("a client: %+v, %v", r, err)
	}
	f, err := oauth.ParseForm(url.Values{"grant_type": {issuer.GrantClientCredentials}}.Encode())
	if err == nil {
		r, err = oauth.Read(f, nil, admission.Evidence{Chain: []*x509.Certificate{{}}}, ours)
	}
	if err != nil || !r.Parties.Subject.Token.IsZero() || len(r.Parties.Subject.Chain) != 1 {
		t.Errorf("a client with a certificate: %+v, %v", r, err)
	}
}

func TestAFormComesInTheBodyAlone(t *testing.T) {
	const media = "application/x-www-form-urlencoded"
	for says, c := range map[string]struct {
		target, media, encoding string
		size, status            int
	}{
		"a form":                    {"/oauth/token", media, "", 10, 0},
		"a form in UTF-8":           {"/oauth/token", media + "; charset=UTF-8", "", 10, 0},
		"parameters in the URL":     {"/oauth/token?a=b", media, "", 10, 400},
		"a question mark":           {"/oauth/token?", media, "", 10, 400},
		"JSON":                      {"/oauth/token", "application/json", "", 10, 400},
		"a form in other letters":   {"/oauth/token", media + "; charset=latin1", "", 10, 400},
		"a form that is compressed": {"/oauth/token", media, "gzip", 10, 400},
		"a form without end":        {"/oauth/token", media, "", 5 * api.MaxToken, 413},
	} {
		r := httptest.NewRequest(http.MethodPost, c.target, strings.NewReader("a="+strings.Repeat("b", c.size)))
		r.Header.Set("Content-Type", c.media)
		if c.encoding != "" {
			r.Header.Set("Content-Encoding", c.encoding)
		}
		f, err := oauth.ReadForm(httptest.NewRecorder(), r)
		refusal, refused := errors.AsType[*oauth.Refusal](err)
		if refused != (c.status != 0) || refused && refusal.HTTPStatus() != c.status || !refused && !f.Has("a") {
			t.Errorf("%s: %v, %v", says, f, err)
		}
	}
}

// FuzzRead reads hostile forms: what is not refused in the words of OAuth is a whole request.
func FuzzRead(f *testing.F) {
	f.Add(body(nil))
	f.Add(body(map[string]string{"scope": "role:reader", "resource": ours + "/roles/reader"}))
	f.Add(body(map[string]string{"authorization_details": `[{"type":"` + api.DetailsRole + `","role":"reader"}]`}))
	f.Add("grant_type=client_credentials&client_assertion=a.b.c&client_assertion_type=x")
	f.Fuzz(func(t *testing.T, body string) {
		r, err := read(t, body, nil)
		if err == nil {
			if r.Parties.Subject.Token.IsZero() || r.TTL < 0 || strings.ContainsAny(r.Role, " /\n") {
				t.Fatalf("%q: %+v", body, r)
			}
			return
		}
		refusal, ok := errors.AsType[*oauth.Refusal](err)
		if !ok || refusal.Code == "" || refusal.HTTPStatus() < 400 || !strings.Contains(refusal.Body().Description, "RFC ") {
			t.Fatalf("%q: %v", body, err)
		}
	})
}
