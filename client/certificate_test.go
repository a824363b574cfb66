package client_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/secret"
)

// pair makes a certificate for a name, which signs itself, and its key, both in PEM.
func pair(t *testing.T, name string, life time.Duration) (certificate, key []byte) {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}

// keeper is a place for a certificate and its key.
type keeper struct{ certificate, key string }

func newKeeper(t *testing.T) keeper {
	dir := t.TempDir()
	return keeper{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
}

func (k keeper) put(t *testing.T, certificate, key []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(k.certificate, certificate, 0o600), os.WriteFile(k.key, key, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// fresh puts a certificate for a name.
func (k keeper) fresh(t *testing.T, name string) {
	t.Helper()
	certificate, key := pair(t, name, time.Hour)
	k.put(t, certificate, key)
}

// secure is a server that asks for certificates, as one with an issuer for them does.
func secure(t *testing.T, ask tls.ClientAuthType, h http.HandlerFunc) client.Options {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2, server.TLS = true, &tls.Config{ClientAuth: ask}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return client.Options{URL: server.URL, CAFile: ca}
}

// caller is who a request is of, as the server sees it.
func caller(r *http.Request) string {
	if a := r.Header.Get("Authorization"); a != "" {
		return a
	}
	if len(r.TLS.PeerCertificates) == 0 {
		return "nobody"
	}
	return r.TLS.PeerCertificates[0].Subject.CommonName
}

func TestACertificateThatWasReplacedIsShownWithTheNextCall(t *testing.T) {
	var seen []string
	o := secure(t, tls.RequestClientCert, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, caller(r)+" "+r.Proto)
		writeJSON(w, http.StatusOK, api.Status{})
	})
	files := newKeeper(t)
	o.Certificate = client.FileCertificate(files.certificate, files.key)
	c := newClient(t, o)
	ask := func() {
		t.Helper()
		if _, err := c.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	files.fresh(t, "one")
	ask()
	ask()
	certificate, key := pair(t, "two", time.Hour)
	if err := os.WriteFile(files.certificate, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	ask() // its key is still on the way: what belongs together counts
	if err := os.WriteFile(files.key, key, 0o600); err != nil {
		t.Fatal(err)
	}
	ask()
	if got, want := strings.Join(seen, ", "), "one HTTP/2.0, one HTTP/2.0, one HTTP/2.0, two HTTP/2.0"; got != want {
		t.Errorf("the server saw %s, want %s", got, want)
	}
}

func TestWhatIsWrongWithACertificateIsSaidAndNothingIsSent(t *testing.T) {
	o := secure(t, tls.RequestClientCert, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("a call went out as %s", caller(r)) })
	certificate, key := pair(t, "one", time.Hour)
	_, other := pair(t, "two", time.Hour)
	old, oldKey := pair(t, "old", -time.Minute)
	locked := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("canary")})
	for want, texts := range map[string][2][]byte{
		"no such file":                            {},
		"holds no certificate in PEM":             {[]byte("canary"), key},
		"holds no private key in PEM":             {certificate, []byte("canary")},
		"is encrypted with a passphrase":          {certificate, locked},
		"is not that of the first certificate in": {certificate, other},
		"expired at":                              {old, oldKey},
		"has more than":                           {certificate, make([]byte, 1<<20)},
	} {
		files := newKeeper(t)
		if texts[0] != nil {
			files.put(t, texts[0], texts[1])
		}
		o.Certificate = client.FileCertificate(files.certificate, files.key)
		_, err := newClient(t, o).Acquire(t.Context(), api.AcquireRequest{Role: "orders"})
		if !errors.Is(err, client.ErrNoCertificate) || errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

func TestALeaseIsRenewedByTheCertificateAndReleasedAlsoWithoutOne(t *testing.T) {
	var seen []string
	o := secure(t, tls.RequestClientCert, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method+" "+caller(r))
		if r.URL.Path == "/v1/leases" {
			writeJSON(w, http.StatusCreated, acquired(time.Minute))
			return
		}
		writeJSON(w, http.StatusOK, acquired(time.Hour).Lease)
	})
	files := newKeeper(t)
	files.fresh(t, "one")
	o.Certificate = client.FileCertificate(files.certificate, files.key)
	lease, err := newClient(t, o).Acquire(t.Context(), api.AcquireRequest{Role: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lease.Renew(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(files.key); err != nil {
		t.Fatal(err)
	}
	_, renewed := lease.Renew(t.Context(), nil)
	_, released := lease.Release(t.Context(), 0)
	if renewed != nil || released != nil {
		t.Errorf("without a certificate: renew: %v, release: %v", renewed, released)
	}
	if got, want := strings.Join(seen, ", "), "POST one, POST one, POST Bearer lease-token, DELETE Bearer lease-token"; got != want {
		t.Errorf("the server saw %s, want %s", got, want)
	}
}

func TestACertificateThatNobodyAskedForIsNamedInTheRefusal(t *testing.T) {
	for ask, told := range map[tls.ClientAuthType]bool{tls.NoClientCert: true, tls.RequestClientCert: false} {
		o := secure(t, ask, func(w http.ResponseWriter, _ *http.Request) {
			writeProblem(w, api.Problem{Status: http.StatusUnauthorized, Code: "unauthenticated", Detail: "who are you"})
		})
		files := newKeeper(t)
		files.fresh(t, "one")
		o.Certificate = client.FileCertificate(files.certificate, files.key)
		_, err := newClient(t, o).Status(t.Context())
		if err == nil || strings.Contains(err.Error(), "was not asked for in TLS") != told {
			t.Errorf("%v: got %v", ask, err)
		}
	}
}

func TestACertificateAndATokenAreShownTogether(t *testing.T) {
	var seen []string
	o := secure(t, tls.RequestClientCert, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/.well-known/") {
			http.NotFound(w, r)
			return
		}
		seen = append(seen, caller(r)+" "+r.TLS.PeerCertificates[0].Subject.CommonName)
		writeJSON(w, http.StatusOK, api.Status{})
	})
	files := newKeeper(t)
	files.fresh(t, "one")
	o.Certificate, o.Token = client.FileCertificate(files.certificate, files.key), client.StaticToken(secret.New("evidence"))
	if _, err := newClient(t, o).Status(t.Context()); err != nil || len(seen) != 1 || seen[0] != "Bearer evidence one" {
		t.Errorf("the server saw %v, %v", seen, err)
	}
}

func TestACertificateNeedsTLSOfOurOwn(t *testing.T) {
	source := client.FileCertificate("a", "b")
	for _, o := range []client.Options{
		{URL: "http://127.0.0.1:1", Certificate: source},
		{URL: "unix:///run/daypass.sock", Certificate: source},
		{URL: "https://daypass.example.com", Certificate: source, HTTP: &http.Client{}},
		{URL: "https://daypass.example.com", Certificate: source, HTTP: &http.Client{Transport: wire{}}},
	} {
		if _, err := client.New(o); err == nil {
			t.Errorf("%s is accepted", o.URL)
		}
	}
}
