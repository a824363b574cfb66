package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/httpapi"
)

// endpoints are all calls, with a body that is good where one is taken.
var endpoints = []struct {
	method, path, body string
	open               bool
}{
	{"POST", "/v1/leases", `{"role":"reader"}`, false},
	{"GET", "/v1/leases", "", false},
	{"GET", "/v1/leases/aaaaaaaaaaaaaaaaaaaa", "", false},
	{"POST", "/v1/leases/aaaaaaaaaaaaaaaaaaaa/renew", `{}`, false},
	{"DELETE", "/v1/leases/aaaaaaaaaaaaaaaaaaaa", "", false},
	{"POST", "/v1/locks", `{"match":{"role":"reader"},"reason":"a test","dry_run":true}`, false},
	{"GET", "/v1/locks", "", false},
	{"DELETE", "/v1/locks/aaaaaaaaaaaaaaaaaaaa", "", false},
	{"GET", "/v1/decisions/aaaaaaaaaaaaaaaaaaaa", "", false},
	{"PUT", "/v1/access", `{"files":{"a.txt":""}}`, false},
	{"POST", "/v1/access/check", `{"files":{}}`, false},
	{"GET", "/v1/access/revisions", "", false},
	{"POST", "/v1/access/revisions/" + strings.Repeat("0", 64) + "/activate", "", false},
	{"GET", "/v1/schema", "", false},
	{"PUT", "/v1/posture/device/a", `{"fields":{"healthy":true}}`, false},
	{"GET", "/v1/posture/device/a", "", false},
	{"DELETE", "/v1/posture/device/a", "", false},
	{"GET", "/v1/posture/device", "", false},
	{"GET", "/v1/posture", "", false},
	{"POST", "/v1/devices/enrolments", `{"issuer":"edge","name":"pump-7"}`, false},
	{"POST", "/v1/devices", `{"token":"x"}`, true},
	{"GET", "/v1/devices?issuer=edge", "", false},
	{"POST", "/v1/devices/edge/pump-7/renew", `{}`, true},
	{"DELETE", "/v1/devices/edge/pump-7", "", false},
	{"GET", "/v1/ledger/checkpoint", "", false},
	{"GET", "/v1/ledger/entries", "", false},
	{"GET", "/v1/ledger/proof?index=0", "", false},
	{"GET", "/v1/ledger/export", "", false},
	{"GET", "/v1/ledger/tile/0/000.p/1", "", false},
	{"POST", "/v1/keys/rotate", "", false},
	{"POST", "/v1/keys/issuer/rotate", `{}`, false},
	{"GET", "/.well-known/openid-configuration", "", true},
	{"GET", "/.well-known/jwks.json", "", true},
	{"GET", "/.well-known/oauth-authorization-server", "", true},
	{"POST", "/oauth/token", "", true}, // their bodies and refusals are OAuth's: oauth_test.go
	{"POST", "/oauth/introspect", "", true},
	{"POST", "/oauth/revoke", "", true},
	{"GET", "/v1/status", "", false},
	{"POST", "/v1/targets/vault/check", "", false},
	{"GET", "/healthz", "", true},
	{"GET", "/readyz", "", true},
	{"GET", "/metrics", "", true},
	{"GET", "/openapi.json", "", true},
}

// checkProblem holds a refusal to what all refusals are.
func checkProblem(t *testing.T, a answer, status int, code string) {
	t.Helper()
	if a.status != status {
		t.Errorf("status %d, want %d: %s", a.status, status, a.body)
		return
	}
	p := a.problem(t)
	if p.Status != status || p.Code != code || p.Type != "tag:daypass.dev,2026:problem/"+code || p.Title == "" {
		t.Errorf("problem %+v, want code %s", p, code)
	}
	if p.Instance == "" || p.Instance != a.header.Get(api.HeaderRequest) {
		t.Errorf("instance %q is not the request ID %q", p.Instance, a.header.Get(api.HeaderRequest))
	}
	if a.header.Get("Content-Type") != api.MediaProblem || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers: %v", a.header)
	}
	if status == http.StatusUnauthorized && a.header.Get("WWW-Authenticate") == "" {
		t.Error("no WWW-Authenticate")
	}
	if ruled := []string{"unauthenticated", "method_not_allowed", "too_large", "unsupported_media"}; slices.Contains(ruled, code) && !strings.Contains(p.Detail, "RFC ") {
		t.Errorf("%q names no rule", p.Detail)
	}
}

