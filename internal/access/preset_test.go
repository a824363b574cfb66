package access_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

const us = "https://daypass.example.com"

// sample is a token as a platform's vendor describes it, with a policy that is typical for it.
type sample struct {
	config  *access.Config
	issuer  access.Issuer
	payload map[string]any
	permit  []map[string]any // changes that the policy still permits
	deny    []map[string]any // changes that it does not
}

func samples(t *testing.T) map[string]sample {
	t.Helper()
	names, err := filepath.Glob("testdata/presets/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no samples", err)
	}
	all := map[string]sample{}
	for _, name := range names {
		all[strings.TrimSuffix(filepath.Base(name), ".txtar")] = readSample(t, name)
	}
	return all
}

func readSample(t *testing.T, name string) sample {
	t.Helper()
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var s sample
	files := access.Files{"rest.yaml": "kind: Target\nname: t\nssh: {}\n---\nkind: Role\nname: r\ntarget: t\n"}
	for _, file := range archive.Files {
		text := string(file.Data)
		switch file.Name {
		case "issuer.yaml", "policy.cedar":
			files[file.Name] = text
		case "payload.json":
			s.payload = claims(t, text)
		case "permit", "deny":
			for line := range strings.Lines(text) {
				if file.Name == "permit" {
					s.permit = append(s.permit, claims(t, line))
				} else {
					s.deny = append(s.deny, claims(t, line))
				}
			}
		}
	}
	if s.config, err = access.Parse(files, kinds()); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	s.issuer = s.config.Issuers["i"]
	return s
}

func claims(t *testing.T, text string) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return object
}

// patched returns object with changes as RFC 7396 has them.
func patched(object, changes map[string]any) map[string]any {
	out := maps.Clone(object)
	if out == nil {
		out = map[string]any{}
	}
	for name, value := range changes {
		if inner, ok := value.(map[string]any); ok {
			was, _ := out[name].(map[string]any)
			out[name] = patched(was, inner)
		} else if value == nil {
			delete(out, name)
		} else {
			out[name] = value
		}
	}
	return out
}

// direct sends requests to an issuer without a network, wherever below its host the issuer is.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	r = r.Clone(r.Context())
	r.URL.Path = r.URL.Path[strings.Index(r.URL.Path, "/.well-known/"):]
	d.ServeHTTP(answer, r)
	return answer.Result(), nil
}

// desk verifies and decides about tokens of a sample's issuer, as a server would.
type desk struct {
	sample
	issuer   *testissuer.Issuer
	verifier *oidc.Verifier
	engine   *policy.Engine
	now      time.Time
}

