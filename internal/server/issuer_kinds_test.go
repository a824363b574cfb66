package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

// kindsRig is a served Daypass with TLS, an authority for client certificates and a SPIFFE trust domain.
type kindsRig struct {
	*rig
	roots    *x509.CertPool // that know our server
	machines identitytest.Authority
	mesh     identitytest.Authority
	key      *testissuer.Key // of JWT-SVIDs
}

const allowKinds = `
permit (principal is Certificate::Workload, action == Action::"acquire", resource == Role::"orders-readonly")
when { principal.issuer == "machines" && principal.subject == "press-7" && principal.claims.organization.contains("Acme") };
permit (principal is SPIFFE::Workload, action == Action::"acquire", resource == Role::"orders-readonly")
when { principal.claims.trust_domain == "example.org" && principal.claims.path == "/acme/orders" };
permit (principal is AWS::Caller, action == Action::"acquire", resource == Role::"orders-readonly")
when { principal.claims.account == "123456789012" && principal.claims has role_name && principal.claims.role_name == "deploy" };
`

func newKindsRig(t *testing.T, change ...func(*rig)) *kindsRig {
	t.Helper()
	r := &kindsRig{rig: newRig(t), roots: x509.NewCertPool()}
	for _, c := range change {
		c(r.rig)
	}
	now := time.Now()
	r.machines, r.mesh = identitytest.NewAuthority(t, "machines", now), identitytest.NewAuthority(t, "mesh", now)
	own := identitytest.NewAuthority(t, "own", now)
	r.roots.AddCert(own.Certificate)
	chain, key := issue(t, own, func(c *x509.Certificate) {
		c.IPAddresses, c.ExtKeyUsage = []net.IP{net.IPv4(127, 0, 0, 1)}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	r.write(t, "tls.crt", string(toPEM("CERTIFICATE", chain[0].Raw)))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "tls.key", string(toPEM("PRIVATE KEY", der)))
	r.cfg.TLS = config.TLS{Certificate: r.dir + "/tls.crt", Key: r.dir + "/tls.key"}
	r.write(t, "secrets/machines.pem", string(toPEM("CERTIFICATE", r.machines.Certificate.Raw)))
	r.revoke(t)
	domain := spiffeid.RequireTrustDomainFromString("example.org")
	bundle := spiffebundle.FromX509Authorities(domain, []*x509.Certificate{r.mesh.Certificate})
	if r.key, err = testissuer.NewKey("svid-1", "ES256"); err != nil {
		t.Fatal(err)
	}
	if err := bundle.AddJWTAuthority(r.key.ID, r.key.Signer.Public()); err != nil {
		t.Fatal(err)
	}
	text, err := bundle.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "secrets/mesh.json", string(text))
	r.write(t, "access/kinds.yaml", `
kind: Issuer
name: machines
mtls: {ca: {file: machines.pem}, crl: {file: machines.crl}, subject: cn}
---
kind: Issuer
name: mesh
spiffe: {trust_domain: example.org, bundle: {file: mesh.json}}
---
kind: Issuer
name: aws
aws: {accounts: ["123456789012"]}
`)
	r.write(t, "access/policy.cedar", allowMain+allowKinds)
	r.start(t)
	return r
}

// revoke writes the revocation list of the machines.
func (r *kindsRig) revoke(t *testing.T, revoked ...*x509.Certificate) {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, r.machines.Certificate, r.machines.Key)
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "secrets/machines.crl", string(toPEM("X509 CRL", der)))
}

func toPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// issue returns a certificate of press-7 that differs as said.
func issue(t *testing.T, by identitytest.Authority, change func(*x509.Certificate)) ([]*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "press-7", Organization: []string{"Acme"}},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{by.Issue(t, template, key.Public())}, key
}

func svid(id string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		u, _ := url.Parse(id)
		c.Subject, c.URIs = pkix.Name{}, []*url.URL{u}
	}
}

