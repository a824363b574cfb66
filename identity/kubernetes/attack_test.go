package kubernetes_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/identity/kubernetes"
	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/kube"
	"github.com/daypass/daypass/secret"
)

// reviewed is a verifier whose cluster answers every review as told.
func reviewed(t *testing.T) (f *identitytest.Evidence, v *kubernetes.Verifier, tell func(http.HandlerFunc)) {
	t.Helper()
	var answer atomic.Pointer[http.HandlerFunc]
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*answer.Load())(w, r) }))
	t.Cleanup(server.Close)
	api, err := kube.New(kube.Config{
		URL: server.URL, CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		Token: func() (secret.Text, error) { return secret.New("canary-of-the-administrator"), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	f = fixture(t)
	tokens, err := oidc.New(oidc.Config{Name: "cluster", URL: f.URL, Audience: audience, Now: f.Now})
	if err != nil {
		t.Fatal(err)
	}
	if v, err = kubernetes.New(kubernetes.Config{Name: "cluster", Audience: audience, Tokens: tokens, API: api}); err != nil {
		t.Fatal(err)
	}
	return f, v, func(h http.HandlerFunc) { answer.Store(&h) }
}

// Whoever answers in a cluster's name says yes to what it was asked, or nothing: not to another audience, account, pod or
// token. What is no answer tells nobody anything, and lets nobody in.
func TestAReviewIsAYesToWhatWasAskedOrNone(t *testing.T) {
	f, v, tell := reviewed(t)
	verify := func(answer http.HandlerFunc) error {
		tell(answer)
		p, err := v.Verify(t.Context(), secret.New(f.Make(t)))
		if err != nil && p.Subject != "" {
			t.Errorf("%q comes with %v", p.Subject, err)
		}
		return err
	}
	status := func(authenticated bool, audiences, user string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"kind":"TokenReview","status":{"authenticated":%v,"audiences":%s,"user":%s}}`, authenticated, audiences, user)
		}
	}
	ours := fmt.Sprintf("[%q]", audience)
	account := func(name, uid, extra string) string {
		return fmt.Sprintf(`{"username":%q,"uid":%q,"groups":["system:masters"],"extra":{%s}}`, name, uid, extra)
	}
	good := account(subject, "a-uid", `"authentication.kubernetes.io/pod-uid":["p-uid"],"authentication.kubernetes.io/node-uid":["n-uid"]`)
	if err := verify(status(true, ours, good)); err != nil {
		t.Fatalf("the one that the others are made from: %v", err)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"no":                            status(false, ours, good),
		"no audience":                   status(true, "null", good),
		"an empty list of audiences":    status(true, "[]", good),
		"another audience":              status(true, `["https://kubernetes.default.svc"]`, good),
		"an audience in capitals":       status(true, strings.ToUpper(ours), good),
		"ours with a slash at its end":  status(true, fmt.Sprintf("[%q]", audience+"/"), good),
		"ours as a part of one":         status(true, fmt.Sprintf("[%q]", "x "+audience), good),
		"another account":               status(true, ours, account("system:serviceaccount:acme:admin", "a-uid", "")),
		"an account of the same name":   status(true, ours, account(subject, "b-uid", "")),
		"an impersonated administrator": status(true, ours, account("system:admin", "a-uid", "")),
		"nobody":                        status(true, ours, "{}"),
		"a name in capitals":            status(true, ours, account(strings.ToUpper(subject), "a-uid", "")),
		"another pod":                   status(true, ours, account(subject, "a-uid", `"authentication.kubernetes.io/pod-uid":["q-uid"]`)),
		"two pods":                      status(true, ours, account(subject, "a-uid", `"authentication.kubernetes.io/pod-uid":["p-uid","q-uid"]`)),
		"another node":                  status(true, ours, account(subject, "a-uid", `"authentication.kubernetes.io/node-uid":["m-uid"]`)),
		"another token":                 status(true, ours, account(subject, "a-uid", `"authentication.kubernetes.io/credential-id":["JTI=other"]`)),
	} {
		if err := verify(answer); !errors.Is(err, identity.ErrRejected) {
			t.Errorf("%s: %v", name, err)
		}
	}
	text := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/apis/authentication.k8s.io/v1/tokenreviews")
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body)) // whoever asked may have gone
		}
	}
	for name, answer := range map[string]http.HandlerFunc{
		"nothing":              text(200, ""),
		"no status":            text(200, `{"kind":"TokenReview"}`),
		"no JSON":              text(200, `authenticated: true`),
		"another kind of yes":  text(200, `{"status":{"authenticated":"true"}}`),
		"a refusal":            text(403, `{"kind":"Status","reason":"Forbidden"}`),
		"a failure":            text(500, "canary-of-the-administrator"),
		"a redirect":           text(307, ""),
		"a lasting redirect":   text(308, `{"status":{"authenticated":true}}`),
		"more than it may say": text(200, `{"status":{"authenticated":true,"error":"`+strings.Repeat("x", 5<<20)+`"}}`),
		"half of it":           func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		err := verify(answer)
		if err == nil || errors.Is(err, identity.ErrRejected) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error quotes what was sent: %v", name, err)
		}
	}
}
