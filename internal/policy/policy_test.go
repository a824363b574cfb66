package policy_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cedar-policy/cedar-go/x/exp/schema"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/source"
)

const directory = `
kind: Issuer
name: github
preset: github-actions
oidc: {url: https://token.actions.githubusercontent.com}
---
kind: Issuer
name: corp
oidc: {url: https://id.corp.example}
claims: {team: string, level: long, admin: bool?, groups: set<string>, "acme.dev/tier": string?}
---
kind: Target
name: orders-db
fake: {}
---
kind: Role
name: orders-readonly
target: orders-db
labels: {env: production}
fake: {}
---
kind: Role
name: orders-admin
target: orders-db
fake: {}
`

func kinds() access.Kinds {
	read := func(access.Section) (any, error) { return map[string]any{}, nil }
	return access.Kinds{Targets: map[string]access.Kind{"fake": {Settings: read, Rights: read}}}
}

func config(t testing.TB, policies ...string) *access.Config {
	t.Helper()
	files := access.Files{"access.yaml": directory}
	for i, text := range policies {
		files[fmt.Sprintf("p%d.cedar", i)] = text
	}
	cfg, err := access.Parse(files, kinds())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func berlin(t testing.TB) []*time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return []*time.Location{zone}
}

func compile(t testing.TB, policies ...string) *policy.Engine {
	t.Helper()
	engine, err := policy.Compile(config(t, policies...), berlin(t))
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func githubRequest() policy.Request {
	return policy.Request{
		Principal: identity.Principal{
			Issuer: "github", IssuerURL: "https://token.actions.githubusercontent.com", Subject: "repo:acme/orders:ref:refs/heads/main",
			Claims: map[string]any{
				"repository": "acme/orders", "ref": "refs/heads/main", "repository_id": "74", "run_id": "17", "aud": "https://daypass.example",
				"iat": int64(1), "nested": map[string]any{"a": 1.5}, "nothing": nil,
			},
		},
		Action: policy.Acquire, Resource: policy.OnRole("orders-readonly"),
		Now: time.Date(2026, 7, 1, 10, 0, 0, 0, time.UTC), SourceIP: netip.MustParseAddr("10.1.2.3"), TTL: 15 * time.Minute,
	}
}

func corpRequest(claims map[string]any) policy.Request {
	r := githubRequest()
	r.Principal = identity.Principal{Issuer: "corp", IssuerURL: "https://id.corp.example", Subject: "svc", Claims: claims}
	return r
}

const example = `
permit (
  principal is GitHub::Workload,
  action == Action::"acquire",
  resource == Role::"orders-readonly"
) when {
  principal.claims.repository == "acme/orders" &&
  principal.claims.ref == "refs/heads/main" &&
  context.source_ip.isInRange(ip("10.0.0.0/8")) &&
  context.local["Europe/Berlin"].hour >= 6
};
`

func TestTheExampleOfTheDesignDecides(t *testing.T) {
	engine := compile(t, example)
	if d := engine.Decide(githubRequest()); !d.Allow {
		t.Errorf("denied: %+v", d.Reasons)
	}
	for name, change := range map[string]func(*policy.Request){
		"another repository":        func(r *policy.Request) { r.Principal.Claims["repository"] = "acme/else" },
		"an address outside":        func(r *policy.Request) { r.SourceIP = netip.MustParseAddr("11.0.0.1") },
		"no address at all":         func(r *policy.Request) { r.SourceIP = netip.Addr{} },
		"the night in Berlin":       func(r *policy.Request) { r.Now = time.Date(2026, 7, 1, 3, 59, 0, 0, time.UTC) },
		"another role":              func(r *policy.Request) { r.Resource = policy.OnRole("orders-admin") },
		"a role that is not there":  func(r *policy.Request) { r.Resource = policy.OnRole("nothing") },
		"another action":            func(r *policy.Request) { r.Action = policy.Renew },
		"an issuer without name":    func(r *policy.Request) { r.Principal.Issuer = "" },
		"another issuer's name":     func(r *policy.Request) { r.Principal.Issuer = "corp" },
		"an action on nothing":      func(r *policy.Request) { r.Resource = policy.Resource{} },
		"an action unheard of":      func(r *policy.Request) { r.Action = "destroy" },
		"a missing claim":           func(r *policy.Request) { delete(r.Principal.Claims, "repository") },
		"a claim that is null":      func(r *policy.Request) { r.Principal.Claims["repository"] = nil },
		"an overlong subject":       func(r *policy.Request) { r.Principal.Subject = strings.Repeat("x", 256) },
		"a subject that deceives":   func(r *policy.Request) { r.Principal.Subject = "a\u202eb" },
		"a subject with a newline":  func(r *policy.Request) { r.Principal.Subject = "a\nb" },
		"a subject that is no text": func(r *policy.Request) { r.Principal.Subject = "a\xff" },
	} {
		r := githubRequest()
		change(&r)
		d := engine.Decide(r)
		if d.Allow || len(d.Reasons) == 0 {
			t.Errorf("%s: allow=%v, reasons %+v", name, d.Allow, d.Reasons)
		}
	}
	if d := engine.Decide(func() policy.Request {
		r := githubRequest()
		r.SourceIP = netip.MustParseAddr("::ffff:10.1.2.3")
		return r
	}()); !d.Allow {
		t.Errorf("an IPv4 address within IPv6 is another address: %+v", d.Reasons)
	}
}

func TestWithoutPoliciesEverythingIsDenied(t *testing.T) {
	d := compile(t).Decide(githubRequest())
	if d.Allow || len(d.Reasons) != 1 || d.Reasons[0].Effect != policy.None {
		t.Errorf("got %+v", d)
	}
}

func TestAFailingForbidDeniesAndIsReported(t *testing.T) {
	engine := compile(t, `permit (principal, action, resource);
@id("broken") forbid (principal is Workload, action, resource is Role) when { principal.claims.level + 9223372036854775807 > 0 };`)
	d := engine.Decide(corpRequest(map[string]any{"team": "a", "level": int64(5), "groups": []any{}}))
	if d.Allow {
		t.Error("a forbid that fails let the request through")
	}
	found := false
	for _, reason := range d.Reasons {
		found = found || reason.Effect == policy.Failed && reason.Policy == "broken"
	}
	if !found {
		t.Errorf("the failure is not reported: %+v", d.Reasons)
	}
	if d := engine.Decide(githubRequest()); !d.Allow {
		t.Errorf("a forbid outside its scope denies: %+v", d.Reasons)
	}
}

func TestAFailingPermitDoesNotPermitAndAnotherStillMay(t *testing.T) {
	failing := `permit (principal is Workload, action, resource is Role) when { principal.claims.level + 9223372036854775807 > 0 };`
	r := corpRequest(map[string]any{"team": "a", "level": int64(5), "groups": []any{}})
	if d := compile(t, failing).Decide(r); d.Allow {
		t.Error("a permit that fails permits")
	}
	if d := compile(t, failing+`permit (principal, action, resource);`).Decide(r); !d.Allow {
		t.Errorf("denied: %+v", d.Reasons)
	}
}

func TestAMissingRequiredClaimFailsOnlyPoliciesThatAskForIt(t *testing.T) {
	engine := compile(t, `permit (principal is Workload, action, resource is Role) when { principal.claims.team == "a" };
forbid (principal is Workload, action, resource is Role) when { principal.claims.level > 3 };`)
	if d := engine.Decide(corpRequest(map[string]any{"team": "a"})); d.Allow {
		t.Error("a forbid that asks for a missing claim was skipped")
	}
	if d := engine.Decide(corpRequest(map[string]any{"team": "a", "level": int64(1)})); !d.Allow {
		t.Errorf("denied: %+v", d.Reasons)
	}
}

func TestClaimsOfAnotherTypeAreADenialWithAReason(t *testing.T) {
	engine := compile(t, `permit (principal, action, resource);`)
	good := map[string]any{"team": "a", "level": int64(1), "groups": []any{"x", "y", "x"}, "admin": true, "acme.dev/tier": "1"}
	if d := engine.Decide(corpRequest(good)); !d.Allow {
		t.Fatalf("denied: %+v", d.Reasons)
	}
	canary := "canary-value"
	for name, wrong := range map[string]any{
		"team": int64(5), "level": "5", "groups": "x", "admin": "true", "acme.dev/tier": []any{canary},
	} {
		claims := map[string]any{}
		for k, v := range good {
			claims[k] = v
		}
		claims[name] = wrong
		d := engine.Decide(corpRequest(claims))
		if d.Allow || d.Reasons[0].Effect != policy.Failed || !strings.Contains(d.Reasons[0].Message, name) || strings.Contains(d.Reasons[0].Message, canary) {
			t.Errorf("%s: %+v", name, d)
		}
	}
	for _, wrong := range []any{1.5, json.Number("1.5"), json.Number("1e3"), json.Number("9223372036854775808"), map[string]any{}, []any{"a", int64(1)}, []any{nil}, struct{}{}} {
		for _, name := range []string{"team", "level", "groups", "admin"} {
			if d := engine.Decide(corpRequest(map[string]any{name: wrong})); d.Allow {
				t.Errorf("%s = %v was allowed", name, wrong)
			}
		}
	}
	if d := engine.Decide(corpRequest(map[string]any{"team": nil, "undeclared": 1.5})); !d.Allow {
		t.Errorf("null is not like absence, or an undeclared claim counts: %+v", d.Reasons)
	}
}

func TestDottedClaimNamesAreOneName(t *testing.T) {
	engine := compile(t, `permit (principal is Workload, action, resource is Role) when { principal.claims has "acme.dev/tier" && principal.claims["acme.dev/tier"] == "gold" };`)
	if d := engine.Decide(corpRequest(map[string]any{"acme.dev/tier": "gold"})); !d.Allow {
		t.Errorf("denied: %+v", d.Reasons)
	}
	if d := engine.Decide(corpRequest(map[string]any{"acme": map[string]any{"dev/tier": "gold"}})); d.Allow {
		t.Error("a dot was read as a path")
	}
}

func TestPrincipalsOfDifferentIssuersNeverShareAnEntity(t *testing.T) {
	engine := compile(t, `permit (principal == Workload::"corp:a:b", action, resource is Role);`)
	r := corpRequest(nil)
	r.Principal.Subject = "a:b"
	if d := engine.Decide(r); !d.Allow {
		t.Errorf("denied: %+v", d.Reasons)
	}
	r.Principal.Issuer, r.Principal.Subject = "corp:a", "b"
	if d := engine.Decide(r); d.Allow {
		t.Error("issuer corp:a with subject b passes for issuer corp with subject a:b")
	}
}

func TestOnlyAdministratorsActOnLeasesAndTheSystemWhateverPoliciesSay(t *testing.T) {
	engine := compile(t, `permit (principal, action, resource);`)
	for _, action := range policy.Actions() {
		for _, resource := range []policy.Resource{policy.OnSystem(), policy.OnLease("l", "orders-readonly", "orders-db", policy.Holder{Issuer: "corp", Subject: "svc"})} {
			r := githubRequest()
			r.Action, r.Resource = action, resource
			if d := engine.Decide(r); d.Allow {
				t.Errorf("%s on %s was allowed", action, resource)
			}
		}
	}
	r := githubRequest()
	r.Administrator, r.Action, r.Resource = true, policy.Lock, policy.OnSystem()
	if d := engine.Decide(r); !d.Allow {
		t.Errorf("denied: %+v", d.Reasons)
	}
	if d := compile(t).Decide(r); d.Allow {
		t.Error("an administrator needs no policy")
	}
}

func TestLeasesHaveHolderRoleAndTarget(t *testing.T) {
	lease := policy.OnLease("l", "orders-readonly", "orders-db", policy.Holder{Issuer: "corp", Subject: "svc"})
	for text, want := range map[string]bool{
		`permit (principal, action == Action::"revoke", resource in Target::"orders-db");`:                                                      true,
		`permit (principal, action == Action::"revoke", resource in Role::"orders-readonly");`:                                                  true,
		`permit (principal, action == Action::"revoke", resource in Role::"orders-admin");`:                                                     false,
		`permit (principal, action == Action::"revoke", resource) when { resource.holder.issuer == "corp" };`:                                   true,
		`permit (principal, action in [Action::"revoke", Action::"read"], resource is Lease) when { resource.holder.subject like "s*" };`:       true,
		`permit (principal, action in [Action::"lock", Action::"configure"], resource);`:                                                        false,
		`permit (principal in Issuer::"github", action, resource is Lease in Role::"orders-readonly");`:                                         true,
		`permit (principal is GitHub::Workload in Issuer::"github", action == Action::"revoke", resource);`:                                     true,
		`permit (principal == GitHub::Workload::"github:repo:acme/orders:ref:refs/heads/main", action == Action::"revoke", resource is Lease);`: true,
	} {
		r := githubRequest()
		r.Administrator, r.Action, r.Resource = true, policy.Revoke, lease
		if d := compile(t, text).Decide(r); d.Allow != want {
			t.Errorf("%s: %v, reasons %+v", text, d.Allow, d.Reasons)
		}
	}
}

func TestLabelsOfRolesAreOptionalAttributes(t *testing.T) {
	engine := compile(t, `permit (principal, action, resource is Role) when { resource.labels has env && resource.labels.env == "production" };`)
	if d := engine.Decide(githubRequest()); !d.Allow {
		t.Errorf("denied: %+v", d.Reasons)
	}
	r := githubRequest()
	r.Resource = policy.OnRole("orders-admin")
	if d := engine.Decide(r); d.Allow {
		t.Error("a role without the label was allowed")
	}
}

func TestBerlinChangesItsClocks(t *testing.T) {
	engine := compile(t, `permit (principal, action, resource is Role) when { context.local["Europe/Berlin"].hour == 2 };
@id("sunday") permit (principal, action, resource is Role) when { context.local["Europe/Berlin"].weekday == 7 && context.local["Europe/Berlin"].hour == 3 && context.local["Europe/Berlin"].minute == 0 };`)
	at := func(text string) bool {
		r := githubRequest()
		now, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		r.Now = now
		return engine.Decide(r).Allow
	}
	for text, want := range map[string]bool{
		"2026-03-29T00:59:59Z": false, // 01:59 before the jump
		"2026-03-29T01:00:00Z": true,  // 03:00: the hour 2 does not exist
		"2026-03-29T01:01:00Z": false, // 03:01
		"2026-10-25T00:00:00Z": true,  // 02:00 in summer time
		"2026-10-25T00:59:59Z": true,  // 02:59 in summer time
		"2026-10-25T01:00:00Z": true,  // 02:00 again, in winter time
		"2026-10-25T01:59:59Z": true,  // 02:59 in winter time
		"2026-10-25T02:00:00Z": true,  // 03:00 on a Sunday
		"2026-10-25T02:01:00Z": false, // 03:01
		"2026-10-26T02:00:00Z": false, // 03:00 on a Monday
	} {
		if got := at(text); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestEveryDecisionCanBeReplayed(t *testing.T) {
	engine := compile(t, example, `permit (principal is Workload, action, resource is Role) when { principal.claims.level > 3 && principal.claims.groups.contains("ops") };`)
	requests := []policy.Request{githubRequest(), corpRequest(map[string]any{"level": int64(9007199254740993), "groups": []any{"ops"}}), corpRequest(map[string]any{"level": json.Number("1.5")})}
	lease := githubRequest()
	lease.Administrator, lease.Action, lease.Country = true, policy.Read, "DE"
	lease.Resource = policy.OnLease("l", "orders-readonly", "orders-db", policy.Holder{Issuer: "corp", Subject: "svc"})
	for i, r := range append(requests, lease) {
		first := engine.Decide(r)
		again, err := engine.Replay(first.Input())
		if err != nil {
			t.Fatal(err)
		}
		if again.Allow != first.Allow || fmt.Sprint(again.Reasons) != fmt.Sprint(first.Reasons) || string(again.Input()) != string(first.Input()) {
			t.Errorf("%d: %+v\nbecame %+v\n%s\n%s", i, first.Reasons, again.Reasons, first.Input(), again.Input())
		}
	}
	if _, err := engine.Replay([]byte(`{"action":"acquire"} trailing`)); err == nil {
		t.Error("a malformed input was replayed")
	}
}

func TestTheSchemaOfOneKindOfIssuerIsValidCedar(t *testing.T) {
	for _, issuer := range []string{"preset: github-actions", "oidc: {url: https://id.example}\nclaims: {'a\"b': string, \"x.y/z\": set<string>?, n: long, b: bool}"} {
		cfg, err := access.Parse(access.Files{"a.yaml": "kind: Issuer\nname: a\n" + issuer + "\n"}, kinds())
		if err != nil {
			t.Fatal(err)
		}
		engine, err := policy.Compile(cfg, berlin(t))
		if err != nil {
			t.Fatal(err)
		}
		var s schema.Schema
		if err := s.UnmarshalCedar([]byte(engine.Schema())); err != nil {
			t.Fatalf("%v\n%s", err, engine.Schema())
		}
		if _, err := s.Resolve(); err != nil {
			t.Errorf("%v\n%s", err, engine.Schema())
		}
	}
	text := compile(t).Schema()
	if !strings.Contains(text, "namespace GitHub {") || !strings.Contains(text, "\nentity Workload in [Issuer]") {
		t.Errorf("a type of principal is missing:\n%s", text)
	}
}

func TestMistakesInPoliciesAreFoundAtLoadWithTheirPlace(t *testing.T) {
	scope := "permit (principal is GitHub::Workload, action == Action::\"acquire\", resource)\nwhen { "
	generic := "permit (principal is Workload, action == Action::\"acquire\", resource)\nwhen { "
	for name, c := range map[string]struct{ text, place, says, hint string }{
		"now compared with a number":      {scope + `context.now > 5 };`, "2:20", "mixes types", "datetime"},
		"now compared with a duration":    {scope + `true && context.now < duration("1h") };`, "2:28", "mixes types", ""},
		"a time of day compared with 5":   {scope + `context.now.toTime() > 5 };`, "2:29", "mixes types", ""},
		"the same with >=":                {scope + `5 >= context.now };`, "2:10", "mixes types", ""},
		"the same with <=":                {scope + `context.ttl <= 5 };`, "2:20", "mixes types", ""},
		"the second of two comparisons":   {scope + `context.ttl < duration("1h") && context.ttl < 5 };`, "2:52", "mixes types", ""},
		"one inside a conditional":        {scope + `if context.now > datetime("2026-01-01") then context.ttl > 5 else true };`, "2:65", "mixes types", ""},
		"one inside unless":               {"forbid (principal, action, resource)\nunless { context.now > 5 };", "2:22", "mixes types", ""},
		"an unknown attribute":            {scope + `principal.claims.repositry == "x" };`, "2:25", "claims.repositry", "claims.repository"},
		"an unknown attribute of context": {scope + `context.nwo > datetime("2026-01-01") };`, "2:16", "nwo", "now"},
		"an optional claim without has":   {scope + `principal.claims.environment == "x" };`, "2:25", "may be missing", "has environment"},
		"a label without has":             {scope + `resource.labels.env == "x" };`, "2:24", "may be missing", "resource.labels has env"},
		"an optional dotted claim":        {generic + `principal.claims["acme.dev/tier"] == "x" };`, "2:25", "may be missing", ""},
		"an unknown action":               {`permit (principal, action == Action::"aquire", resource);`, "1:38", "aquire", "acquire"},
		"a type that no issuer has":       {`permit (principal is Kubernetes::Workload, action, resource);`, "1:34", "Kubernetes::Workload", "preset"},
		"a role that does not exist":      {`forbid (principal, action, resource == Role::"orders-readonl");`, "1:40", "orders-readonl", "orders-readonly"},
		"a target that does not exist":    {`forbid (principal, action, resource in Target::"orders");`, "1:40", "orders", "orders-db"},
		"an issuer that does not exist":   {scope + `principal in Issuer::"gitlab" };`, "2:21", "gitlab", "github"},
		"a system that does not exist":    {`permit (principal, action, resource == System::"x");`, "1:40", "system", "daypass"},
		"a principal that cannot be":      {`permit (principal == Workload::"svc", action, resource);`, "1:22", "svc", "colon"},
		"an action on the wrong resource": {`permit (principal, action == Action::"acquire", resource is System);`, "1:1", "never applies", "Role"},
		"a number compared with a string": {scope + `principal.claims.repository_id == 74 };`, "2:8", "String", ""},
		"a zone that is not offered":      {scope + `context.local["Asia/Tokyo"].hour > 1 };`, "2:22", "Asia/Tokyo", "time_zones"},
		"a missing comma":                 {`permit (principal action, resource);`, "1:19", `"action"`, ""},
		"no effect":                       {"\n\nallow (principal, action, resource);", "3:1", "allow", "permit or forbid"},
		"no end":                          {`permit (principal, action, resource)`, "1:36", "no end", ";"},
		"a quote that is never closed":    {"permit (principal, action, resource == Role::\"x);\n", "1:46", "closed", ""},
		"a block comment":                 {"/* hidden */ permit (principal, action, resource);", "1:1", "comments", "//"},
		"nothing before a semicolon":      {`;`, "1:1", "missing", ""},
		"two policies with one name":      {"@id(\"a\") permit (principal, action, resource);\n@id(\"a\") permit (principal, action, resource);", "2:5", "@id", "p0.cedar:1:10"},
		"an empty name":                   {`@id permit (principal, action, resource);`, "1:", "@id", ""},
		"text that runs the other way":    {"permit (principal, action, resource); // \u202e", "1:42", "U+202E", ""},
		"a template":                      {`permit (principal == ?principal, action, resource);`, "1:2", "cannot be read", ""},
	} {
		_, err := policy.Compile(configUnchecked(t, c.text), berlin(t))
		errs, ok := err.(source.Errors)
		if !ok || len(errs) == 0 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.HasPrefix(errs[0].Place(), "p0.cedar:"+c.place) || !strings.Contains(errs[0].Message, c.says) || !strings.Contains(errs[0].Hint, c.hint) || errs[0].Excerpt == "" {
			t.Errorf("%s: want %s, got\n%v", name, c.place, err)
		}
	}
}

// configUnchecked is a configuration whose policies have not been looked at in any way.
func configUnchecked(t testing.TB, text string) *access.Config {
	cfg := *config(t)
	cfg.Policies = []access.PolicyFile{{Path: "p0.cedar", Text: text}}
	return &cfg
}

func TestAllMistakesOfAllPoliciesAreFoundAtOnce(t *testing.T) {
	_, err := policy.Compile(config(t, "permit (principal, action, resource) when { principal.nothing };\nforbid (;\nforbid (principal, action, resource == Role::\"x\");", "nonsense;"), berlin(t))
	errs, _ := err.(source.Errors)
	if len(errs) < 4 {
		t.Errorf("found %d:\n%v", len(errs), err)
	}
}

func TestAMixedComparisonIsFoundBesideAnotherMistake(t *testing.T) {
	_, err := policy.Compile(configUnchecked(t, "permit (principal is GitHub::Workload, action == Action::\"acquire\", resource) when {\n  principal.claims.environment == \"x\" &&\n  context.now > 5\n};"), berlin(t))
	errs, _ := err.(source.Errors)
	if len(errs) != 2 || errs[0].Line != 2 || errs[1].Place() != "p0.cedar:3:15" {
		t.Errorf("got\n%v", err)
	}
}

func TestAMistakeDoesNotMakeWhatIsRightBesideItWrong(t *testing.T) {
	scope := "permit (principal is GitHub::Workload, action == Action::\"acquire\", resource) when {\n"
	const ask, wrong = "principal.claims has environment && ", `context.local["Asia/Tokyo"].hour > 1 && `
	for text, want := range map[string]int{
		ask + wrong + `principal.claims.environment == "x"`:                                    1,
		wrong + ask + `principal.claims.environment == "x"`:                                    1,
		wrong + `principal.claims.environment == "x"`:                                          2, // nobody asked
		wrong + ask + `principal.claims.environment == "x" && resource.labels.env == "x"`:      2,
		`principal.claims.environment == "x" && ` + wrong + ask + `principal.issuer == "huhu"`: 2,
	} {
		_, err := policy.Compile(configUnchecked(t, scope+text+" };"), berlin(t))
		if errs, _ := err.(source.Errors); len(errs) != want {
			t.Errorf("%s: want %d, got\n%v", text, want, err)
		}
	}
}

func TestIssuersThatDeclareOneClaimDifferentlyAreRefused(t *testing.T) {
	text := func(second string) access.Files {
		return access.Files{"a.yaml": "kind: Issuer\nname: a\noidc: {url: https://a.example}\nclaims: {team: string, x: long}\n---\nkind: Issuer\nname: b\noidc: {url: https://b.example}\nclaims: {" + second + "}\n"}
	}
	cfg, err := access.Parse(text("team: long"), kinds())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Compile(cfg, nil); err == nil || !strings.Contains(err.Error(), "a.yaml:7") || !strings.Contains(err.Error(), "a.yaml:2") {
		t.Errorf("got %v", err)
	}
	cfg, _ = access.Parse(text("team: string"), kinds())
	engine, err := policy.Compile(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := engine.Schema(); !strings.Contains(s, `"team": String`) || !strings.Contains(s, `"x"?: Long`) {
		t.Errorf("the union is wrong:\n%s", s)
	}
}