// try acquires with a certificate, a token, or both.
func (r *kindsRig) try(t *testing.T, chain []*x509.Certificate, key *ecdsa.PrivateKey, token string) (*client.Lease, error) {
	t.Helper()
	config := &tls.Config{RootCAs: r.roots}
	if chain != nil {
		shown := &tls.Certificate{PrivateKey: key}
		for _, c := range chain {
			shown.Certificate = append(shown.Certificate, c.Raw)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return shown, nil }
	}
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	options := client.Options{URL: r.URL(), HTTP: &http.Client{Transport: transport}}
	if token != "" {
		options.Token = client.StaticToken(secret.New(token))
	}
	c, err := client.New(options)
	if err != nil {
		t.Fatal(err)
	}
	return c.Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"})
}

func (r *kindsRig) jwt(audience, subject string) string {
	now := time.Now().Unix()
	header, _ := json.Marshal(map[string]any{"alg": "ES256", "kid": r.key.ID, "typ": "JWT"})
	payload, _ := json.Marshal(map[string]any{"sub": subject, "aud": []string{audience}, "iat": now, "exp": now + 300})
	return r.key.Sign(header, payload)
}

// status fails unless a call was refused with that status.
func status(t *testing.T, what string, err error, want int) {
	t.Helper()
	problem, ok := errors.AsType[*api.Problem](err)
	if !ok || problem.Status != want {
		t.Errorf("%s: got %v, want %d", what, err, want)
	}
}

func TestCertificatesAndSPIFFEIdentitiesAcquireOverTLS(t *testing.T) {
	r := newKindsRig(t)
	revoked, revokedKey := issue(t, r.machines, nil)
	r.revoke(t, revoked[0]) // the list is read with the first certificate
	good := func(what, principal string, lease *client.Lease, err error) {
		t.Helper()
		if err != nil || lease.Info().Principal != principal {
			t.Errorf("%s: %v", what, err)
		}
	}
	chain, key := issue(t, r.machines, nil)
	lease, err := r.try(t, chain, key, "")
	good("a machine", "machines:press-7", lease, err)
	chain, key = issue(t, r.mesh, svid("spiffe://example.org/acme/orders"))
	lease, err = r.try(t, chain, key, "")
	good("an X509-SVID", "mesh:spiffe://example.org/acme/orders", lease, err)
	lease, err = r.try(t, nil, nil, r.jwt(r.URL(), "spiffe://example.org/acme/orders"))
	good("a JWT-SVID", "mesh:spiffe://example.org/acme/orders", lease, err)

	for what, c := range map[string]struct {
		by     identitytest.Authority
		change func(*x509.Certificate)
		want   int
	}{
		"another machine":                   {r.machines, func(c *x509.Certificate) { c.Subject.CommonName = "press-8" }, 403},
		"another company's machine":         {r.machines, func(c *x509.Certificate) { c.Subject.Organization = nil }, 403},
		"another workload":                  {r.mesh, svid("spiffe://example.org/acme/billing"), 403},
		"a stranger":                        {identitytest.NewAuthority(t, "machines", time.Now()), nil, 401},
		"a machine by the mesh's authority": {r.mesh, nil, 401},
		"a workload by the machines' one":   {r.machines, svid("spiffe://example.org/acme/orders"), 401},
		"a workload of another domain":      {r.mesh, svid("spiffe://other.org/acme/orders"), 401},
		"a server's certificate":            {r.machines, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, 401},
		"an old certificate":                {r.machines, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }, 401},
	} {
		chain, key := issue(t, c.by, c.change)
		_, err := r.try(t, chain, key, "")
		status(t, what, err, c.want)
	}
	_, err = r.try(t, nil, nil, r.jwt("https://other.example", "spiffe://example.org/acme/orders"))
	status(t, "a JWT-SVID for another", err, 401)
	_, err = r.try(t, nil, nil, r.jwt(r.URL(), "spiffe://other.org/acme/orders"))
	status(t, "a JWT-SVID of another domain", err, 401)
	_, err = r.try(t, nil, nil, "dpaws_e30")
	status(t, "a signed request that is none", err, 401)
	if strings.Contains(r.log.String(), "dpaws_e30") {
		t.Error("the log shows evidence")
	}
	_, err = r.try(t, revoked, revokedKey, "")
	status(t, "a revoked certificate", err, 401)
}
