package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/target/targettest"
)

// broken is a connection that fails when the answer is written.
type broken struct{ *httptest.ResponseRecorder }

func (broken) Write([]byte) (int, error) { return 0, errors.New("connection reset by peer") }

// unflushed is a connection whose client has gone when the answer should leave its buffer.
type unflushed struct{ *httptest.ResponseRecorder }

func (unflushed) FlushError() error { return errors.New("broken pipe") }

func TestAnAnswerThatReachesNobodyEndsItsLease(t *testing.T) {
	for what, serve := range map[string]func(r *rig, request *http.Request){
		"the answer cannot be written": func(r *rig, request *http.Request) {
			r.Handler().ServeHTTP(broken{httptest.NewRecorder()}, request)
		},
		"the answer stays in its buffer": func(r *rig, request *http.Request) {
			r.Handler().ServeHTTP(unflushed{httptest.NewRecorder()}, request)
		},
		"the caller hangs up while the target works": func(r *rig, request *http.Request) {
			ctx, cancel := context.WithCancel(request.Context())
			r.memory.SetHook(func(context.Context, targettest.Step, string) error { cancel(); return nil })
			recorder := httptest.NewRecorder()
			r.Handler().ServeHTTP(recorder, request.WithContext(ctx))
			if strings.Contains(recorder.Body.String(), canary) {
				t.Error("the credential was written to nobody")
			}
			r.memory.SetHook(nil)
		},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, nil)
			request := httptest.NewRequest("POST", "/v1/leases", strings.NewReader(`{"role":"reader"}`))
			request.Header.Set("Authorization", "Bearer "+r.token("worker"))
			serve(r, request)
			await(t, r, func() bool {
				page := r.administer(t, "GET", "/v1/leases", "").body
				return strings.Contains(page, `"state":"revoked"`) && strings.Contains(page, `"reason":"undelivered"`)
			})
			if live := r.system.Leases(); len(live) != 0 {
				t.Errorf("credentials live: %v", live)
			}
		})
	}
}

// await waits until something is so.
func await(t *testing.T, r *rig, so func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("it never came to be: %s", r.log.String())
		case <-tick.C:
		}
	}
}

// TestTheSameKeyReplacesTheEarlierLease is how a client asks again after a lost answer.
func TestTheSameKeyReplacesTheEarlierLease(t *testing.T) {
	r := newRig(t, nil)
	first := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer(r.token("worker")), "Idempotency-Key: k")
	second := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer(r.token("worker")), "Idempotency-Key: k")
	other := r.ask(t, "POST", "/v1/leases", `{"role":"reader","ttl":"1m"}`, bearer(r.token("worker")), "Idempotency-Key: k")
	if first.status != 201 || second.status != 201 {
		t.Fatalf("%d, then %d", first.status, second.status)
	}
	checkProblem(t, other, 409, "conflict")
	await(t, r, func() bool { return len(r.system.Leases()) == 1 })
}

func TestTheHolderUsesTheLeaseTokenAlsoAtTheSocket(t *testing.T) {
	r := newRig(t, nil)
	a := r.acquire(t, "worker")
	token := bearer(a.LeaseToken)
	if got := r.administer(t, "POST", "/v1/leases/"+a.Lease.ID+"/renew", `{"ttl":"30m"}`, token); got.status != 200 {
		t.Errorf("renew: %d %s", got.status, got.body)
	}
	checkProblem(t, r.ask(t, "GET", "/v1/leases", "", token), 403, "denied")
	checkProblem(t, r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, token), 401, "unauthenticated")
	got := r.administer(t, "DELETE", "/v1/leases/"+a.Lease.ID+"?wait=10s", "", token)
	if got.status != 200 || !strings.Contains(got.body, `"reason":"released"`) {
		t.Errorf("release: %d %s", got.status, got.body)
	}
}

// TestALeaseTellsWhetherItsRoleIsSharedNow also shows that nothing of it stays with a lease: a role that stops
// sharing stops for the leases that live.
func TestALeaseTellsWhetherItsRoleIsSharedNow(t *testing.T) {
	r := newRig(t, nil)
	before := r.acquire(t, "worker")
	files := accessFiles(r.issuer.URL())
	own := files["a.yaml"]
	told := func() string {
		t.Helper()
		got := r.ask(t, "GET", "/v1/leases/"+before.Lease.ID, "", bearer(r.token("worker")))
		var l api.Lease
		if err := json.Unmarshal([]byte(got.body), &l); err != nil || got.status != 200 {
			t.Fatalf("read: %d %s", got.status, got.body)
		}
		if listed := r.ask(t, "GET", "/v1/leases", "", bearer(r.token("worker"))); strings.Contains(listed.body, `"share"`) != (l.Share != "") {
			t.Errorf("the lease says %q, the list %s", l.Share, listed.body)
		}
		return l.Share
	}
	put := func(text string) {
		t.Helper()
		files["a.yaml"] = text
		body, _ := json.Marshal(api.AccessRequest{Files: files})
		if got := r.administer(t, "PUT", "/v1/access", string(body)); got.status >= 300 {
			t.Fatalf("apply: %d %s", got.status, got.body)
		}
	}
	if told() != "" || before.Lease.Share != "" {
		t.Error("a role that says nothing is shared")
	}
	put(own + "share: run\n")
	if told() != api.ShareRun {
		t.Error("the role is shared and its lease does not say so")
	}
	if got := r.acquire(t, "worker"); got.Lease.Share != api.ShareRun {
		t.Errorf("acquired with share %q", got.Lease.Share)
	}
	checkProblem(t, r.ask(t, "GET", "/v1/leases/"+before.Lease.ID, "", bearer(r.token("other"))), 404, "not_found")
	put(strings.Replace(own, "name: reader\n", "name: reader\n# no longer\n", 1))
	if told() != "" {
		t.Error("the role is not shared any more and its lease says so still")
	}
}

// TestTheLedgerCanBeReadAndProved follows a receipt to its proof.
func TestTheLedgerCanBeReadAndProved(t *testing.T) {
	r := newRig(t, nil)
	a := r.acquire(t, "worker")
	leaf := strings.Split(a.Receipt, "\n")[2]
	got := r.ask(t, "GET", "/v1/ledger/proof?leaf="+url.QueryEscape(leaf), "", bearer(a.LeaseToken))
	var proof api.LedgerProof
	decode(t, got, &proof)
	verifyProof(t, r, leaf, proof)
	if got := r.ask(t, "GET", "/v1/ledger/checkpoint", "", bearer(a.LeaseToken)); got.status != 200 || !strings.Contains(got.body, "\n\n— ") {
		t.Errorf("checkpoint: %d %q", got.status, got.body)
	}
	var page api.Page[api.LedgerEntry]
	decode(t, r.ask(t, "GET", "/v1/ledger/entries?from=1&limit=2", "", bearer(r.token("boss"))), &page)
	if len(page.Items) != 2 || page.Items[0].Index != 1 || !strings.HasPrefix(string(page.Items[0].Leaf), "{") {
		t.Errorf("entries: %+v", page)
	}
	if got := r.administer(t, "GET", "/v1/ledger/tile/entries/000.p/2", ""); got.status != 200 || len(got.body) < 100 {
		t.Errorf("tile: %d %q", got.status, got.body)
	}
	if got := r.administer(t, "GET", "/v1/ledger/tile/0/000.p/2", ""); got.status != 200 || len(got.body) != 64 {
		t.Errorf("tile: %d, %d bytes", got.status, len(got.body))
	}
}