func open(t *testing.T, s sample) *desk {
	t.Helper()
	d := &desk{sample: s, now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return d.now }
	preset, _ := access.PresetOf(s.issuer.Preset)
	algorithms, types := preset.Habits(s.issuer.URL)
	algorithm := "RS256"
	if len(algorithms) > 0 {
		algorithm = algorithms[0]
	}
	var err error
	if d.issuer, err = testissuer.New(testissuer.Options{Now: clock, Algorithm: algorithm, URL: s.issuer.URL}); err != nil {
		t.Fatal(err)
	}
	audience := s.issuer.OIDC.Audience
	if audience == "" {
		audience = us
	}
	d.verifier, err = oidc.New(oidc.Config{
		Name: s.issuer.Name, URL: s.issuer.URL, Audience: audience, Client: &http.Client{Transport: direct{d.issuer}},
		Algorithms: algorithms, Types: types, MaxAge: preset.MaxAge, Flatten: preset.Flatten, Now: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	if d.engine, err = policy.Compile(s.config, nil); err != nil {
		t.Fatal(err)
	}
	return d
}

// allows reports whether a token of this payload opens the role. It is as old as tokens of the platform may be.
func (d *desk) allows(t *testing.T, payload map[string]any) (bool, []policy.Reason) {
	t.Helper()
	preset, _ := access.PresetOf(d.sample.issuer.Preset)
	lives := max(preset.Age, preset.MaxAge, time.Minute)
	payload = patched(payload, map[string]any{"iat": d.now.Add(time.Minute - lives).Unix(), "exp": d.now.Add(time.Minute).Unix(), "jti": "one"})
	principal, err := d.verifier.Verify(t.Context(), secret.New(d.issuer.Token(payload)))
	if err != nil {
		t.Fatalf("%v", err)
	}
	decision := d.engine.Decide(policy.Request{
		Principal: principal, Action: policy.Acquire, Resource: policy.OnRole("r"), Now: d.now,
		SourceIP: netip.MustParseAddr("192.0.2.1"), TTL: 15 * time.Minute,
	})
	return decision.Allow, decision.Reasons
}

func TestTokensAsThePlatformsDescribeThemAreDecidedAsTheirPoliciesSay(t *testing.T) {
	for name, s := range samples(t) {
		t.Run(name, func(t *testing.T) {
			d := open(t, s)
			if len(s.permit) == 0 || len(s.deny) == 0 {
				t.Fatal("the sample tries nothing")
			}
			for _, change := range s.permit {
				if ok, reasons := d.allows(t, patched(s.payload, change)); !ok {
					t.Errorf("with %v: denied: %v", change, reasons)
				}
			}
			for _, change := range s.deny {
				if ok, _ := d.allows(t, patched(s.payload, change)); ok {
					t.Errorf("with %v: allowed", change)
				}
			}
		})
	}
}

func TestEveryPresetHasASampleAndKnowsWhatItHolds(t *testing.T) {
	seen := map[string]bool{}
	standard := []string{"iss", "sub", "aud", "exp", "iat", "nbf", "jti"}
	for name, s := range samples(t) {
		preset, ok := access.PresetOf(s.issuer.Preset)
		if !ok {
			continue
		}
		seen[preset.Name] = true
		for _, claim := range preset.Known {
			if _, ok := s.payload[claim.Name]; !ok && !claim.Optional {
				t.Errorf("%s lacks %s, which is said to be in every token", name, claim.Name)
			}
		}
		for _, run := range preset.Run {
			if claim, ok := preset.Claim(run); !ok || claim.Kind != access.String {
				t.Errorf("%s: the run claim %s is no claim of text", preset.Name, run)
			}
		}
		for claim, value := range s.payload {
			if _, nested := value.(map[string]any); nested || slices.Contains(standard, claim) {
				continue
			}
			if _, known := s.issuer.Claims[claim]; !known && !slices.Contains(silent(), claim) {
				t.Errorf("%s: nobody knows claim %s", name, claim)
			}
		}
	}
	for _, name := range access.PresetNames() {
		if !seen[name] {
			t.Errorf("preset %s has no sample in testdata/presets", name)
		}
	}
}

// silent are claims of samples that no policy should ask for: opaque ones, arrays of objects, names of protocols.
func silent() []string {
	return []string{"user_identities", "aio", "rh", "uti", "ver", "typ", "acr", "clientHost"}
}

func TestTheTableOfPresetsIsSound(t *testing.T) {
	types, names := map[string]string{}, map[string]bool{}
	for _, p := range access.Presets() {
		if !access.ValidName(p.Name) || names[p.Name] || types[p.Type] != "" || p.Title == "" || !strings.HasPrefix(p.Docs, "https://") || p.Type == access.GenericType {
			t.Errorf("%s: a name, a type, a title or the vendor's page is missing or another preset's", p.Name)
		}
		names[p.Name], types[p.Type] = true, p.Name
		claims := map[string]bool{}
		for _, c := range p.Known {
			if claims[c.Name] || c.Means == "" || c.Nature == "" || c.Kind == "" {
				t.Errorf("%s: claim %q is there twice or says nothing", p.Name, c.Name)
			}
			claims[c.Name] = true
			if partner, ok := p.Claim(c.Partner); c.Partner != "" && (!ok || partner.Nature != access.Fixed) {
				t.Errorf("%s: %s is no immutable partner of %s", p.Name, c.Partner, c.Name)
			}
		}
		for _, path := range p.Flatten {
			if name := strings.Join(path, "."); !slices.Contains(path, "*") && !claims[name] {
				t.Errorf("%s lifts %s, which is no claim of it", p.Name, name)
			}
		}
		if !p.Audience.Ours && p.Kind == "" && p.Audience.How == "" {
			t.Errorf("%s: where its audience is to be found is not said", p.Name)
		}
		if _, ok := p.Claim(p.Partner); p.Partner != "" && !ok {
			t.Errorf("%s: %s is no claim of it", p.Name, p.Partner)
		}
		if (p.Pull.Can == "") != (p.Pull.Guard == "") {
			t.Errorf("%s: what a proposal can get and what guards against it go together", p.Name)
		}
	}
}

func TestIssuersOfAPresetHaveURLsOfThePlatform(t *testing.T) {
	for name, urls := range map[string][]string{
		"github-actions": {
			"http://token.actions.githubusercontent.com", "https://token.actions.githubusercontent.com/", "https://token.actions.githubusercontent.com.evil.example",
			"https://token.actions.githubusercontent.com/a/b", "https://evil.example/token.actions.githubusercontent.com", "https://github.com",
			"https://github.example.com/_services/token/", "https://evil.example/x/_services/token", "https://tokenXactions.githubusercontent.com",
		},
		"circleci":            {"https://oidc.circleci.com", "https://oidc.circleci.com/org/acme", "https://oidc.circleci.com/org/C9035EB6-6EB2-4C85-8A81-D9ED6A1D1D1E"},
		"buildkite":           {"https://agent.buildkite.com/", "https://buildkite.com"},
		"azure-devops":        {"https://vstoken.dev.azure.com/acme", "https://login.microsoftonline.com/x/v2.0"},
		"entra":               {"https://login.microsoftonline.com/common/v2.0", "https://login.microsoftonline.com/1b2c3d4e-0000-4000-8000-00000000000a", "https://sts.windows.net/1b2c3d4e-0000-4000-8000-00000000000a"},
		"google":              {"accounts.google.com", "https://accounts.google.com/"},
		"aws-web-identity":    {"https://sts.amazonaws.com", "https://a.b.tokens.sts.global.api.aws"},
		"bitbucket-pipelines": {"https://api.bitbucket.org/2.0/workspaces//pipelines-config/identity/oidc", "https://bitbucket.org"},
		"auth0":               {"https://acme.eu.auth0.com"},
		"okta":                {"https://acme.okta.com"},
	} {
		for _, url := range urls {
			text := fmt.Sprintf("kind: Issuer\nname: a\npreset: %s\noidc: {url: '%s', audience: a}", name, url)
			if _, err := access.Parse(access.Files{"a.yaml": text}, kinds()); err == nil || !regexp.MustCompile("no issuer of|no host|https|loopback").MatchString(err.Error()) {
				t.Errorf("%s at %s: %v", name, url, err)
			}
		}
	}
}

func TestNoClaimOfATokenCanStandForANestedOne(t *testing.T) {
	s := samples(t)["google"]
	d := open(t, s)
	payload := patched(s.payload, map[string]any{
		"google": nil, "google.compute_engine.project_id": "my-project", "iat": d.now.Unix(), "exp": d.now.Add(time.Minute).Unix(),
	})
	if p, err := d.verifier.Verify(t.Context(), secret.New(d.issuer.Token(payload))); err == nil {
		t.Errorf("accepted: %v", p.Claims)
	}
}

// Letters of other alphabets, other forms of the same letter, and the same letters in another case read like the name
// that a policy trusts. None of them is it.
func TestASubjectThatReadsLikeATrustedOneIsAnother(t *testing.T) {
	d := open(t, samples(t)["generic"])
	if ok, reasons := d.allows(t, d.payload); !ok {
		t.Fatalf("the trusted one is denied: %v", reasons)
	}
	for name, subject := range map[string]string{
		"a Cyrillic о":          "svc-\u043erders",
		"a Greek ο":             "svc-\u03bfrders",
		"full-width letters":    "svc-\uff4frders",
		"a combining mark":      "svc-o\u0308rders",
		"another dash":          "svc\u2010orders",
		"a capital":             "svc-Orders",
		"a space at the end":    "svc-orders ",
		"a no-break space":      "svc-orders\u00a0",
		"a mathematical letter": "svc-\U0001d5c8rders",
		"a dot without a body":  "svc-orders.",
	} {
		payload := patched(d.payload, map[string]any{"sub": subject})
		if ok, _ := d.allows(t, payload); ok {
			t.Errorf("%s passes: %+q", name, subject)
		}
	}
}
