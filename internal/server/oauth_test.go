package server_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/internal/testissuer"
)

// caller sends requests to a server, perhaps with a client certificate.
type caller struct {
	*http.Client
	base string
}

// with is a caller with a certificate, or without one.
func (r *kindsRig) with(t *testing.T, chain []*x509.Certificate, key *ecdsa.PrivateKey) caller {
	t.Helper()
	config := &tls.Config{RootCAs: r.roots}
	if chain != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{PrivateKey: key, Certificate: [][]byte{chain[0].Raw}}, nil
		}
	}
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return caller{&http.Client{Transport: transport}, r.URL()}
}

func (c caller) send(t *testing.T, method, path, body string, head map[string]string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(method, c.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range head {
		request.Header.Set(name, value)
	}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

func (c caller) form(t *testing.T, fields url.Values, head map[string]string) (*http.Response, api.TokenAnswer, string) {
	t.Helper()
	all := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	for name, value := range head {
		all[name] = value
	}
	response, text := c.send(t, "POST", "/oauth/token", fields.Encode(), all)
	var out api.TokenAnswer
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
	return response, out, text
}

func TestATokenIsBoundToTheCertificateThatItsHolderShows(t *testing.T) {
	r := newKindsRig(t)
	chain, key := issue(t, r.machines, nil)
	other, otherKey := issue(t, r.machines, nil)
	holder, thief, bare := r.with(t, chain, key), r.with(t, other, otherKey), r.with(t, nil, nil)

	for name, fields := range map[string]url.Values{
		"by its certificate": {"grant_type": {"client_credentials"}},
		"by a JWT-SVID": {"grant_type": {"client_credentials"}, "client_assertion": {r.jwt(r.URL(), "spiffe://example.org/acme/orders")},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"}, "client_id": {"spiffe://example.org/acme/orders"}},
	} {
		_, got, text := holder.form(t, fields, nil)
		if got.TokenType != "Bearer" || got.AccessToken == "" {
			t.Fatalf("%s: %s", name, text)
		}
		// The authority may take a certificate back, and an SVID lives for as long.
		if got.ExpiresIn > 300 || got.ExpiresIn < 290 {
			t.Errorf("%s: it lives for %d s, want about 300", name, got.ExpiresIn)
		}
		for who, c := range map[string]struct {
			caller
			scheme string
			want   int
		}{"holder": {holder, "Bearer ", 200}, "thief": {thief, "Bearer ", 401}, "one without a certificate": {bare, "Bearer ", 401}, "wrong scheme": {holder, "DPoP ", 401}} {
			response, text := c.send(t, "GET", "/v1/leases", "", map[string]string{"Authorization": c.scheme + got.AccessToken})
			if response.StatusCode != c.want {
				t.Errorf("%s, the %s: %d %s", name, who, response.StatusCode, text)
			}
		}
		again := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {got.AccessToken},
			"subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}}
		if response, _, text := thief.form(t, again, nil); response.StatusCode != 400 {
			t.Errorf("%s: a thief exchanges it: %s", name, text)
		}
		if response, _, text := holder.form(t, again, nil); response.StatusCode != 200 {
			t.Errorf("%s: its holder cannot exchange it: %s", name, text)
		}
	}
	if response, _, text := bare.form(t, url.Values{"grant_type": {"client_credentials"}}, nil); response.StatusCode != 401 || !strings.Contains(text, "invalid_client") {
		t.Errorf("nobody: %d %s", response.StatusCode, text)
	}
}

func TestAProofIsUsedUpAtAllServersOfAStore(t *testing.T) {
	first := newRig(t).share(t).start(t)
	second := first.another(t)
	prover, err := dpop.NewProver()
	if err != nil {
		t.Fatal(err)
	}
	at := func(r *rig) caller { return caller{http.DefaultClient, "http://" + r.Address()} }
	metadata, _ := at(first).send(t, "GET", "/.well-known/oauth-authorization-server", "", nil)
	nonce := metadata.Header.Get(dpop.HeaderNonce)
	prove := func(method, path, token string) string {
		proof, err := prover.Prove(dpop.Request{Method: method, URL: first.URL() + path, Token: token}, nonce, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return proof
	}
	evidence := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"},
		"subject_token": {first.issuer.Token(first.issuer.GitHub(testissuer.Run{Audience: first.URL()}))}}
	proof := prove("POST", "/oauth/token", "")
	_, got, text := at(first).form(t, evidence, map[string]string{"DPoP": proof})
	if got.AccessToken == "" {
		t.Fatal(text)
	}
	if response, _, text := at(second).form(t, evidence, map[string]string{"DPoP": proof}); response.StatusCode != 400 || !strings.Contains(text, "invalid_dpop_proof") {
		t.Errorf("a proof of an exchange, again at the other server: %d %s", response.StatusCode, text)
	}
	proof = prove("POST", "/v1/leases", got.AccessToken)
	for i, want := range []int{201, 401} {
		server := at([]*rig{second, first}[i]) // the nonce of the first, and its token, are good at the second
		response, text := server.send(t, "POST", "/v1/leases", `{"role":"orders-readonly"}`, map[string]string{"Authorization": "DPoP " + got.AccessToken, "DPoP": proof})
		if response.StatusCode != want {
			t.Errorf("acquisition %d: %d %s", i, response.StatusCode, text)
		}
	}
	if response, text := at(second).send(t, "POST", "/oauth/revoke", url.Values{"token": {got.AccessToken}}.Encode(), map[string]string{"Content-Type": "application/x-www-form-urlencoded"}); response.StatusCode != 200 {
		t.Errorf("revoke: %s", text)
	}
	response, _ := at(first).send(t, "GET", "/v1/leases", "", map[string]string{"Authorization": "DPoP " + got.AccessToken, "DPoP": prove("GET", "/v1/leases", got.AccessToken)})
	if response.StatusCode != 401 {
		t.Errorf("revoked at one server, at the other: %d", response.StatusCode)
	}
}