func TestWhatCannotBeReadIsToldTheRuleThatItBreaks(t *testing.T) {
	r := newRig(t, nil)
	worker := bearer(r.token("worker"))
	for says, c := range map[string]struct {
		path, body string
		head       []string
		rule       string
	}{
		"no token":                 {"/v1/leases", `{}`, nil, "RFC 6750 §3"},
		"another scheme":           {"/v1/leases", `{}`, []string{"Authorization: Basic dTpw"}, "RFC 6750 §2.1"},
		"two tokens":               {"/v1/leases", `{}`, []string{worker, worker}, "RFC 9110 §5.3"},
		"an unknown field":         {"/v1/leases", `{"rule":1}`, []string{worker}, "/openapi.json"},
		"a value of another type":  {"/v1/leases", `{"role":1}`, []string{worker}, "/openapi.json"},
		"no role":                  {"/v1/leases", `{}`, []string{worker}, "/openapi.json"},
		"an unknown parameter":     {"/v1/leases?a=1", `{}`, []string{worker}, "/openapi.json"},
		"a field twice":            {"/v1/leases", `{"role":"a","role":"b"}`, []string{worker}, "RFC 8259 §4"},
		"no JSON":                  {"/v1/leases", `role`, []string{worker}, "RFC 8259 §2"},
		"a body of another type":   {"/v1/leases", `{}`, []string{worker, "Content-Type: text/plain"}, "RFC 9110 §15.5.16"},
		"a large body":             {"/v1/leases", strings.Repeat(" ", 1<<20), []string{worker}, "RFC 9110 §15.5.14"},
		"no call":                  {"/v1/lease", `{}`, []string{worker}, "RFC 9110 §15.5.5"},
		"an enrolment token":       {"/v1/devices", `{"token":"no.token.atall"}`, nil, "RFC "},
		"two keys of one request":  {"/v1/leases", `{"role":"reader"}`, []string{worker, "Idempotency-Key: a", "Idempotency-Key: b"}, "RFC 9110 §5.3"},
		"a page of another origin": {"/v1/leases", `{"role":"reader"}`, []string{worker, "Sec-Fetch-Site: cross-site"}, "RFC 6454 §7"},
	} {
		got := r.ask(t, "POST", c.path, c.body, c.head...)
		if detail := got.problem(t).Detail; got.status < 400 || !strings.Contains(detail, c.rule) {
			t.Errorf("%s: %d, %q does not name %s", says, got.status, detail, c.rule)
		}
	}
}

func TestEveryCallRefusesWhatItDoesNotKnow(t *testing.T) {
	r := newRig(t, nil)
	boss := bearer(r.token("boss"))
	for _, e := range endpoints {
		t.Run(e.method+" "+e.path, func(t *testing.T) {
			if !e.open {
				checkProblem(t, r.ask(t, e.method, e.path, e.body), 401, "unauthenticated")
				checkProblem(t, r.ask(t, e.method, e.path, e.body, bearer("no.token.atall")), 401, "unauthenticated")
				checkProblem(t, r.ask(t, e.method, e.path, e.body, "Authorization: Basic dTpw"), 401, "unauthenticated")
				checkProblem(t, r.ask(t, e.method, e.path, e.body, boss, boss), 401, "unauthenticated")
				checkProblem(t, r.ask(t, e.method, e.path, e.body, bearer(strings.Repeat("a", api.MaxToken+1))), 401, "unauthenticated")
				query := "?nonsense=" + canary
				if strings.Contains(e.path, "?") {
					query = "&nonsense=" + canary
				}
				checkProblem(t, r.ask(t, e.method, e.path+query, e.body, boss), 400, "invalid")
			}
			if got := r.ask(t, "PATCH", e.path, "", boss); strings.HasPrefix(e.path, "/oauth/") {
				checkOAuth(t, got, 405, "invalid_request")
			} else {
				checkProblem(t, got, 405, "method_not_allowed")
			}
			if e.body == "" {
				return
			}
			for name, bad := range map[string]string{
				"no JSON":          `{"role"`,
				"a list":           `[]`,
				"a text":           `"` + canary + `"`,
				"trailing data":    e.body + `{}`,
				"an unknown field": `{"` + canary + `":1}`,
				"a field twice":    `{"role":"a","role":"b","files":{"a":"","a":""},"ttl":"1m","ttl":"1m"}`,
				"another case":     `{"Role":"reader","FILES":{},"TTL":"1m","Match":{}}`,
				"bad UTF-8":        "{\"role\":\"\xff\",\"reason\":\"\xff\",\"files\":{\"\xff\":\"\"}}",
				"deep nesting":     strings.Repeat(`{"match":`, 5_000),
				"deep lists":       strings.Repeat(`[`, 50_000),
			} {
				got := r.ask(t, e.method, e.path, bad, boss, "Content-Type: application/json")
				if got.status != 400 {
					t.Errorf("%s: %d %s", name, got.status, got.body)
				} else {
					checkProblem(t, got, 400, "invalid")
				}
			}
			checkProblem(t, r.ask(t, e.method, e.path, e.body, boss, "Content-Type: text/plain"), 415, "unsupported_media")
			checkProblem(t, r.ask(t, e.method, e.path, e.body, boss, "Content-Encoding: gzip", "Content-Type: application/json"), 415, "unsupported_media")
			checkProblem(t, r.ask(t, e.method, e.path, `{"reason":"`+strings.Repeat("a", api.MaxAccess+1)+`"}`, boss), 413, "too_large")
		})
	}
	if strings.Contains(r.log.String(), canary) {
		at := strings.Index(r.log.String(), canary)
		t.Errorf("the log quotes what was refused: %s", r.log.String()[max(0, at-300):at+40])
	}
}

