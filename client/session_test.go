package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/secret"
)

// offering is a server that gives access tokens, in memory: it verifies proofs as the real one does.
type offering struct {
	t      *testing.T
	url    string // what it calls itself
	proofs *dpop.Verifier

	mu        sync.Mutex // guards what follows
	exchanges int
	evidence  []string
	refuse    func(r *http.Request, token string) *api.Problem
	deny      *api.OAuthError
}

func newOffering(t *testing.T) *offering {
	return &offering{t: t, url: "https://daypass.example.com",
		proofs: dpop.NewVerifier(dpop.Config{Key: []byte(strings.Repeat("k", 32)), Nonce: true, Now: time.Now})}
}

func (o *offering) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	if r.URL.Path == "/.well-known/oauth-authorization-server" {
		writeJSON(w, 200, map[string]any{"token_endpoint": o.url + "/oauth/token", "dpop_signing_alg_values_supported": []string{"ES256"},
			"grant_types_supported": []string{"urn:ietf:params:oauth:grant-type:token-exchange"}})
		return
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	_, err := o.proofs.Verify(r.Header.Get(dpop.Header), dpop.Request{Method: r.Method, URL: o.url + r.URL.Path, Token: token})
	w.Header().Set(dpop.HeaderNonce, o.proofs.Nonce())
	if r.URL.Path == "/oauth/token" {
		switch {
		case errors.Is(err, dpop.ErrNonce):
			writeJSON(w, 400, api.OAuthError{Code: "use_dpop_nonce"})
		case err != nil:
			o.t.Errorf("the proof of an exchange: %v", err)
		case o.deny != nil:
			writeJSON(w, 400, o.deny)
		default:
			o.exchanges++
			o.evidence = append(o.evidence, r.PostFormValue("subject_token"))
			writeJSON(w, 200, api.TokenAnswer{AccessToken: fmt.Sprint("at", o.exchanges), TokenType: "DPoP", ExpiresIn: 3600})
		}
		return
	}
	if scheme != "DPoP" || r.Header.Get("Authorization") == "DPoP evidence" {
		o.t.Errorf("a call to one that gives access tokens carries %q", r.Header.Get("Authorization"))
	}
	if errors.Is(err, dpop.ErrNonce) {
		w.Header().Set("WWW-Authenticate", `DPoP error="use_dpop_nonce"`)
		writeProblem(w, api.Problem{Status: 401, Code: "unauthenticated"})
		return
	}
	if err != nil {
		o.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	if o.refuse != nil {
		if p := o.refuse(r, token); p != nil {
			writeProblem(w, *p)
			return
		}
	}
	writeJSON(w, 200, api.Status{Version: token})
}

func (o *offering) client(t *testing.T) *client.Client {
	return newClient(t, client.Options{URL: "https://daypass.example.com", HTTP: &http.Client{Transport: wire{o}},
		Token: client.StaticToken(secret.New("evi.den.ce"))})
}

func TestEvidenceIsShownOnceToAServerThatGivesAccessTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffering(t)
		c := o.client(t)
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				if s, err := c.Status(t.Context()); err != nil || s.Version != "at1" {
					t.Errorf("%+v, %v", s, err)
				}
			})
		}
		group.Wait()
		if o.exchanges != 1 || o.evidence[0] != "evi.den.ce" {
			t.Errorf("%d exchanges of %v", o.exchanges, o.evidence)
		}
		<-time.After(10 * time.Minute) // in the bubble: the nonce is too old now
		if s, err := c.Status(t.Context()); err != nil || s.Version != "at1" {
			t.Errorf("after the nonce's life: %+v, %v", s, err)
		}
		<-time.After(25 * time.Minute)
		if s, err := c.Status(t.Context()); err != nil || s.Version != "at2" {
			t.Errorf("after half of the token's life: %+v, %v", s, err)
		}
	})
}

