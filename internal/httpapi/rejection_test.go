package httpapi_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/httpapi"
)

func TestARefusedTokenIsToldWhichRuleItBrokeAndIsCountedByIt(t *testing.T) {
	r := newRig(t, nil)
	now := time.Now().Unix()
	token := func(change map[string]any) string {
		claims := map[string]any{"iss": r.issuer.URL(), "aud": r.URL(), "sub": "worker", "iat": now, "exp": now + 300}
		maps.Copy(claims, change)
		return r.issuer.Token(claims)
	}
	good := token(nil)
	for reason, c := range map[string]struct{ token, rule string }{
		"expired":   {token(map[string]any{"iat": now - 900, "exp": now - 600}), "RFC 7519 §4.1.4"},
		"early":     {token(map[string]any{"nbf": now + 600, "exp": now + 900}), "RFC 7519 §4.1.5"},
		"audience":  {token(map[string]any{"aud": "https://elsewhere.example"}), "RFC 7519 §4.1.3"},
		"issuer":    {token(map[string]any{"iss": "https://elsewhere.example"}), "RFC 7519 §4.1.1"},
		"signature": {good[:len(good)-8] + strings.Repeat("A", 8), "RFC 7515 §5.2"},
		"malformed": {"a.b.c", "RFC 7519 §7.2"},
	} {
		got := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer(c.token))
		checkProblem(t, got, 401, "unauthenticated")
		if !strings.Contains(got.body, c.rule) {
			t.Errorf("%s: %s does not name %s", reason, got.body, c.rule)
		}
		got = r.post(t, "/oauth/token", fields(c.token, map[string]string{"scope": "role:reader"}))
		checkOAuth(t, got, 400, "invalid_request", c.token)
		if !strings.Contains(got.body, strings.ReplaceAll(c.rule, "§", "section ")) {
			t.Errorf("%s: %s does not name %s", reason, got.body, c.rule)
		}
		if text := r.ask(t, "GET", "/metrics", "").body; !strings.Contains(text, `daypass_evidence_rejected_total{reason="`+reason+`"} 2`) {
			t.Errorf("%s is not counted", reason)
		}
	}
}

// What is refused is counted by the code that the caller is told, and by no word of the caller's.
func TestEachProblemIsCountedByItsCode(t *testing.T) {
	r := newRig(t, nil)
	count := func(code string) string {
		for line := range strings.Lines(r.ask(t, "GET", "/metrics", "").body) {
			if value, ok := strings.CutPrefix(line, `daypass_refusals_total{code="`+code+`"} `); ok {
				return strings.TrimSpace(value)
			}
		}
		return "nothing"
	}
	for _, code := range httpapi.Codes() {
		if got := count(code); got != "0" {
			t.Errorf("%s began with %s", code, got)
		}
	}
	who := bearer(r.token("worker"))
	for _, c := range []struct {
		method, path, body, code string
		status                   int
	}{
		{"POST", "/v1/leases", `{"role":"reader","canary":1}`, "invalid", 400},
		{"POST", "/v1/leases", `{"role":"no-such-role"}`, "denied", 403},
		{"GET", "/v1/canary", "", "not_found", 404},
		{"DELETE", "/v1/leases", "", "method_not_allowed", 405},
	} {
		checkProblem(t, r.ask(t, c.method, c.path, c.body, who), c.status, c.code)
		if got := count(c.code); got != "1" {
			t.Errorf("%s %s counted %s of %s", c.method, c.path, got, c.code)
		}
	}
	text := r.ask(t, "GET", "/metrics", "").body
	if !strings.Contains(text, `daypass_denials_total{reason="role"} 1`) || strings.Contains(text, "canary") {
		t.Error("the denial is not counted by its reason, or words of the caller are in the metrics")
	}
}

func TestAnOAuthEndpointRefusesAMethodInTheWordsOfOAuth(t *testing.T) {
	r := newRig(t, nil)
	for _, path := range []string{"/oauth/token", "/oauth/introspect", "/oauth/revoke"} {
		got := r.ask(t, "GET", path, "")
		checkOAuth(t, got, 405, "invalid_request")
		if got.header.Get("Allow") != "POST" {
			t.Errorf("%s allows %q", path, got.header.Get("Allow"))
		}
	}
}