func TestBadValuesAreNamed(t *testing.T) {
	r := newRig(t, nil)
	boss := bearer(r.token("boss"))
	for _, c := range []struct {
		what, method, path, body, says string
		head                           []string
	}{
		{"a ttl in days", "POST", "/v1/leases", `{"role":"reader","ttl":"1d"}`, "a whole number and s, m or h", nil},
		{"a ttl as a number", "POST", "/v1/leases", `{"role":"reader","ttl":60}`, "ttl", nil},
		{"a ttl of nothing", "POST", "/v1/leases", `{"role":"reader","ttl":"0s"}`, "at least 1s", nil},
		{"no role", "POST", "/v1/leases", `{}`, "role is missing", nil},
		{"a long reason", "POST", "/v1/leases", `{"role":"reader","reason":"` + strings.Repeat("a", 501) + `"}`, "more than 500", nil},
		{"a reason with a line break", "POST", "/v1/leases", `{"role":"reader","reason":"a\nb"}`, "control characters", nil},
		{"a key with a space", "POST", "/v1/leases", `{"role":"reader"}`, "Idempotency-Key", []string{"Idempotency-Key: a b"}},
		{"a long key", "POST", "/v1/leases", `{"role":"reader"}`, "Idempotency-Key", []string{"Idempotency-Key: " + strings.Repeat("k", 129)}},
		{"two keys", "POST", "/v1/leases", `{"role":"reader"}`, "more than one", []string{"Idempotency-Key: a", "Idempotency-Key: b"}},
		{"a state that is none", "GET", "/v1/leases?state=dead", "", "state is one of", nil},
		{"a limit too high", "GET", "/v1/leases?limit=1001", "", "1 to 1000", nil},
		{"a limit of zero", "GET", "/v1/locks?limit=0", "", "1 to 1000", nil},
		{"a limit twice", "GET", "/v1/locks?limit=1&limit=2", "", "twice", nil},
		{"a bad cursor", "GET", "/v1/leases?cursor=%00", "", "cursor", nil},
		{"a principal without subject", "GET", "/v1/leases?principal=test", "", "colon", nil},
		{"a wait too long", "DELETE", "/v1/leases/aaaaaaaaaaaaaaaaaaaa?wait=61s", "", "at most 1m", nil},
		{"a body where none is", "DELETE", "/v1/leases/aaaaaaaaaaaaaaaaaaaa", `{}`, "no body", nil},
		{"an empty match", "POST", "/v1/locks", `{"match":{},"reason":"x"}`, "empty match", nil},
		{"a lock without reason", "POST", "/v1/locks", `{"match":{"role":"reader"}}`, "reason", nil},
		{"no files", "PUT", "/v1/access", `{}`, "files is missing", nil},
		{"a bad If-Match", "PUT", "/v1/access", `{"files":{}}`, "If-Match", []string{"If-Match: *"}},
		{"a leaf that is none", "GET", "/v1/ledger/proof?leaf=AAAA", "", "leaf", nil},
		{"neither leaf nor index", "GET", "/v1/ledger/proof", "", "leaf or index", nil},
		{"a negative from", "GET", "/v1/ledger/entries?from=-1", "", "from", nil},
	} {
		got := r.ask(t, c.method, c.path, c.body, append(c.head, boss)...)
		if got.status != 400 || !strings.Contains(got.problem(t).Detail, c.says) {
			t.Errorf("%s: %d %s", c.what, got.status, got.body)
		}
	}
}

