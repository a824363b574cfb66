package httpapi_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/daypass/daypass/api"
)

// shapes are a secret's bytes in the forms in which they leak.
func shapes(secret string) []string {
	b := []byte(secret)
	return []string{
		secret, hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)),
		base64.StdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b),
		// base64 of the secret somewhere within other bytes
		strings.TrimRight(base64.StdEncoding.EncodeToString(append([]byte("x"), b...))[4:], "=")[:12],
		strings.TrimRight(base64.StdEncoding.EncodeToString(append([]byte("xx"), b...))[4:], "=")[:12],
	}
}

// TestSecretsAppearInOneAnswerOnly sends known secrets through every call and looks for them everywhere else: in
// other answers, headers, the log, metrics, the ledger and the store's own files.
func TestSecretsAppearInOneAnswerOnly(t *testing.T) {
	r := newRig(t, nil)
	boss, worker := r.token("boss"), r.token("worker")
	got := r.ask(t, "POST", "/v1/leases", `{"role":"reader","reason":"deploy"}`, bearer(worker), "Idempotency-Key: k1")
	var acquired api.Acquired
	if err := json.Unmarshal([]byte(got.body), &acquired); err != nil || acquired.Credential.Fields["password"] != canary {
		t.Fatalf("acquire: %d %s", got.status, got.body)
	}
	if got.header.Get("Cache-Control") != "no-store" {
		t.Error("the answer may be kept by caches")
	}
	h := r.holder(t)
	bound := h.access(t, "worker")
	secrets := []string{canary, acquired.LeaseToken, bound[strings.LastIndex(bound, ".")+1:], worker[strings.LastIndex(worker, ".")+1:], boss[strings.LastIndex(boss, ".")+1:]}

	var seen strings.Builder
	note := func(a answer) {
		seen.WriteString(a.body)
		for name, values := range a.header {
			seen.WriteString(name + strings.Join(values, ","))
		}
	}
	paths := endpoints
	for i := range paths {
		e := paths[i]
		if e.path == "/v1/leases" && e.method == "POST" {
			continue
		}
		path := strings.Replace(e.path, "aaaaaaaaaaaaaaaaaaaa", acquired.Lease.ID, 1)
		if strings.HasPrefix(e.path, "/v1/decisions/") {
			path = "/v1/decisions/" + acquired.Lease.DecisionID
		}
		if e.method == "DELETE" {
			continue // at the end
		}
		for _, head := range []string{bearer(boss), bearer(worker), bearer(acquired.LeaseToken), "Authorization: Basic " + canary, "X-Nothing: here"} {
			note(r.ask(t, e.method, path, e.body, head))
		}
		note(r.administer(t, e.method, path, e.body))
		note(r.ask(t, e.method, path, `{"role":"`+canary+`","`+canary+`":"`+canary+`"}`, bearer(boss)))
		note(r.ask(t, e.method, path, `{"role":"`+canary+``, bearer(canary), "Idempotency-Key: "+canary))
	}
	note(r.ask(t, "GET", "/v1/leases?role="+canary+"&limit="+canary, "", bearer(boss)))
	note(r.ask(t, "GET", "/v1/leases/"+canary, "", bearer(boss)))

	for _, path := range []string{"/oauth/token", "/oauth/introspect", "/oauth/revoke"} {
		for _, token := range []string{bound, acquired.LeaseToken, worker, canary, bound + "x"} {
			if path == "/oauth/revoke" && token == acquired.LeaseToken {
				continue // it is needed at the end
			}
			for _, grant := range []string{exchangeGrant, "urn:ietf:params:oauth:grant-type:jwt-bearer", "client_credentials", canary} {
				f := map[string]string{"grant_type": grant, "token": token, "subject_token": token, "subject_token_type": jwtType, "assertion": token,
					"client_assertion": token, "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "actor_token": token,
					"actor_token_type": jwtType, "scope": "role:" + token + ".", "resource": canary, "authorization_details": canary, "client_secret": canary}
				note(r.post(t, path, f, "DPoP: "+canary))
				note(r.post(t, path, f, bearer(token)))
				delete(f, "client_secret")
				delete(f, "resource")
				delete(f, "authorization_details")
				note(r.post(t, path, f))
				delete(f, "actor_token")
				delete(f, "actor_token_type")
				note(r.post(t, path, f, h.proof(t, "POST", path, "")))
			}
		}
	}
	note(r.ask(t, "GET", "/v1/leases", "", "Authorization: DPoP "+bound, "DPoP: "+canary))

	// Panics in the middle of a grant and of a call.
	flag := filepath.Join(r.dir, "panic")
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer(worker))
	checkProblem(t, refused, 503, "target_unavailable")
	note(refused)
	broken := r.ask(t, "POST", "/v1/targets/vault/check", "", bearer(boss))
	checkProblem(t, broken, 500, "internal")
	note(broken)
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}

	note(r.ask(t, "DELETE", "/v1/leases/"+acquired.Lease.ID+"?wait=10s", "", bearer(acquired.LeaseToken)))
	note(r.administer(t, "GET", "/v1/ledger/export", ""))
	note(r.administer(t, "GET", "/metrics", ""))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"an answer": seen.String(), "the log": r.log.String(), "the files": files(t, r.dir)} {
		for _, secret := range secrets {
			for _, shape := range shapes(secret) {
				if at := strings.Index(text, shape); at >= 0 {
					t.Errorf("%s holds a secret: …%.200q", where, text[max(0, at-100):])
				}
			}
		}
	}
}

// files returns all that is in files below a directory.
func files(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(&all, file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
