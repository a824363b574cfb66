package httpapi_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/testissuer"
)

// delegated is a lease of alice's in which the deputy acts, and the access token that it was acquired with.
func delegated(t *testing.T, r *rig, h *holder, deputys *testissuer.Issuer, more map[string]any) (a api.Acquired, token string) {
	t.Helper()
	now := time.Now().Unix()
	claims := map[string]any{"iss": r.issuer.URL(), "aud": r.URL(), "sub": "alice", "iat": now, "exp": now + 300,
		"may_act": map[string]any{"iss": deputys.URL(), "sub": "deputy"}}
	for name, value := range more {
		claims[name] = value
	}
	actor := deputys.Token(map[string]any{"iss": deputys.URL(), "aud": r.URL(), "sub": "deputy", "iat": now, "exp": now + 300})
	f := fields(r.issuer.Token(claims), map[string]string{"actor_token": actor, "actor_token_type": jwtType})
	token = given(t, r.post(t, "/oauth/token", f, h.proof(t, "POST", "/oauth/token", ""))).AccessToken
	decode(t, r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, "Authorization: DPoP "+token, h.proof(t, "POST", "/v1/leases", token)), &a)
	if a.Lease.Principal != "test:alice" {
		t.Fatalf("acquired %+v", a.Lease)
	}
	return a, token
}

// awaitEnd waits until a lease is dead.
func (r *rig) awaitEnd(t *testing.T, id string) (l api.Lease) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		decode(t, r.administer(t, "GET", "/v1/leases/"+id, ""), &l)
		if l.State == "revoked" {
			tick.Stop()
			return l
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it lives on: %+v", l)
		}
	}
}

func TestALockEndsTheLeasesInWhichItsPrincipalActs(t *testing.T) {
	r := newRig(t, nil)
	h := r.holder(t)
	foreign := map[string]any{"act": map[string]any{"iss": "https://gateway.example", "sub": "gateway"}}
	for name, match := range map[string]string{
		"who acts now":                              `{"principal":"test:deputy"}`,
		"who acted before":                          `{"issuer":"https://gateway.example","principal":"https://gateway.example:gateway"}`,
		"the issuer of who acted before":            `{"issuer":"https://gateway.example"}`,
		"who acts, for this role":                   `{"principal":"test:deputy","role":"reader"}`,
		"who acts, in this lease":                   `{"principal":"test:deputy","lease":"%s"}`,
		"the subject, as ever":                      `{"principal":"test:alice"}`,
		"the issuer of the subject and of who acts": `{"issuer":"test"}`,
	} {
		t.Run(name, func(t *testing.T) {
			a, token := delegated(t, r, h, r.issuer, foreign)
			if want := []string{"test:deputy", "https://gateway.example:gateway"}; !slices.Equal(a.Lease.Actors, want) {
				t.Errorf("%q act", a.Lease.Actors)
			}
			var d api.Decision
			decode(t, r.administer(t, "GET", "/v1/decisions/"+a.Lease.DecisionID, ""), &d)
			if !slices.Equal(d.Actors, a.Lease.Actors) {
				t.Errorf("the decision tells of %q", d.Actors)
			}
			if strings.Contains(match, "%s") {
				match = fmt.Sprintf(match, a.Lease.ID)
			}
			var dry, lock api.Lock
			decode(t, r.administer(t, "POST", "/v1/locks", `{"match":`+match+`,"reason":"a test","dry_run":true}`), &dry)
			decode(t, r.administer(t, "POST", "/v1/locks", `{"match":`+match+`,"reason":"a test"}`), &lock)
			if dry.Hits != 1 || lock.Hits != 1 {
				t.Errorf("it hits %d, and %d were promised", lock.Hits, dry.Hits)
			}
			if l := r.awaitEnd(t, a.Lease.ID); l.Reason != "locked" {
				t.Errorf("ended as %+v", l)
			}
			if !strings.Contains(match, "lease") {
				got := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, "Authorization: DPoP "+token, h.proof(t, "POST", "/v1/leases", token))
				checkProblem(t, got, 403, "denied")
				decode(t, r.administer(t, "GET", "/v1/decisions/"+got.problem(t).DecisionID, ""), &d)
				if !slices.Equal(d.Actors, a.Lease.Actors) || len(d.Reasons) == 0 || d.Reasons[len(d.Reasons)-1].Effect != "lock" {
					t.Errorf("the refusal is explained as %+v", d)
				}
			}
			if got := r.administer(t, "DELETE", "/v1/locks/"+lock.ID, ""); got.status/100 != 2 {
				t.Fatal(got.body)
			}
		})
	}
	// Who is locked renews nothing for others either, a lease that they made themselves included.
	own := r.acquire(t, "alice")
	acted, token := delegated(t, r, h, r.issuer, foreign)
	var lock api.Lock
	decode(t, r.administer(t, "POST", "/v1/locks", `{"match":{"principal":"test:deputy"},"reason":"a test"}`), &lock)
	r.awaitEnd(t, acted.Lease.ID)
	renew := "/v1/leases/" + own.Lease.ID + "/renew"
	checkProblem(t, r.ask(t, "POST", renew, "", "Authorization: DPoP "+token, h.proof(t, "POST", renew, token)), 403, "denied")
	if got := r.administer(t, "DELETE", "/v1/locks/"+lock.ID, ""); got.status/100 != 2 {
		t.Fatal(got.body)
	}
	if got := r.ask(t, "POST", renew, "", "Authorization: DPoP "+token, h.proof(t, "POST", renew, token)); got.status/100 != 2 {
		t.Errorf("without the lock it renews with %s", got.body)
	}
	// Others go on: the same role, the same subject without a deputy, and the deputy for itself.
	alice, deputy := r.acquire(t, "alice"), r.acquire(t, "deputy")
	a, _ := delegated(t, r, h, r.issuer, foreign)
	decode(t, r.administer(t, "POST", "/v1/locks", `{"match":{"issuer":"https://gateway.example"},"reason":"a test"}`), new(api.Lock))
	r.awaitEnd(t, a.Lease.ID)
	for _, other := range []api.Acquired{alice, deputy} {
		var l api.Lease
		if decode(t, r.administer(t, "GET", "/v1/leases/"+other.Lease.ID, ""), &l); l.State != "active" || l.Actors != nil {
			t.Errorf("another's lease: %+v", l)
		}
	}
}