func TestUnknownThingsAreNotFound(t *testing.T) {
	r := newRig(t, nil)
	boss := bearer(r.token("boss"))
	for _, path := range []string{
		"/", "/v1", "/v2/leases", "/v1/leases/", "/v1//leases", "/v1/x/../leases", "/v1/leases/short",
		"/v1/leases/AAAAAAAAAAAAAAAAAAAA", "/v1/leases/aaaaaaaaaaaaaaaaaaaa", "/v1/decisions/x", "/v1/ledger/tile/0/999",
		"/v1/ledger/tile/../checkpoint", "/v1/ledger/tile/9/000",
	} {
		checkProblem(t, r.ask(t, "GET", path, "", boss), 404, "not_found")
	}
	checkProblem(t, r.ask(t, "POST", "/v1/targets/none/check", "", boss), 404, "not_found")
	checkProblem(t, r.ask(t, "DELETE", "/v1/locks/aaaaaaaaaaaaaaaaaaaa", "", boss), 404, "not_found")
}

func TestStrangersAdministerNothing(t *testing.T) {
	r := newRig(t, nil)
	for _, e := range endpoints {
		if e.open || strings.HasPrefix(e.path, "/v1/leases") || e.path == "/v1/ledger/checkpoint" || strings.HasPrefix(e.path, "/v1/ledger/proof") {
			continue
		}
		checkProblem(t, r.ask(t, e.method, e.path, e.body, bearer(r.token("worker"))), 403, "denied")
	}
	mine := r.acquire(t, "worker")
	for _, e := range []struct{ method, path string }{{"GET", ""}, {"DELETE", ""}, {"POST", "/renew"}} {
		checkProblem(t, r.ask(t, e.method, "/v1/leases/"+mine.Lease.ID+e.path, "", bearer(r.token("other"))), 404, "not_found")
	}
}

func TestTheOriginOfARequestCannotBeClaimed(t *testing.T) {
	r := newRig(t, nil)
	got := r.ask(t, "GET", "/v1/status", "", "X-Forwarded-For: 127.0.0.1", "X-Daypass-Local: true", "Forwarded: for=127.0.0.1")
	checkProblem(t, got, 401, "unauthenticated")
	got = r.administer(t, "POST", "/v1/leases", `{"role":"reader"}`)
	checkProblem(t, got, 401, "unauthenticated") // break-glass is never for credentials
	if got := r.administer(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer(r.token("worker"))); got.status != 201 {
		t.Errorf("a workload at the socket: %d %s", got.status, got.body)
	}
	if got := r.administer(t, "GET", "/v1/status", ""); got.status != 200 {
		t.Errorf("status at the socket: %d %s", got.status, got.body)
	}
}

func TestAUserWhoIsNoAdministratorIsToldSo(t *testing.T) {
	r := newRig(t, nil)
	for _, e := range endpoints {
		if e.open && e.path != "/metrics" {
			continue
		}
		request := httptest.NewRequest(e.method, e.path, strings.NewReader(e.body))
		request.RemoteAddr = "@" // as at a socket
		recorder := httptest.NewRecorder()
		r.Handler().ServeHTTP(recorder, request.WithContext(httpapi.WithPeer(request.Context(), httpapi.Peer{UID: 4711})))
		checkProblem(t, answer{recorder.Code, recorder.Header(), recorder.Body.String()}, 403, "denied")
		if !strings.Contains(recorder.Body.String(), "user 4711") {
			t.Errorf("%s %s: %s", e.method, e.path, recorder.Body)
		}
	}
}

func TestMetricsAreForThisMachineAndForAdministrators(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		remote, head string
		want         int
	}{
		{"127.0.0.1:1", "", 200},
		{"[::1]:1", "", 200},
		{"192.0.2.1:1", "", 401},
		{"192.0.2.1:1", "Bearer " + r.token("worker"), 403},
		{"192.0.2.1:1", "Bearer " + r.token("boss"), 200},
	} {
		request := httptest.NewRequest("GET", "/metrics", nil)
		request.RemoteAddr = c.remote
		if c.head != "" {
			request.Header.Set("Authorization", c.head)
		}
		recorder := httptest.NewRecorder()
		r.Handler().ServeHTTP(recorder, request)
		if recorder.Code != c.want || c.want == 200 && !strings.Contains(recorder.Body.String(), "daypass_") {
			t.Errorf("%s: %d, want %d", c.remote, recorder.Code, c.want)
		}
	}
}
