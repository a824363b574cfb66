package kubernetes_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/identity/kubernetes"
	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/kube"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

func TestMain(m *testing.M) { os.Exit(testbed.Main(m)) }

const audience = "https://daypass.example.com"

const subject = "system:serviceaccount:acme:builder"

// claims are those of a projected token, as Kubernetes 1.36 writes them.
func claims(now time.Time, change func(all, nested map[string]any)) map[string]any {
	nested := map[string]any{
		"namespace":      "acme",
		"serviceaccount": map[string]any{"name": "builder", "uid": "a-uid"},
		"pod":            map[string]any{"name": "builder-x", "uid": "p-uid"},
		"node":           map[string]any{"name": "node-1", "uid": "n-uid"},
		"warnafter":      now.Unix() + 3607,
	}
	all := map[string]any{
		"sub": subject, "aud": []any{audience}, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Unix() + 3600,
		"jti": fmt.Sprintf("id-%d", now.UnixNano()), "kubernetes.io": nested,
	}
	if change != nil {
		change(all, nested)
	}
	return all
}

// fixture is an issuer that signs what a cluster would.
func fixture(t *testing.T) *identitytest.Evidence {
	c := identitytest.NewClock()
	issuer, err := testissuer.Start(testissuer.Options{Now: c.Now, Algorithm: "RS256"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { issuer.Close() })
	tokens, err := oidc.New(oidc.Config{Name: "cluster", URL: issuer.URL(), Audience: audience, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	v, err := kubernetes.New(kubernetes.Config{Name: "cluster", Audience: audience, Tokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	token := func(change func(all, nested map[string]any)) string {
		all := claims(c.Now(), change)
		all["iss"] = issuer.URL()
		return issuer.Token(all)
	}
	if _, err := v.Verify(t.Context(), secret.New(token(nil))); err != nil {
		t.Fatal(err) // the keys are known from here on
	}
	bad := map[string]func(*testing.T) string{}
	for name, change := range map[string]func(all, nested map[string]any){
		"a token without Kubernetes' claim":         func(all, _ map[string]any) { delete(all, "kubernetes.io") },
		"a claim of Kubernetes that is text":        func(all, _ map[string]any) { all["kubernetes.io"] = "acme" },
		"a token of no namespace":                   func(_, nested map[string]any) { delete(nested, "namespace") },
		"a token of no account":                     func(_, nested map[string]any) { delete(nested, "serviceaccount") },
		"an account without a UID":                  func(_, nested map[string]any) { nested["serviceaccount"] = map[string]any{"name": "builder"} },
		"an account whose UID is a number":          func(_, nested map[string]any) { nested["serviceaccount"] = map[string]any{"name": "builder", "uid": 7} },
		"a pod without a UID":                       func(_, nested map[string]any) { nested["pod"] = map[string]any{"name": "x"} },
		"a pod in a list":                           func(_, nested map[string]any) { nested["pod"] = []any{"x"} },
		"a subject of another account":              func(all, _ map[string]any) { all["sub"] = "system:serviceaccount:acme:admin" },
		"a subject of another namespace":            func(all, _ map[string]any) { all["sub"] = "system:serviceaccount:kube-system:builder" },
		"a subject that is no account":              func(all, _ map[string]any) { all["sub"] = "system:admin" },
		"a namespace of its own beside Kubernetes'": func(all, _ map[string]any) { all["namespace"] = "kube-system" },
	} {
		bad[name] = func(*testing.T) string { return token(change) }
	}
	return &identitytest.Evidence{
		Verifier: v, Name: "cluster", URL: issuer.URL(), Subject: subject, Prefix: "ey", Now: c.Now, Advance: c.Advance,
		Life: time.Hour, Leeway: oidc.DefaultLeeway,
		Make:  func(*testing.T) string { return token(nil) },
		Asked: func() int { return issuer.Fetches().Discovery },
		Bad:   bad,
	}
}

func TestTheVerifierKeepsTheContract(t *testing.T) { identitytest.RunEvidence(t, fixture) }

func TestWhatKubernetesNestsIsAtTheTop(t *testing.T) {
	f := fixture(t)
	p, err := f.Verifier.Verify(t.Context(), secret.New(f.Make(t)))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"namespace": "acme", "service_account": "builder", "service_account_uid": "a-uid", "pod": "builder-x", "pod_uid": "p-uid",
		"node": "node-1", "node_uid": "n-uid", "credential_id": p.TokenID,
	} {
		if p.Claims[name] != want {
			t.Errorf("%s is %v, want %s", name, p.Claims[name], want)
		}
	}
}

// cluster is a real API server with an account of Daypass that may review tokens, as the how-to's rules make it.
type cluster struct {
	*testbed.Kubernetes
	space string
	token string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{Kubernetes: testbed.SharedKubernetes(t)}
	c.space = c.Namespace(t, "daypass")
	c.apply(t, "../../docs/howto/kubernetes-issuer.yaml")
	c.token = c.Token(t, c.space, "daypass", "", "")
	return c
}

// connect returns a verifier of the cluster's tokens that reviews them at address.
func (c *cluster) connect(t *testing.T, address, credential string) *kubernetes.Verifier {
	t.Helper()
	api, err := kube.New(kube.Config{URL: "https://" + address, CA: c.CA, Token: func() (secret.Text, error) { return secret.New(credential), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	return c.verifier(t, api, api)
}

// verifier takes the keys from one connection and reviews over another.
func (c *cluster) verifier(t *testing.T, keys, review *kube.Client) *kubernetes.Verifier {
	t.Helper()
	tokens, err := oidc.New(oidc.Config{Name: "cluster", URL: c.URL, Audience: audience, Now: time.Now, Source: func(ctx context.Context) (oidc.KeySet, error) {
		jwks, err := keys.Keys(ctx)
		return oidc.KeySet{JWKS: jwks, MaxAge: -1}, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := kubernetes.New(kubernetes.Config{Name: "cluster", Audience: audience, Tokens: tokens, API: review})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// pod makes a pod on a node, as a scheduler and a kubelet would, and returns its token.
func (c *cluster) pod(t *testing.T, namespace, account, name string) string {
	t.Helper()
	c.Account(t, namespace, account)
	c.Must(t, http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", map[string]any{
		"metadata": map[string]any{"name": name},
		"spec": map[string]any{
			"serviceAccountName": account, "automountServiceAccountToken": false, "nodeName": "node-1",
			"containers": []any{map[string]any{"name": "c", "image": "none"}},
		},
	})
	return c.Token(t, namespace, account, audience, name)
}

func accepted(t *testing.T, v *kubernetes.Verifier, token string) identity.Principal {
	t.Helper()
	p, err := v.Verify(t.Context(), secret.New(token))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// soonRejected fails unless the token is rejected within what API servers take to hear of a deletion.
func soonRejected(t *testing.T, v *kubernetes.Verifier, token string) {
	t.Helper()
	begun := time.Now()
	for {
		_, err := v.Verify(t.Context(), secret.New(token))
		if errors.Is(err, identity.ErrRejected) {
			t.Logf("rejected after %v: %v", time.Since(begun).Round(time.Millisecond), err)
			return
		}
		if time.Since(begun) > 2*time.Second {
			t.Fatalf("after %v: %v", time.Since(begun), err)
		}
	}
}

func TestATokenOfARealClusterSpeaksForItsPod(t *testing.T) {
	c := newCluster(t)
	v := c.connect(t, c.Address(), c.token)
	namespace := c.Namespace(t, "work")
	token := c.pod(t, namespace, "builder", "builder-1")
	p := accepted(t, v, token)
	if p.Subject != "system:serviceaccount:"+namespace+":builder" || p.IssuerURL != c.URL {
		t.Errorf("got %s of %s", p.Subject, p.IssuerURL)
	}
	for name, want := range map[string]any{"namespace": namespace, "service_account": "builder", "pod": "builder-1", "node": "node-1"} {
		if p.Claims[name] != want {
			t.Errorf("%s is %v, want %v", name, p.Claims[name], want)
		}
	}
	for _, name := range []string{"service_account_uid", "pod_uid", "credential_id"} {
		if text, _ := p.Claims[name].(string); text == "" {
			t.Errorf("%s is %v", name, p.Claims[name])
		}
	}
	// The same account without a pod, and for somebody else.
	if p := accepted(t, v, c.Token(t, namespace, "builder", audience, "")); p.Claims["pod"] != nil {
		t.Errorf("a token of no pod has the pod %v", p.Claims["pod"])
	}
	for _, other := range []string{"", "https://other.example"} {
		if _, err := v.Verify(t.Context(), secret.New(c.Token(t, namespace, "builder", other, ""))); !errors.Is(err, identity.ErrRejected) {
			t.Errorf("a token for %q: %v", other, err)
		}
	}
}

func TestTokensOfWhatWasDeletedAreRejectedAtOnce(t *testing.T) {
	c := newCluster(t)
	v := c.connect(t, c.Address(), c.token)
	unconnected := c.verifier(t, c.api(t), nil)
	for what, path := range map[string]string{"pod": "/pods/builder-1?gracePeriodSeconds=0", "account": "/serviceaccounts/builder"} {
		t.Run(what, func(t *testing.T) {
			namespace := c.Namespace(t, "work")
			token := c.pod(t, namespace, "builder", "builder-1")
			accepted(t, v, token)
			accepted(t, v, token) // the API server knows it by now
			c.Must(t, http.MethodDelete, "/api/v1/namespaces/"+namespace+path, nil)
			soonRejected(t, v, token)
			accepted(t, unconnected, token) // which is why one connects
			if what == "account" {
				c.Account(t, namespace, "builder") // the name alone is not the account
				soonRejected(t, v, token)
			}
		})
	}
}

// api is a connection of Daypass's account.
func (c *cluster) api(t *testing.T) *kube.Client {
	t.Helper()
	api, err := kube.New(kube.Config{URL: c.URL, CA: c.CA, Token: func() (secret.Text, error) { return secret.New(c.token), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	return api
}

func TestWhileTheClusterCannotBeAskedNobodyCanTell(t *testing.T) {
	c := newCluster(t)
	namespace := c.Namespace(t, "work")
	token := c.pod(t, namespace, "builder", "builder-1")
	unsure := func(v *kubernetes.Verifier) {
		t.Helper()
		p, err := v.Verify(t.Context(), secret.New(token))
		if err == nil || errors.Is(err, identity.ErrRejected) || p.Subject != "" {
			t.Errorf("got %q, %v", p.Subject, err)
		}
	}
	proxy := testbed.StartProxy(t, c.Address())
	v := c.connect(t, proxy.Address(), c.token)
	accepted(t, v, token)
	proxy.Set(testbed.Cut)
	unsure(v)
	// An account that may not ask, and one that is nobody.
	c.Account(t, namespace, "stranger")
	for _, credential := range []string{c.Token(t, namespace, "stranger", "", ""), "nobody"} {
		review, err := kube.New(kube.Config{URL: c.URL, CA: c.CA, Token: func() (secret.Text, error) { return secret.New(credential), nil }})
		if err != nil {
			t.Fatal(err)
		}
		unsure(c.verifier(t, c.api(t), review))
		review.Close()
	}
}
