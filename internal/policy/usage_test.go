package policy_test

import (
	"testing"

	"github.com/daypass/daypass/internal/policy"
)

func TestPoliciesThatTakeRecordsAsOneValueSeeThemWhole(t *testing.T) {
	claims := map[string]any{"team": "a", "level": int64(1), "groups": []any{"x"}}
	for text, want := range map[string]bool{
		`permit (principal is Workload, action, resource is Role) when { principal.claims == principal.claims && (if context.ttl > duration("1h") then principal.claims else principal.claims).team == "a" };`: true,
		`permit (principal is Workload, action, resource is Role) when { context == context && [context.local].contains(context.local) };`:                                                                     true,
		`permit (principal is Workload, action, resource is Role) when { (if principal.claims.level > 3 then context else context).local["Europe/Berlin"].hour == 12 };`:                                       true,
		`permit (principal is Workload, action, resource is Role) when { (if principal.claims.level > 3 then context else context) has country };`:                                                             false,
		`permit (principal is Workload, action, resource is Role) when { context has country && context.country == "DE" };`:                                                                                    false,
		`permit (principal is Workload, action, resource is Role) when { principal.claims has admin };`:                                                                                                        false,
		`permit (principal is Workload, action, resource is Role) when { principal has claims.team && principal.claims["team"] == "a" };`:                                                                      true,
		`permit (principal is Workload, action, resource is Role) when { context.local["Europe/Berlin"] == {hour: 12, minute: 0, weekday: 3, date: "2026-07-01"} };`:                                           true,
	} {
		if d := compile(t, text).Decide(corpRequest(claims)); d.Allow != want {
			t.Errorf("%s: %+v", text, d.Reasons)
		}
	}
	r := corpRequest(claims)
	r.Country = "DE"
	if d := compile(t, `permit (principal, action, resource is Role) when { context has country && ["DE", "FR"].contains(context.country) };`).Decide(r); !d.Allow {
		t.Errorf("denied: %+v", d.Reasons)
	}
	_ = policy.Acquire
}
