package httpapi_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/testissuer"
)

// withBundle writes the bundle of a trust domain with a key of its own.
func withBundle(t *testing.T) func(*config.Config) {
	t.Helper()
	key, err := testissuer.NewKey("svid-1", "ES256")
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := json.Marshal(jose.JSONWebKey{Key: key.Signer.Public(), KeyID: key.ID, Use: "jwt-svid"})
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *config.Config) {
		if err := os.WriteFile(filepath.Join(cfg.SecretsDir, "mesh.json"), fmt.Appendf(nil, `{"keys":[%s]}`, jwk), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const otherKinds = `
---
kind: Issuer
name: mesh
spiffe: {trust_domain: example.org, bundle: {file: mesh.json}}
---
kind: Issuer
name: edge
devices: {term: 1h}
---
kind: Issuer
name: aws
aws: {accounts: ["123456789012"]}
---
kind: Issuer
name: other
oidc: {url: "https://other.example"}
`

// apply makes access files the active ones.
func (r *rig) apply(t *testing.T, files map[string]string) answer {
	t.Helper()
	body, err := json.Marshal(api.AccessRequest{Files: files})
	if err != nil {
		t.Fatal(err)
	}
	return r.administer(t, "PUT", "/v1/access", string(body))
}

// A token is judged by the issuer that it names, and no two readers of it see two names. Here one issuer signs whatever it
// likes, and tries to be another, or somebody at another.
func TestATokenIsJudgedByTheOneIssuerThatItNames(t *testing.T) {
	r := newRig(t, withBundle(t))
	files := accessFiles(r.issuer.URL())
	files["a.yaml"] += otherKinds
	if got := r.apply(t, files); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	now := time.Now().Unix()
	key := r.issuer.Key()
	header := readHeader(t, r.token("worker"))
	// payload is a token's claims, in which old is replaced.
	payload := func(replace ...string) string {
		text := fmt.Sprintf(`{"iss":%q,"aud":%q,"sub":"worker","iat":%d,"exp":%d}`, r.issuer.URL(), r.URL(), now, now+300)
		changed := strings.NewReplacer(replace...).Replace(text)
		if len(replace) > 0 && changed == text {
			t.Fatalf("%q changes nothing", replace)
		}
		return changed
	}
	iss := fmt.Sprintf(`"iss":%q`, r.issuer.URL())
	named := func(issuer string) string { return payload(iss, fmt.Sprintf(`"iss":%q`, issuer)) }
	signed := func(payload string) string { return key.Sign([]byte(header), []byte(payload)) }
	escaped := strings.ReplaceAll(r.issuer.URL(), "/", `\u002f`)
	for name, c := range map[string]struct{ token, principal string }{
		"as it is":                 {signed(payload()), "test:worker"},
		"with escapes":             {signed(payload(iss, `"\u0069ss":"`+escaped+`"`)), "test:worker"},
		"a subject that is an ID":  {signed(payload(`"worker"`, `"spiffe://example.org/worker"`)), "test:spiffe://example.org/worker"},
		"a subject that is a name": {signed(payload(`"worker"`, `"edge:pump-7"`)), "test:edge:pump-7"},
	} {
		if p := r.principalOf(t, c.token); p != c.principal {
			t.Errorf("%s: %q, want %q", name, p, c.principal)
		}
	}
	good := signed(payload())
	parts := strings.Split(good, ".")
	refused := map[string]string{
		"the issuer twice":                 signed(payload(iss, iss+`,"iss":"https://other.example"`)),
		"the issuer twice, once escaped":   signed(payload(iss, iss+`,"\u0069ss":"https://other.example"`)),
		"the subject twice":                signed(payload(`"sub":"worker"`, `"sub":"worker","sub":"boss"`)),
		"the issuer in capitals":           signed(payload(`"iss"`, `"ISS"`)),
		"a list of issuers":                signed(payload(iss, `"iss":["`+r.issuer.URL()+`"]`)),
		"a list of subjects":               signed(payload(`"worker"`, `["worker"]`)),
		"a subject that is an object":      signed(payload(`"worker"`, `{"sub":"worker"}`)),
		"a subject that is a number":       signed(payload(`"worker"`, `7`)),
		"no subject":                       signed(payload(`"sub":"worker",`, ``)),
		"a subject with a null":            signed(payload(`"worker"`, `"worker\u0000"`)),
		"a subject with half a surrogate":  signed(payload(`"worker"`, `"worker\ud800"`)),
		"a slash at the end":               signed(named(r.issuer.URL() + "/")),
		"the scheme in capitals":           signed(named(strings.Replace(r.issuer.URL(), "http", "HTTP", 1))),
		"a user":                           signed(named(strings.Replace(r.issuer.URL(), "://", "://x@", 1))),
		"a query":                          signed(named(r.issuer.URL() + "?")),
		"a space":                          signed(named(r.issuer.URL() + " ")),
		"another issuer":                   signed(named("https://other.example")),
		"a trust domain as issuer":         signed(named("spiffe://example.org")),
		"an issuer of devices":             signed(named("urn:daypass:devices:edge")),
		"AWS as issuer":                    signed(named("https://sts.amazonaws.com")),
		"ourselves as issuer":              signed(named(r.URL())),
		"no issuer, and an ID of the mesh": signed(payload(iss+",", "", `"worker"`, `"spiffe://example.org/worker"`)),
		"something after the claims":       signed(payload() + payload()),
		"a mark before the claims":         signed("\xef\xbb\xbf" + payload()),
		"claims that are nested deep":      signed(payload(`"worker"`, `"worker","x":`+strings.Repeat(`[`, 2000)+strings.Repeat(`]`, 2000))),
		"an expiry without end":            signed(payload(fmt.Sprint(now+300), "1e400")),
		"an expiry that is a text":         signed(payload(fmt.Sprint(now+300), fmt.Sprintf(`"%d"`, now+300))),
		"two audiences":                    signed(payload(fmt.Sprintf(`%q`, r.URL()), fmt.Sprintf(`[%q,"https://other.example"]`, r.URL()))),
		"a key that is bound":              signed(payload(`"worker"`, `"worker","cnf":{"jkt":"x"}`)),
		"a token in a token":               key.Sign([]byte(strings.Replace(header, `"alg"`, `"cty":"JWT","alg"`, 1)), []byte(good)),
		"an access token's type":           key.Sign([]byte(strings.Replace(header, `"JWT"`, `"at+jwt"`, 1)), []byte(named(r.URL()))),
		"a type of enrolment":              key.Sign([]byte(strings.Replace(header, `"JWT"`, `"enrol+jwt"`, 1)), []byte(payload())),
		"the header twice":                 key.Sign([]byte(strings.Replace(header, `"typ"`, `"alg":"none","typ"`, 1)), []byte(payload())),
		"five parts":                       good + ".x.y",
		"a dot at the end":                 good + ".",
		"padding":                          parts[0] + "." + parts[1] + "=." + parts[2],
		"as a request of AWS":              "dpaws_" + good,
		"as a lease token":                 "dpl_" + good,
	}
	before := len(r.system.Leases())
	for name, token := range refused {
		got := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer(token))
		// The other issuer is nowhere, and that of the trust domain was asked for the key a moment ago: then nobody can tell,
		// and nobody is let in.
		unknown := slices.Contains([]string{"another issuer", "a trust domain as issuer", "no issuer, and an ID of the mesh"}, name)
		if got.status != 401 && (!unknown || got.status != 503) {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	if n := len(r.system.Leases()); n != before {
		t.Errorf("%d credentials were made", n-before)
	}
}

// What roles give out is for others. Were we an issuer of our own, it would be evidence here, and one lease beget the next.
func TestWeAreNoIssuerOfOurOwn(t *testing.T) {
	r := newRig(t, nil)
	files := accessFiles(r.issuer.URL())
	files["b.yaml"] = fmt.Sprintf("kind: Issuer\nname: loop\noidc: {url: %q, audience: sts.example.com}\n", r.URL())
	got := r.apply(t, files)
	if got.status != 422 && got.status != 400 || !strings.Contains(got.body, "installation's own") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func readHeader(t *testing.T, token string) string {
	t.Helper()
	segment, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// principalOf acquires with a token, and tells as whom.
func (r *rig) principalOf(t *testing.T, token string) string {
	t.Helper()
	got := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer(token))
	var a api.Acquired
	if err := json.Unmarshal([]byte(got.body), &a); err != nil || got.status != 201 {
		t.Errorf("%d %s", got.status, got.body)
	}
	return a.Lease.Principal
}
