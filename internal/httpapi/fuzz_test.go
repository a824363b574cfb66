package httpapi_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/ledger"
)

func decode(t *testing.T, a answer, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), into); err != nil || a.status >= 300 {
		t.Fatalf("%d %s", a.status, a.body)
	}
}

func verifyProof(t *testing.T, r *rig, leaf string, proof api.LedgerProof) {
	t.Helper()
	verifier, err := ledger.NewVerifier(r.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(leaf)
	if err != nil {
		t.Fatal(err)
	}
	p := ledger.InclusionProof{Index: proof.Index, Checkpoint: proof.Checkpoint}
	for _, h := range proof.Hashes {
		p.Hashes = append(p.Hashes, ledger.Hash(h))
	}
	if _, at, err := verifier.Inclusion(p.Text(), raw); err != nil || at != proof.Index {
		t.Errorf("the proof does not hold: %d, %v", at, err)
	}
}

// FuzzRequests sends hostile bytes to calls that take a body: whatever comes, the answer is one of ours.
func FuzzRequests(f *testing.F) {
	r := newRig(f, nil)
	token := "Bearer " + r.token("boss")
	f.Add("/v1/leases", `{"role":"reader","ttl":"1m"}`, "", "k", "")
	f.Add("/v1/locks", `{"match":{"principal":"test:x"},"reason":"x","dry_run":true}`, "", "", "limit=1")
	f.Add("/v1/access/check", `{"files":{"a.yaml":"kind: Role"}}`, "application/json", "", "")
	f.Add("/v1/leases/aaaaaaaaaaaaaaaaaaaa/renew", "{\"ttl\":\"\xff\"}", "application/json; charset=utf-16", "\x7f", "%")
	f.Fuzz(func(t *testing.T, path, body, media, key, query string) {
		request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		request.URL.Path, request.URL.RawQuery = path, query
		request.Header["Authorization"] = []string{token}
		if media != "" {
			request.Header["Content-Type"] = []string{media}
		}
		if key != "" {
			request.Header["Idempotency-Key"] = []string{key}
		}
		recorder := httptest.NewRecorder()
		r.Handler().ServeHTTP(recorder, request)
		if recorder.Code == http.StatusInternalServerError {
			t.Fatalf("%s %q: %s", path, body, recorder.Body)
		}
		if recorder.Code >= 300 {
			var p api.Problem
			if err := json.Unmarshal(recorder.Body.Bytes(), &p); err != nil || p.Status != recorder.Code || p.Code == "" {
				t.Fatalf("%s %q: %d %s", path, body, recorder.Code, recorder.Body)
			}
		}
	})
}

// FuzzAuthorization sends hostile headers.
func FuzzAuthorization(f *testing.F) {
	r := newRig(f, nil)
	f.Add("Bearer a.b.c", "1.2.3.4")
	f.Add("bearer  x", "::1, [::1]:80")
	f.Add("Bearer "+r.token("worker")[:200], ",,,")
	f.Fuzz(func(t *testing.T, authorization, forwarded string) {
		request := httptest.NewRequest(http.MethodGet, "/v1/status", nil)
		request.Header["Authorization"] = []string{authorization}
		request.Header["X-Forwarded-For"] = []string{forwarded}
		recorder := httptest.NewRecorder()
		r.Handler().ServeHTTP(recorder, request)
		if recorder.Code != http.StatusUnauthorized {
			t.Fatalf("%q: %d %s", authorization, recorder.Code, recorder.Body)
		}
	})
}