// A token of a platform that gives a job one, which cannot be shown again.
func TestATokenIsUsedToItsEndWhereNoOtherIsToBeHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffering(t)
		c := o.client(t)
		if _, err := c.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		o.deny = &api.OAuthError{Code: "invalid_request", Kind: "unauthenticated"}
		for range 59 {
			<-time.After(time.Minute)
			if s, err := c.Status(t.Context()); err != nil || s.Version != "at1" {
				t.Fatalf("%+v, %v", s, err)
			}
		}
		<-time.After(time.Minute)
		if _, err := c.Status(t.Context()); err == nil {
			t.Error("it is used after its end")
		}
		o.deny = nil
		if s, err := c.Status(t.Context()); err != nil || s.Version != "at2" {
			t.Errorf("with fresh evidence: %+v, %v", s, err)
		}
	})
}

func TestAFreshTokenIsAskedForWhereAnOldOneMayBeTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffering(t)
		c := o.client(t)
		for _, refusal := range []api.Problem{{Status: 401, Code: "unauthenticated"}, {Status: 403, Code: "denied"}} {
			if _, err := c.Status(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-time.After(2 * time.Minute)
			old := fmt.Sprint("at", o.exchanges)
			o.refuse = func(_ *http.Request, token string) *api.Problem {
				if token == old {
					return &refusal
				}
				return nil
			}
			if s, err := c.Status(t.Context()); err != nil || s.Version == old {
				t.Errorf("%s: %+v, %v", refusal.Code, s, err)
			}
		}
		calls := 0
		o.refuse = func(*http.Request, string) *api.Problem { calls++; return &api.Problem{Status: 403, Code: "denied"} }
		if _, err := c.Status(t.Context()); err == nil || calls != 1 {
			t.Errorf("a denial of a young token is asked about %d times: %v", calls, err)
		}
	})
}

func TestARefusalIsNoReasonToShowTheEvidenceItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffering(t)
		o.deny = &api.OAuthError{Code: "invalid_request", Description: "no", Kind: "unauthenticated"}
		_, err := o.client(t).Status(t.Context())
		problem, ok := errors.AsType[*api.Problem](err)
		if !ok || problem.Status != 401 || problem.Code != "unauthenticated" || problem.Detail != "no" {
			t.Errorf("%v", err)
		}
	})
	for name, metadata := range map[string]http.HandlerFunc{
		"broken":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"hurried": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) },
	} {
		c := newClient(t, client.Options{URL: "https://h", Token: client.StaticToken(secret.New("evidence")), HTTP: &http.Client{Transport: wire{http.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "" {
					t.Errorf("%s metadata: the evidence is shown", name)
				}
				metadata(w, r)
			})}}})
		if _, err := c.Status(t.Context()); err == nil {
			t.Errorf("%s metadata: no error", name)
		}
	}
}

func TestProofsNameTheServerAsItNamesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffering(t)
		o.url = "https://inside.example/base"
		if _, err := o.client(t).Status(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAServerWithoutTokenEndpointIsAskedOnce(t *testing.T) {
	var asked, shown atomic.Int32
	source := client.TokenFunc(func(context.Context) (secret.Text, error) { shown.Add(1); return secret.New("evidence"), nil })
	c := newClient(t, client.Options{URL: "https://h", Token: source, HTTP: &http.Client{Transport: wire{http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/status" {
				asked.Add(1)
				writeJSON(w, 200, map[string]any{"token_endpoint": "https://elsewhere.example/token"})
				return
			}
			if r.Header.Get("Authorization") != "Bearer evidence" {
				t.Errorf("got %v", r.Header)
			}
			writeJSON(w, 200, api.Status{})
		})}}})
	for range 3 {
		if _, err := c.Status(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if asked.Load() != 1 || shown.Load() != 3 {
		t.Errorf("metadata read %d times, evidence %d times", asked.Load(), shown.Load())
	}
}
