package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/policy"
)

// estate returns an engine with n roles and one policy for each, as a big user has them.
func estate(t testing.TB, n int) *policy.Engine {
	t.Helper()
	var roles, policies strings.Builder
	roles.WriteString("kind: Issuer\nname: github\npreset: github-actions\n---\nkind: Target\nname: db\nfake: {}\n")
	for i := range n {
		fmt.Fprintf(&roles, "---\nkind: Role\nname: role-%d\ntarget: db\nlabels: {env: production}\nfake: {}\n", i)
		fmt.Fprintf(&policies, `permit (principal is GitHub::Workload, action == Action::"acquire", resource == Role::"role-%d") when {
  principal.claims.repository == "acme/orders-%d" && principal.claims.ref like "refs/heads/*" &&
  ["a", "b", "production"].contains("production") && context.source_ip.isInRange(ip("10.0.0.0/8")) &&
  context.local["Europe/Berlin"].hour >= 6
};
`, i, i)
	}
	files := access.Files{}
	for i, part := range split(roles.String(), "---\n", 500) {
		files[fmt.Sprintf("r%d.yaml", i)] = part
	}
	for i, part := range split(policies.String(), "};\n", 500) {
		files[fmt.Sprintf("p%d.cedar", i)] = part
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

// split cuts text after every n-th mark.
func split(text, mark string, n int) []string {
	var parts []string
	pieces := strings.SplitAfter(text, mark)
	for len(pieces) > 0 {
		m := min(n, len(pieces))
		if part := strings.Join(pieces[:m], ""); part != "" {
			parts = append(parts, part)
		}
		pieces = pieces[m:]
	}
	return parts
}

// runnerRequest has all the claims of a real token.
func runnerRequest(role int) policy.Request {
	r := githubRequest()
	r.Resource = policy.OnRole(fmt.Sprintf("role-%d", role))
	for _, name := range []string{
		"actor", "actor_id", "base_ref", "event_name", "head_ref", "job_workflow_ref", "ref_type", "repository_id",
		"repository_owner", "repository_owner_id", "repository_visibility", "run_attempt", "run_id", "run_number",
		"runner_environment", "sha", "workflow", "workflow_ref", "workflow_sha", "environment", "ref_protected",
	} {
		r.Principal.Claims[name] = "some value of a usual length"
	}
	r.Principal.Claims["repository"] = fmt.Sprintf("acme/orders-%d", role)
	return r
}

// BenchmarkDecide measures decisions at growing numbers of policies, and in one last line the ratio of 10,000
// to 10 from interleaved runs.
func BenchmarkDecide(b *testing.B) {
	sizes := []int{10, 1000, 10_000}
	engines := map[int]*policy.Engine{}
	for _, n := range sizes {
		engines[n] = estate(b, n)
		r := runnerRequest(n / 2)
		if d := engines[n].Decide(r); !d.Allow {
			b.Fatalf("denied: %+v", d.Reasons)
		}
		b.Run(fmt.Sprintf("policies=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				engines[n].Decide(r)
			}
		})
	}
	b.Run("ratio", func(b *testing.B) {
		small, large := runnerRequest(5), runnerRequest(5000)
		for b.Loop() {
			engines[10].Decide(small)
		}
		b.ReportMetric(ratio(engines[10], small, engines[10_000], large), "x(10000/10)")
	})
}

// ratio returns how much dearer a decision is at the second engine. Runs are interleaved, and the best of each
// counts, so that whatever else the machine does counts little.
func ratio(a *policy.Engine, ra policy.Request, b *policy.Engine, rb policy.Request) float64 {
	best := func(sofar time.Duration, e *policy.Engine, r policy.Request) time.Duration {
		start := time.Now()
		for range 1000 {
			e.Decide(r)
		}
		return min(sofar, time.Since(start))
	}
	one, other := time.Hour, time.Hour
	for range 20 {
		one, other = best(one, a, ra), best(other, b, rb)
	}
	return float64(other) / float64(one)
}

// A decision costs the same with ten policies and with ten thousand because it looks at as many: the benchmark
// tells the time, this the reason.
func TestADecisionLooksAtAsManyPoliciesAmongTenThousandAsAmongTen(t *testing.T) {
	if n := estate(t, 10).Looks(runnerRequest(5)); n != 1 {
		t.Errorf("among 10 policies it looks at %d", n)
	}
	if n := estate(t, 10_000).Looks(runnerRequest(5000)); n != 1 {
		t.Errorf("among 10,000 policies it looks at %d", n)
	}
}

// BenchmarkDecideConditions measures a decision that looks at everything that is so around a request.
func BenchmarkDecideConditions(b *testing.B) {
	engine := watched(b, permitWhen(`context has country && context.country == "DE" && context has subdivision && context.subdivision == "DE-BE" &&
  context.local["Europe/Berlin"].weekday <= 5 && context.local["Europe/Berlin"].hour >= 6 && context.source_ip.isInRange(ip("10.0.0.0/8")) &&
  context has token_age && context.token_age < duration("5m") && context.live_leases < 3 &&
  context.posture has machine && context.posture.machine.healthy && context.posture.machine.tags.contains("a")`))
	r := with(func(r *policy.Request) {
		r.Country, r.Subdivision, r.TokenAge, r.LiveLeases = "DE", "DE-BE", new(time.Minute), new(1)
		r.Posture = map[string]policy.Posture{"machine": record(*r, healthy())}
	})
	if d := engine.Decide(r); !d.Allow {
		b.Fatalf("denied: %+v", d.Reasons)
	}
	b.ReportAllocs()
	for b.Loop() {
		engine.Decide(r)
	}
}
