package policy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/source"
)

const machines = `---
kind: Posture
name: machine
of: {corp: team, github: sub}
fields: {healthy: bool, patches: "long?", tags: set<string>, os: "string?"}
max_age: 10m
`

// watched is an engine whose configuration declares posture.
func watched(t testing.TB, policies ...string) *policy.Engine {
	t.Helper()
	files := access.Files{"access.yaml": directory + machines}
	for i, text := range policies {
		files[string(rune('a'+i))+".cedar"] = text
	}
	cfg, err := access.Parse(files, kinds())
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.Compile(cfg, berlin(t))
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

// with is a request of corp with one thing changed.
func with(change func(*policy.Request)) policy.Request {
	r := corpRequest(map[string]any{"team": "payments", "level": int64(1), "groups": []any{}})
	change(&r)
	return r
}

func record(r policy.Request, fields map[string]any) policy.Posture {
	return policy.Posture{ID: "payments", ReportedAt: r.Now.Add(-time.Minute), Fields: fields}
}

func healthy() map[string]any { return map[string]any{"healthy": true, "tags": []any{"a"}} }

// permitWhen is a policy of one condition.
func permitWhen(condition string) string {
	return "permit (principal is Workload, action, resource is Role) when { " + condition + " };"
}

func TestConditionsLookAtWhatIsKnownAndDenyWhatIsNot(t *testing.T) {
	for _, c := range []struct {
		says, condition string
		change          func(*policy.Request)
		want            bool
	}{
		{"a subdivision that is known", `context has subdivision && context.subdivision == "DE-BE"`, func(r *policy.Request) { r.Country, r.Subdivision = "DE", "DE-BE" }, true},
		{"a subdivision that is not known", `context has subdivision && context.subdivision == "DE-BE"`, func(r *policy.Request) { r.Country = "DE" }, false},
		{"young evidence", `context has token_age && context.token_age < duration("5m")`, func(r *policy.Request) { r.TokenAge = new(4 * time.Minute) }, true},
		{"old evidence", `context has token_age && context.token_age < duration("5m")`, func(r *policy.Request) { r.TokenAge = new(5 * time.Minute) }, false},
		{"evidence that does not say how old it is", `context has token_age && context.token_age < duration("5m")`, func(*policy.Request) {}, false},
		{"few other leases", `context.live_leases < 3`, func(r *policy.Request) { r.LiveLeases = new(2) }, true},
		{"many other leases", `context.live_leases < 3`, func(r *policy.Request) { r.LiveLeases = new(3) }, false},
		{"leases that nobody counted", `context.live_leases < 3`, func(*policy.Request) {}, false},
		{"a day of the calendar", `context.local["Europe/Berlin"].date == "2026-07-01"`, func(*policy.Request) {}, true},
		{"a month of the calendar", `context.local["Europe/Berlin"].date like "2026-12-*"`, func(*policy.Request) {}, false},
	} {
		if d := watched(t, permitWhen(c.condition)).Decide(with(c.change)); d.Allow != c.want {
			t.Errorf("%s: %+v", c.says, d.Reasons)
		}
	}
}

func TestPostureCountsOnlyWhileEverythingIsAsItShouldBe(t *testing.T) {
	engine := watched(t, permitWhen(`context.posture has machine && context.posture.machine.healthy && context.posture.machine.tags.contains("a")`))
	for says, c := range map[string]struct {
		change func(*policy.Request)
		want   bool
	}{
		"a healthy machine":                     {func(r *policy.Request) {}, true},
		"a sick machine":                        {func(r *policy.Request) { r.Posture["machine"].Fields["healthy"] = false }, false},
		"no record":                             {func(r *policy.Request) { r.Posture = nil }, false},
		"a record as old as may be":             {func(r *policy.Request) { r.Now = r.Now.Add(9 * time.Minute) }, true},
		"a stale record":                        {func(r *policy.Request) { r.Now = r.Now.Add(9*time.Minute + time.Millisecond) }, false},
		"a record from the future":              {func(r *policy.Request) { r.Now = r.Now.Add(-time.Hour) }, false},
		"a clock slightly ahead":                {func(r *policy.Request) { r.Now = r.Now.Add(-90 * time.Second) }, true},
		"the record of somebody else":           {func(r *policy.Request) { r.Principal.Claims["team"] = "visitors" }, false},
		"a principal without the claim":         {func(r *policy.Request) { delete(r.Principal.Claims, "team") }, false},
		"a field of another type":               {func(r *policy.Request) { r.Posture["machine"].Fields["tags"] = "a" }, false},
		"a field that is missing":               {func(r *policy.Request) { delete(r.Posture["machine"].Fields, "tags") }, false},
		"an optional field of another type":     {func(r *policy.Request) { r.Posture["machine"].Fields["patches"] = "3" }, false},
		"a field that was declared once":        {func(r *policy.Request) { r.Posture["machine"].Fields["gone"] = true }, true},
		"a source that is declared no more":     {func(r *policy.Request) { r.Posture["cluster"] = policy.Posture{} }, true},
		"a number as a stored input writes one": {func(r *policy.Request) { r.Posture["machine"].Fields["patches"] = json.Number("3") }, true},
	} {
		r := with(func(r *policy.Request) { r.Posture = map[string]policy.Posture{"machine": record(*r, healthy())} })
		c.change(&r)
		d := engine.Decide(r)
		if d.Allow != c.want {
			t.Errorf("%s: %+v", says, d.Reasons)
		}
		if again, err := engine.Replay(d.Input()); err != nil || again.Allow != d.Allow {
			t.Errorf("%s, replayed: %v, %v", says, again.Reasons, err)
		}
	}
}

func TestTheSourceSaysWhichClaimNamesTheRecord(t *testing.T) {
	engine := watched(t)
	keys := engine.PostureOf(with(func(*policy.Request) {}).Principal)
	if !slices.Equal(keys, []policy.PostureKey{{Source: "machine", ID: "payments"}}) {
		t.Errorf("of corp: %v", keys)
	}
	if keys = engine.PostureOf(githubRequest().Principal); len(keys) != 1 || keys[0].ID != githubRequest().Principal.Subject {
		t.Errorf("of github: %v", keys)
	}
	for says, claim := range map[string]any{"an empty claim": "", "a claim that is no string": int64(5), "a claim that deceives": "a\u202eb"} {
		if keys := engine.PostureOf(with(func(r *policy.Request) { r.Principal.Claims["team"] = claim }).Principal); len(keys) != 0 {
			t.Errorf("%s: %v", says, keys)
		}
	}
}

func TestPoliciesHaveToAskWhetherPostureIsThere(t *testing.T) {
	for condition, want := range map[string]string{
		`context.posture.machine.healthy`:                                       "may be missing",
		`context.posture has machine && context.posture.machine.os == "linux"`:  "may be missing",
		`context.posture has machine && context.posture.machine.healty`:         `no attribute`,
		`context.posture has cluster && context.posture.cluster.healthy`:        `no posture "cluster"`,
		`context.country == "DE"`:                                               "may be missing",
		`context.subdivision == "DE-BE"`:                                        "may be missing",
		`context.token_age < duration("5m")`:                                    "may be missing",
		`context.live_leases < duration("5m")`:                                  "mixes types",
		`context.posture has machine && context.posture.machine.patches > true`: "",
	} {
		cfg, err := access.Parse(access.Files{"access.yaml": directory + machines, "p.cedar": permitWhen(condition)}, kinds())
		if err != nil {
			t.Fatal(err)
		}
		if _, err = policy.Compile(cfg, berlin(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", condition, err)
		}
	}
}

func TestReportingIsForThoseWhomAPolicyPermits(t *testing.T) {
	engine := watched(t, `permit (principal is Workload, action == Action::"report", resource == Posture::"machine") when { principal.claims.team == "fleet" };`)
	ask := func(team, source string) bool {
		return engine.Decide(with(func(r *policy.Request) {
			r.Action, r.Resource, r.Principal.Claims["team"] = policy.Report, policy.OnPosture(source), team
		})).Allow
	}
	if !ask("fleet", "machine") || ask("payments", "machine") || ask("fleet", "cluster") {
		t.Error("reports are not for those whom the policy permits, or of what is declared")
	}
}

// Clocks go forward in Berlin on 29 March 2026 at 01:00 UTC, and back on 25 October 2026 at 01:00 UTC.
func TestWindowsHoldOnBothEdgesOfSummerTime(t *testing.T) {
	night := permitWhen(`context.local["Europe/Berlin"].hour >= 2 && context.local["Europe/Berlin"].hour < 3`)
	morning := permitWhen(`context.local["Europe/Berlin"].hour < 3 && context.local["Europe/Berlin"].weekday == 7`)
	for _, c := range []struct {
		says, policy, now string
		want              bool
	}{
		{"the night before, at half past two", night, "2026-03-28T01:30:00Z", true},
		{"just before clocks go forward it is one", night, "2026-03-29T00:59:59.999Z", false},
		{"when clocks go forward it is three at once: the window of the hour two never opens", night, "2026-03-29T01:00:00Z", false},
		{"the night after, at half past two", night, "2026-03-30T00:30:00Z", true},
		{"a window up to three closes at the jump", morning, "2026-03-29T00:59:59.999Z", true},
		{"and not an hour later", morning, "2026-03-29T01:00:00Z", false},
		{"before clocks go back it is two for the first time", night, "2026-10-25T00:00:00Z", true},
		{"to its last moment", night, "2026-10-25T00:59:59.999Z", true},
		{"when clocks go back it is two again: the window lasts two hours", night, "2026-10-25T01:00:00Z", true},
		{"to the last moment of the second", night, "2026-10-25T01:59:59.999Z", true},
		{"and closes then", night, "2026-10-25T02:00:00Z", false},
		{"the day is that of the zone, not that of UTC", permitWhen(`context.local["Europe/Berlin"].date == "2026-10-25"`), "2026-10-24T22:00:00Z", true},
		{"and ends there an hour later in winter", permitWhen(`context.local["Europe/Berlin"].date == "2026-10-25"`), "2026-10-25T22:59:59Z", true},
		{"on the last day of a year too", permitWhen(`context.local["Europe/Berlin"].date == "2027-01-01"`), "2026-12-31T23:00:00Z", true},
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		engine := watched(t, c.policy)
		d := engine.Decide(with(func(r *policy.Request) { r.Now = now }))
		if d.Allow != c.want {
			t.Errorf("%s (%s): %+v", c.says, c.now, d.Reasons)
		}
		if again, err := engine.Replay(d.Input()); err != nil || again.Allow != d.Allow {
			t.Errorf("%s, replayed: %v", c.says, err)
		}
	}
}

// stored is an input as it was stored before there were places, ages, counts and posture.
const stored = `{"action":"acquire","administrator":false,"context":{"country":"DE","local":{"Europe/Berlin":{"hour":12,"minute":0,"weekday":3}},` +
	`"now":"2026-07-01T10:00:00.000Z","source_ip":"10.1.2.3","ttl_ms":900000},"principal":{"claims":{"groups":[],"level":1,"team":"payments"},` +
	`"issuer":"corp","issuer_url":"https://id.corp.example","subject":"svc"},"resource":{"id":"orders-readonly","type":"Role"}}`

func TestInputsOfOldAreDecidedAgain(t *testing.T) {
	for condition, want := range map[string]bool{
		`context.source_ip == ip("10.1.2.3") && context has country`:   true,
		`context.local["Europe/Berlin"].date == "2026-07-01"`:          true,
		`context has token_age || context has subdivision`:             false,
		`context.live_leases < 5`:                                      false,
		`context.posture has machine`:                                  false,
		`!(context.posture has machine) && principal.claims.level < 2`: true,
	} {
		if d, err := watched(t, permitWhen(condition)).Replay([]byte(stored)); err != nil || d.Allow != want {
			t.Errorf("%s: %+v, %v", condition, d.Reasons, err)
		}
	}
}

func TestAnInputSaysEverythingThatWasDecidedOn(t *testing.T) {
	r := with(func(r *policy.Request) {
		r.Country, r.Subdivision, r.TokenAge, r.LiveLeases = "DE", "DE-BE", new(90*time.Second), new(0)
		r.Posture = map[string]policy.Posture{"machine": record(*r, map[string]any{"healthy": true, "tags": []any{}, "patches": int64(3)})}
	})
	first := watched(t, permitWhen(`context.live_leases == 0 && context has token_age && context.token_age == duration("90s") && context has subdivision
		&& context.posture has machine && context.posture.machine has patches && context.posture.machine.patches == 3
		&& context.posture.machine.reported_at < context.now`)).Decide(r)
	if !first.Allow {
		t.Fatalf("denied: %+v", first.Reasons)
	}
	recalled, err := policy.Recall(first.Input())
	if err != nil {
		t.Fatal(err)
	}
	again := watched(t).Decide(recalled)
	if !bytes.Equal(again.Input(), first.Input()) {
		t.Errorf("it became\n%s\nfrom\n%s", again.Input(), first.Input())
	}
}

func TestAPermitForAcquireWithoutAConditionIsFound(t *testing.T) {
	scope := `(principal is Workload, action == Action::"acquire", resource is Role)`
	for text, open := range map[string]bool{
		"permit " + scope + ";":                 true,
		"permit (principal, action, resource);": true,
		`permit (principal, action in [Action::"renew", Action::"acquire"], resource);`: true,
		"permit " + scope + " when { true };":                                           true,
		"permit " + scope + " when { 1 < 2 } unless { false };":                         true,
		"permit " + scope + ` when { context.live_leases < 3 };`:                        false,
		"permit " + scope + ` unless { principal.subject like "*" };`:                   false,
		"permit " + scope + ` when { true } when { resource.labels has env };`:          false,
		"forbid " + scope + ";": false,
		`permit (principal, action == Action::"renew", resource);`:                        false,
		`permit (principal, action == Action::"report", resource == Posture::"machine");`: false,
	} {
		found := watched(t, "// a comment\n"+text).Unconditional()
		if (len(found) == 1) != open || open && (found[0].File != "a.cedar" || found[0].Line != 2) {
			t.Errorf("%s: %v", text, found)
		}
	}
}

func TestRolesWhosePoliciesLookAtTheTimeAreKnown(t *testing.T) {
	for text, want := range map[string][]string{
		`permit (principal, action, resource == Role::"orders-admin") when { context.now < datetime("2027-01-01") };`:     {"orders-admin"},
		`forbid (principal, action, resource in Target::"orders-db") when { context.local["Europe/Berlin"].hour < 6 };`:   {"orders-admin", "orders-readonly"},
		`permit (principal, action, resource is Role) unless { context.local["Europe/Berlin"].weekday > 5 };`:             {"orders-admin", "orders-readonly"},
		`permit (principal, action == Action::"read", resource is System) when { context.now < datetime("2027-01-01") };`: nil,
		`permit (principal, action, resource == Role::"orders-admin") when { context.ttl < duration("1h") };`:             nil,
		`permit (principal, action, resource == Role::"orders-admin") when { context == context };`:                       {"orders-admin"},
	} {
		if got := watched(t, text).Timed(); !slices.Equal(got, want) {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func FuzzRecall(f *testing.F) {
	f.Add([]byte(stored))
	r := with(func(r *policy.Request) {
		r.TokenAge, r.LiveLeases = new(time.Minute), new(3)
		r.Posture = map[string]policy.Posture{"machine": record(*r, healthy())}
	})
	engine := watched(f, permitWhen(`context.posture has machine && context.posture.machine.healthy && context.live_leases < 5`))
	f.Add(engine.Decide(r).Input())
	f.Add([]byte(`{"context":{"now":"2026-07-01T10:00:00.000Z","posture":{"machine":{"fields":{"healthy":1e9},"id":"payments","reported_at":"x"}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := policy.Recall(data)
		if err != nil {
			return
		}
		d := engine.Decide(r)
		again, err := engine.Replay(d.Input())
		if err != nil || again.Allow != d.Allow {
			t.Errorf("%v became %v, %v: %s", d.Reasons, again.Reasons, err, d.Input())
		}
	})
}

func TestMistakesInSourcesOfPostureAreShown(t *testing.T) {
	for document, want := range map[string]string{
		"kind: Posture\nname: a\nof: {nobody: sub}\nfields: {x: bool}\nmax_age: 1h\n":                                                                                         "there is no issuer",
		"kind: Posture\nname: a\nof: {corp: level}\nfields: {x: bool}\nmax_age: 1h\n":                                                                                         "no string claim",
		"kind: Posture\nname: a\nof: {corp: tem}\nfields: {x: bool}\nmax_age: 1h\n":                                                                                           "team",
		"kind: Posture\nname: a\nfields: {x: bool}\nmax_age: 1h\n":                                                                                                            "speaks of nobody",
		"kind: Posture\nname: a\nof: {corp: sub}\nmax_age: 1h\n":                                                                                                              "0 fields",
		"kind: Posture\nname: a\nof: {corp: sub}\nfields: {x: float}\nmax_age: 1h\n":                                                                                          "not a type",
		"kind: Posture\nname: a\nof: {corp: sub}\nfields: {reported_at: bool}\nmax_age: 1h\n":                                                                                 "every record has",
		"kind: Posture\nname: a\nof: {corp: sub}\nfields: {x: bool}\n":                                                                                                        "believed for",
		"kind: Posture\nname: a\nof: {corp: sub}\nfields: {x: bool}\nmax_age: 1000h\n":                                                                                        "believed for",
		"kind: Posture\nname: a\nof: {corp: sub}\nfields: {x: bool}\nmax_age: 1h\nread: {url: \"http://health.example.com/\"}\n":                                              "not https",
		"kind: Posture\nname: a\nof: {corp: sub}\nfields: {x: bool}\nmax_age: 1h\nread: {url: \"https://me:pw@health.example.com/\"}\n":                                       "a user",
		"kind: Posture\nname: a\nof: {corp: sub}\nfields: {x: bool}\nmax_age: 1m\nread: {url: \"https://health.example.com/\", every: 1m}\n":                                  "cannot be read every",
		"kind: Posture\nname: a\nof: {corp: sub}\nfields: {x: bool}\nmax_age: 1h\nwebhook: x\n":                                                                               "unknown field",
		"kind: Posture\nname: machine\nof: {corp: sub}\nfields: {x: bool}\nmax_age: 1h\n---\nkind: Posture\nname: machine\nof: {corp: sub}\nfields: {x: bool}\nmax_age: 1h\n": "defined twice",
	} {
		_, err := access.Parse(access.Files{"a.yaml": directory, "z.yaml": document}, kinds())
		wrong, ok := errors.AsType[source.Errors](err)
		if !ok || !strings.Contains(err.Error(), want) || wrong[0].File != "z.yaml" || wrong[0].Line == 0 {
			t.Errorf("%s%v", document, err)
		}
	}
}
