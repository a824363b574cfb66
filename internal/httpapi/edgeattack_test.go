package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/internal/config"
)

// A browser shows a client certificate to whoever makes it ask. Forms, and bodies without a type, go to other sites
// without a question before.
func TestAPageOfAnotherSiteAsksForNothingInABrowser(t *testing.T) {
	r := newRig(t, nil)
	mine := r.acquire(t, "worker")
	token := bearer(r.token("worker"))
	for _, head := range []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: https://evil.example", "Origin: null"} {
		for _, c := range []struct{ method, path, body string }{
			{"POST", "/v1/leases", `{"role":"reader"}`}, {"DELETE", "/v1/leases/" + mine.Lease.ID, ""}, {"POST", "/v1/leases/" + mine.Lease.ID + "/renew", ""},
			{"POST", "/v1/devices", `{"token":"x"}`}, {"POST", "/v1/locks", `{"match":{"role":"reader"}}`},
		} {
			checkProblem(t, r.ask(t, c.method, c.path, c.body, token, head), 403, "denied")
		}
		checkOAuth(t, r.post(t, "/oauth/token", fields(r.token("worker"), map[string]string{"scope": "role:reader"}), head), 400, "invalid_request")
		checkOAuth(t, r.post(t, "/oauth/revoke", map[string]string{"token": mine.LeaseToken}, head), 400, "invalid_request")
		checkOAuth(t, r.post(t, "/oauth/introspect", map[string]string{"token": mine.LeaseToken}, token, head), 401, "invalid_client")
	}
	for _, head := range []string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none", "Origin: " + r.URL()} {
		if got := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, token, head); got.status != 201 {
			t.Errorf("%s: %d %s", head, got.status, got.body)
		}
	}
	if got := r.ask(t, "GET", "/v1/leases", "", token, "Sec-Fetch-Site: cross-site"); got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a page of another site may read the answer: %v", got.header)
	}
	if n := len(r.system.Leases()); n != 4 {
		t.Errorf("%d credentials live, want that of the beginning and three", n)
	}
}

// behind is a rig whose URL is that of a proxy, which strips a part of each path, and has a mind of its own about headers.
func behind(t *testing.T, rewrite func(*httputil.ProxyRequest)) *rig {
	t.Helper()
	var through atomic.Pointer[httputil.ReverseProxy] // what the rig asks before it is there is whether it is ready
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if proxy := through.Load(); proxy != nil {
			proxy.ServeHTTP(w, request)
		}
	}))
	t.Cleanup(front.Close)
	r := newRig(t, func(cfg *config.Config) { cfg.URL = front.URL + "/desk" })
	back, err := url.Parse("http://" + r.Address())
	if err != nil {
		t.Fatal(err)
	}
	through.Store(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(back)
		p.Out.URL.Path = strings.TrimPrefix(p.In.URL.Path, "/desk")
		rewrite(p)
	}})
	return r
}

// The URL that a proof is for is the one in our configuration: what a proxy makes of a request, or somebody in the place
// of one, moves no proof to another URL, and keeps none from its own.
func TestProofsHoldThroughAProxyWhateverItSaysOfTheRequest(t *testing.T) {
	r := behind(t, func(p *httputil.ProxyRequest) {
		p.SetXForwarded()
		for name, value := range map[string]string{"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/evil",
			"X-Original-Url": "/v1/locks", "X-Rewrite-Url": "/v1/locks", "X-Http-Method-Override": "DELETE", "Forwarded": "host=evil.example;proto=https"} {
			p.Out.Header.Set(name, value)
		}
		p.Out.Host = "inner.example"
	})
	h := r.holder(t)
	token := h.access(t, "worker")
	got := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, "Authorization: DPoP "+token, h.proof(t, "POST", "/v1/leases", token))
	if got.status != 201 {
		t.Fatalf("the holder: %d %s", got.status, got.body)
	}
	var a api.Acquired
	decode(t, got, &a)
	direct := "http://" + r.Address()
	for name, where := range map[string]string{
		"of the host that the proxy speaks to":      direct + "/v1/leases",
		"of the host that a header says":            "https://evil.example/v1/leases",
		"of the host that another header says":      "http://inner.example/v1/leases",
		"of the path without its part":              strings.TrimSuffix(r.URL(), "/desk") + "/v1/leases",
		"of the path that a header says":            r.URL() + "/v1/locks",
		"of a path that the proxy takes for it":     r.URL() + "/v1/./leases",
		"of a spelling that the proxy takes for it": r.URL() + "/v1/%6Ceases",
	} {
		proof := "DPoP: " + h.prove(t, dpop.Request{Method: "GET", URL: where, Token: token}, h.nonce)
		for _, base := range []string{r.URL(), direct} {
			if got := r.askAt(t, http.DefaultClient, base, "GET", "/v1/leases", "", "Authorization: DPoP "+token, proof); got.status != 401 {
				t.Errorf("a proof %s, at %s: %d %s", name, base, got.status, got.body)
			}
		}
	}
	// Who comes without the proxy still proves the URL that we are known by.
	if got := r.askAt(t, http.DefaultClient, direct, "GET", "/v1/leases", "", "Authorization: DPoP "+token, h.proof(t, "GET", "/v1/leases", token)); got.status != 200 {
		t.Errorf("directly: %d %s", got.status, got.body)
	}
	if got := r.ask(t, "GET", "/v1/leases/"+a.Lease.ID, "", bearer(a.LeaseToken)); got.status != 200 || !strings.Contains(got.body, `"active"`) {
		t.Errorf("a header changed the method: %d %s", got.status, got.body)
	}
}

// A certificate that a header holds is nobody's: a key is proved in the handshake alone.
func TestACertificateInAHeaderIsNobodys(t *testing.T) {
	r := newRig(t, nil)
	for _, head := range []string{"X-Forwarded-Client-Cert: Hash=00;URI=spiffe://example.org/admin", "Client-Cert: :MIIB:", "X-Client-Cert: MIIB",
		"Ssl-Client-Verify: SUCCESS", "X-Ssl-Client-S-Dn: CN=boss", "X-Remote-User: boss", "X-Daypass-Principal: test:boss"} {
		checkProblem(t, r.ask(t, "GET", "/v1/status", "", head), 401, "unauthenticated")
		checkOAuth(t, r.post(t, "/oauth/token", map[string]string{"grant_type": "client_credentials", "scope": "role:reader"}, head), 401, "invalid_client")
	}
}
