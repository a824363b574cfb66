package server_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/daypass/daypass/api"
)

// over sends one request over a connection of its own, which takes up the session in cache, if there is one.
func (r *kindsRig) over(t *testing.T, cache tls.ClientSessionCache, chain []*x509.Certificate, key *ecdsa.PrivateKey, method, path, token string, form url.Values) (status int, body string, resumed bool) {
	t.Helper()
	config := &tls.Config{RootCAs: r.roots, ClientSessionCache: cache, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		shown := &tls.Certificate{PrivateKey: key}
		for _, c := range chain {
			shown.Certificate = append(shown.Certificate, c.Raw)
		}
		return shown, nil
	}}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), method, r.URL()+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text), response.TLS.DidResume
}

// A session that is taken up again holds the certificate of its first handshake, and nothing is believed of it that is
// not looked at again: the token is bound to that certificate, and its issuer has to count still.
func TestASessionThatIsTakenUpAgainIsWorthItsOwnCertificate(t *testing.T) {
	r := newKindsRig(t)
	chain, key := issue(t, r.machines, nil)
	other, otherKey := issue(t, r.machines, func(c *x509.Certificate) { c.Subject.CommonName = "press-8" })
	cache, otherCache := tls.NewLRUClientSessionCache(4), tls.NewLRUClientSessionCache(4)
	grant := url.Values{"grant_type": {"client_credentials"}}
	status, body, _ := r.over(t, cache, chain, key, "POST", "/oauth/token", "", grant)
	var given api.TokenAnswer
	if err := json.Unmarshal([]byte(body), &given); err != nil || status != 200 || given.TokenType != "Bearer" {
		t.Fatalf("%d %s", status, body)
	}
	if status, body, resumed := r.over(t, cache, chain, key, "GET", "/v1/leases", given.AccessToken, nil); status != 200 || !resumed {
		t.Errorf("a session taken up again: %d %s, %v", status, body, resumed)
	}
	if status, body, _ := r.over(t, otherCache, other, otherKey, "GET", "/v1/leases", given.AccessToken, nil); status != 401 {
		t.Errorf("the token over another's connection: %d %s", status, body)
	}
	// The session is that of the other one, whatever certificate is at hand now.
	if status, body, resumed := r.over(t, otherCache, chain, key, "GET", "/v1/leases", given.AccessToken, nil); status != 401 || !resumed {
		t.Errorf("the token over another's session: %d %s, %v", status, body, resumed)
	}
	if status, body, _ := r.over(t, tls.NewLRUClientSessionCache(4), nil, nil, "GET", "/v1/leases", given.AccessToken, nil); status != 401 {
		t.Errorf("the token without a certificate: %d %s", status, body)
	}
	files := map[string]string{"access.yaml": r.accessFile(), "policy.cedar": allowMain}
	if _, err := r.administrator(t).ApplyAccess(t.Context(), files, ""); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"", given.AccessToken} {
		form := grant
		if token != "" {
			form = url.Values{"token": {token}}
		}
		path := map[bool]string{true: "/oauth/token", false: "/oauth/introspect"}[token == ""]
		if status, body, _ := r.over(t, cache, chain, key, "POST", path, token, form); status != 401 {
			t.Errorf("%s in an old session, after its issuer left: %d %s", path, status, body)
		}
	}
}

// A proxy that shows a certificate of its own speaks for everybody who reaches it. Were that certificate evidence, all of
// them were the proxy; were tokens bound to it, each could use the others'.
func TestAProxysCertificateIsNobodyElses(t *testing.T) {
	r := newKindsRig(t, func(r *rig) { r.cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	chain, key := issue(t, r.machines, nil)
	_, err := r.try(t, chain, key, "")
	status(t, "the proxy's certificate alone", err, 401)
	token := r.jwt(r.URL(), "spiffe://example.org/acme/orders")
	code, body, _ := r.over(t, nil, chain, key, "POST", "/oauth/token", "", url.Values{"grant_type": {"client_credentials"}})
	if code != 401 || !strings.Contains(body, "invalid_client") {
		t.Errorf("a client by the proxy's certificate: %d %s", code, body)
	}
	code, body, _ = r.over(t, nil, chain, key, "POST", "/oauth/token", "", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {token}})
	if code != 400 || !strings.Contains(body, "bound to a key") {
		t.Errorf("a token bound to the proxy's certificate: %d %s", code, body)
	}
	if lease, err := r.try(t, chain, key, token); err != nil || lease.Info().Principal != "mesh:spiffe://example.org/acme/orders" {
		t.Errorf("a workload's own token through the proxy: %v", err)
	}
}
