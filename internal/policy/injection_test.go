package policy_test

import (
	"testing"

	"github.com/daypass/daypass/internal/policy"
)

// Claims and subjects are data in policies, whatever is written in them: no text ends a text, is a pattern, or names an
// entity, and no object stands for one.
func TestNothingWrittenInAClaimIsReadAsPolicy(t *testing.T) {
	engine := compile(t,
		`permit (principal is Workload, action == Action::"acquire", resource == Role::"orders-readonly")
when { principal.claims.team == "payments" && principal.claims.groups.contains("staff") && !(principal.subject like "svc-*") };`)
	ask := func(team, groups any, subject string) policy.Decision {
		r := corpRequest(map[string]any{"team": team, "level": int64(1), "groups": groups})
		r.Principal.Subject = subject
		return engine.Decide(r)
	}
	staff := []any{"staff"}
	if d := ask("payments", staff, "svc"); !d.Allow {
		t.Fatalf("denied: %+v", d.Reasons)
	}
	for _, team := range []any{
		`payments" || true || "`, `x" } ; permit(principal,action,resource); //`, "payments\x00", "payments ", "Payments", "*", "pay*", `\"payments`, "payments\nx",
		map[string]any{"__entity": map[string]any{"type": "Role", "id": "payments"}}, map[string]any{"__extn": map[string]any{"fn": "ip", "arg": "10.0.0.1"}},
		[]any{"payments"}, true, nil,
	} {
		if d := ask(team, staff, "svc"); d.Allow {
			t.Errorf("team %v was taken for payments", team)
		}
	}
	for _, groups := range []any{"staff", []any{`staff", "x`}, []any{[]any{"staff"}}, []any{map[string]any{"__entity": map[string]any{"type": "Group", "id": "staff"}}}, []any{"*"}} {
		if d := ask("payments", groups, "svc"); d.Allow {
			t.Errorf("groups %v hold staff", groups)
		}
	}
	if d := ask("payments", staff, `svc-"; permit(principal, action, resource); //`); d.Allow {
		t.Error("a subject wrote a policy")
	}
	// A subject that is written as an entity is only a subject.
	admin := compile(t, `permit (principal == Workload::"corp:boss", action, resource is Role);`)
	for _, subject := range []string{`x", Workload::"corp:boss`, `boss"`, "BOSS", "boss ", "corp:boss"} {
		r := corpRequest(map[string]any{"team": "a", "level": int64(1), "groups": []any{}})
		if r.Principal.Subject = subject; admin.Decide(r).Allow {
			t.Errorf("subject %q passes for boss", subject)
		}
	}
	r := corpRequest(map[string]any{"team": "a", "level": int64(1), "groups": []any{}})
	if r.Principal.Subject = "boss"; !admin.Decide(r).Allow {
		t.Error("boss was denied")
	}
}