func TestTheTokenOfARoleSaysWhoActs(t *testing.T) {
	r := newRig(t, nil)
	r.configure(t, fmt.Sprintf(`{kind: Issuer, name: test, oidc: {url: %q}}
---
{kind: Target, name: services, oidc-token: {}}
---
{kind: Role, name: reader, target: services, oidc-token: {audience: sts.example.com, subject: "who:${subject}"}}
`, r.issuer.URL()), `permit (principal, action, resource);`)
	said := func(a api.Acquired) (claims map[string]any) {
		t.Helper()
		_, rest, _ := strings.Cut(a.Credential.Fields["token"].(string), ".")
		body, _, _ := strings.Cut(rest, ".")
		text, err := base64.RawURLEncoding.DecodeString(body)
		if err == nil {
			err = json.Unmarshal(text, &claims)
		}
		if err != nil {
			t.Fatal(err)
		}
		return claims
	}
	before := map[string]any{"sub": "gateway"} // of the subject's own issuer, which it does not name
	a, _ := delegated(t, r, r.holder(t), r.issuer, map[string]any{"act": before})
	want := map[string]any{"iss": r.issuer.URL(), "sub": "deputy", "act": map[string]any{"iss": r.issuer.URL(), "sub": "gateway"}}
	if claims := said(a); claims["sub"] != "who:alice" || !reflect.DeepEqual(claims["act"], want) {
		t.Errorf("the token says %v", claims)
	}
	if claims := said(r.acquire(t, "alice")); claims["sub"] != "who:alice" || claims["act"] != nil {
		t.Errorf("nobody acts, and the token says %v", claims)
	}
}

const twoIssuers = `{kind: Issuer, name: test, oidc: {url: %q}}
---
{kind: Issuer, name: agents, oidc: {url: %q}}
---
{kind: Target, name: vault, memory: {}}
---
{kind: Role, name: reader, target: vault, renew: handle, memory: {read: true}}
`

func TestAnIssuerThatLeavesTakesTheLeasesAlongInWhichItsPrincipalsAct(t *testing.T) {
	r := newRig(t, nil)
	h := r.holder(t)
	agents, err := testissuer.Start(testissuer.Options{Now: time.Now, Algorithm: "ES256"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agents.Close() })
	r.configure(t, fmt.Sprintf(twoIssuers, r.issuer.URL(), agents.URL()), policies)
	a, token := delegated(t, r, h, agents, nil)
	if !slices.Equal(a.Lease.Actors, []string{"agents:deputy"}) {
		t.Errorf("%q act", a.Lease.Actors)
	}
	alice := r.acquire(t, "alice")
	r.configure(t, fmt.Sprintf(strings.Replace(twoIssuers, "{kind: Issuer, name: agents, oidc: {url: %q}}\n---\n", "", 1), r.issuer.URL()), policies)
	if l := r.awaitEnd(t, a.Lease.ID); l.Reason != "withdrawn" || !slices.Equal(l.Actors, []string{agents.URL() + ":deputy"}) {
		t.Errorf("ended as %+v", l)
	}
	// What it had before buys nothing any more, also after a later revision.
	for _, text := range []string{policies, policies + "// again\n"} {
		r.configure(t, fmt.Sprintf(strings.Replace(twoIssuers, "{kind: Issuer, name: agents, oidc: {url: %q}}\n---\n", "", 1), r.issuer.URL()), text)
		got := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, "Authorization: DPoP "+token, h.proof(t, "POST", "/v1/leases", token))
		checkProblem(t, got, 401, "unauthenticated")
	}
	var l api.Lease
	if decode(t, r.administer(t, "GET", "/v1/leases/"+alice.Lease.ID, ""), &l); l.State != "active" {
		t.Errorf("another's lease: %+v", l)
	}
	// Back, it acts again.
	r.configure(t, fmt.Sprintf(twoIssuers, r.issuer.URL(), agents.URL()), policies)
	delegated(t, r, h, agents, nil)
}

func TestEvidenceWithTooManyActorsIsRefused(t *testing.T) {
	r := newRig(t, nil)
	now := time.Now().Unix()
	token := func(n int) string {
		var act map[string]any
		for i := range n {
			one := map[string]any{"sub": fmt.Sprint("actor-", i)}
			if act != nil {
				one["act"] = act
			}
			act = one
		}
		return r.issuer.Token(map[string]any{"iss": r.issuer.URL(), "aud": r.URL(), "sub": "alice", "iat": now, "exp": now + 300, "act": act})
	}
	var a api.Acquired
	decode(t, r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer(token(4))), &a)
	if !slices.Equal(a.Lease.Actors, []string{"test:actor-3", "test:actor-2", "test:actor-1", "test:actor-0"}) {
		t.Errorf("%q act", a.Lease.Actors)
	}
	checkProblem(t, r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer(token(5))), 401, "unauthenticated")
}
