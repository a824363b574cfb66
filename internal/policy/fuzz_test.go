package policy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/source"
)

func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		example, `permit (principal, action, resource);`, `forbid (principal, action in [Action::"read"], resource) unless { context has country };`,
		`@id("x") permit (principal is Workload in Issuer::"corp", action, resource in Target::"orders-db") when { if 1 < 2 then !true else -5 > 3 };`,
		`permit (principal, action, resource) when { {a: 1}.a == [1, 2].contains(1) || "x" like "*\*" };`, `permit (principal == Workload::"corp:\u{1F600}", action, resource);`,
		`permit (principal, action, resource) when { context.local["Europe/Berlin"].hour < 5 && decimal("1.0").lessThan(decimal("2.0")) };`, "// only", `"`, `;;`, `@a@b("c")permit`,
	} {
		f.Add(seed)
	}
	cfg := config(f)
	zones := berlin(f)
	f.Fuzz(func(t *testing.T, text string) {
		mine := *cfg
		mine.Policies = []access.PolicyFile{{Path: "f.cedar", Text: text}}
		engine, err := policy.Compile(&mine, zones)
		if err != nil {
			errs, ok := err.(source.Errors)
			if !ok || len(errs) == 0 || strings.TrimSpace(errs[0].Message) == "" {
				t.Fatalf("an error without a mistake: %v", err)
			}
			_ = err.Error()
			return
		}
		for _, r := range []policy.Request{githubRequest(), corpRequest(map[string]any{"team": "a", "level": int64(1), "groups": []any{}})} {
			d := engine.Decide(r)
			for _, reason := range d.Reasons {
				if strings.Contains(reason.Message, "type error") || strings.Contains(reason.Message, "broke off") {
					t.Errorf("the validator let through what fails: %s\n%s", reason.Message, text)
				}
			}
		}
	})
}

func FuzzDecide(f *testing.F) {
	for _, seed := range []string{`{"team":"a","level":4,"groups":["x"]}`, `{"team":1.5}`, `{"level":1e400,"groups":[1,"a",null]}`, `{"acme.dev/tier":{"a":[]},"admin":null}`, `{"level":9223372036854775808}`} {
		f.Add([]byte(seed), "subject")
	}
	engine := compile(f, example, `permit (principal is Workload, action, resource is Role) when { principal.claims.team like "a*" && principal.claims.groups.contains("x") };
forbid (principal is Workload, action, resource is Role) when { principal.claims.level > 3 || (principal.claims has admin && !principal.claims.admin) };`)
	f.Fuzz(func(t *testing.T, payload []byte, subject string) {
		var claims map[string]any
		decoder := json.NewDecoder(bytes.NewReader(payload))
		decoder.UseNumber()
		if decoder.Decode(&claims) != nil {
			return
		}
		for _, issuer := range []string{"corp", "github", subject} {
			r := corpRequest(claims)
			r.Principal.Issuer, r.Principal.Subject = issuer, subject
			d := engine.Decide(r)
			if len(d.Reasons) == 0 {
				t.Fatal("a decision without reasons")
			}
			again, err := engine.Replay(d.Input())
			if err != nil {
				t.Fatalf("%v: %s", err, d.Input())
			}
			if again.Allow != d.Allow {
				t.Errorf("%v became %v: %s", d, again, d.Input())
			}
		}
	})
}

func TestOneEngineDecidesForManyAtOnce(t *testing.T) {
	engine := compile(t, example)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 200 {
				r := githubRequest()
				r.Now = r.Now.Add(time.Duration(i) * time.Second)
				if d := engine.Decide(r); !d.Allow {
					t.Errorf("denied: %+v", d.Reasons)
				}
			}
		})
	}
	group.Wait()
}

func TestHugePoliciesAreRefusedQuickly(t *testing.T) {
	scope := "permit (principal, action, resource) when { "
	for name, text := range map[string]string{
		"brackets":     scope + strings.Repeat("(", 100_000) + "true" + strings.Repeat(")", 100_000) + " };",
		"signs":        scope + strings.Repeat("!", 100_000) + "true };",
		"conditionals": scope + strings.Repeat("if true then true else ", 50_000) + "true };",
		"conjuncts":    scope + strings.Repeat("true && ", 50_000) + "true };",
		"dots":         scope + "context" + strings.Repeat(".a", 100_000) + " };",
	} {
		start := time.Now()
		_, err := policy.Compile(configUnchecked(t, text), berlin(t))
		if err == nil || time.Since(start) > 5*time.Second {
			t.Errorf("%s: %v after %s", name, err != nil, time.Since(start))
		}
	}
	for name, text := range map[string]string{
		"conjuncts within the bound":    scope + strings.Repeat("context has country && ", 900) + "true };",
		"conditionals within the bound": scope + strings.Repeat("if context has country then true else ", 400) + "true };",
		"names within the bound":        "permit (principal is Workload, action, resource) when { " + strings.Repeat(`principal.claims has admin && principal.claims.admin && `, 300) + "true };",
		"mistakes within the bound":     "permit (principal is Workload, action, resource) when { " + strings.Repeat(`principal.claims.admin && `, 500) + "true };",
		"comparisons within the bound":  scope + strings.Repeat(`context.now > 5 && `, 500) + "true };",
	} {
		start := time.Now()
		policy.Compile(configUnchecked(t, text), berlin(t))
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: took %s", name, took)
		} else if testing.Verbose() {
			fmt.Println(name, took)
		}
	}
}
