package oidc_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

const audience = "https://daypass.example.com"

// memory is a key store in memory.
type memory struct {
	mu  sync.Mutex
	all map[string]stored
	err error
}

type stored struct {
	jwks []byte
	at   time.Time
}

func (m *memory) Keys(_ context.Context, url string) ([]byte, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all[url].jwks, m.all[url].at, m.err
}

func (m *memory) PutKeys(_ context.Context, url string, jwks []byte, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all == nil {
		m.all = map[string]stored{}
	}
	m.all[url] = stored{jwks, at}
	return m.err
}

// world is an issuer that runs and a verifier that trusts it.
type world struct {
	*identitytest.Clock
	issuer   *testissuer.Issuer
	store    *memory
	config   oidc.Config
	verifier *oidc.Verifier
}

func newWorld(t testing.TB, algorithm string, change ...func(*oidc.Config)) *world {
	t.Helper()
	w := &world{Clock: identitytest.NewClock(), store: &memory{}}
	w.issuer = startIssuer(t, testissuer.Options{Now: w.Now, Algorithm: algorithm})
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	w.config = oidc.Config{
		Name: "github", URL: w.issuer.URL(), Audience: audience, Client: client, Keys: w.store, Now: w.Now, MaxAge: 2 * time.Hour,
	}
	for _, c := range change {
		c(&w.config)
	}
	w.verifier = w.restart(t)
	return w
}

func (w *world) restart(t testing.TB) *oidc.Verifier {
	t.Helper()
	v, err := oidc.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func startIssuer(t testing.TB, opt testissuer.Options) *testissuer.Issuer {
	t.Helper()
	issuer, err := testissuer.Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { issuer.Close() })
	return issuer
}

// github returns a token like GitHub's.
func (w *world) github() secret.Text {
	return secret.New(w.issuer.Token(w.issuer.GitHub(testissuer.Run{Audience: audience})))
}

func (w *world) verify(token secret.Text) (identity.Principal, error) {
	return w.verifier.Verify(context.Background(), token)
}

func testKey(k *testissuer.Key) identitytest.Key {
	return identitytest.Key{ID: k.ID, Algorithm: k.Algorithm, Public: k.Signer.Public(), Sign: k.Signature}
}

func fixture(t *testing.T, algorithm string) *identitytest.Fixture {
	w := newWorld(t, algorithm)
	var foreign *testissuer.Issuer
	f := &identitytest.Fixture{
		Verifier: w.verifier, Name: "github", URL: w.issuer.URL(), Audience: audience, Now: w.Now, Advance: w.Advance,
		Leeway: oidc.DefaultLeeway, MaxAge: 2 * time.Hour, Floor: oidc.DefaultFloor, KeyAge: oidc.DefaultKeyAge, KeyLife: oidc.DefaultKeyLife,
		Key:     func() identitytest.Key { return testKey(w.issuer.Key()) },
		Fetches: func() int { return w.issuer.Fetches().Discovery },
		Rotate: func() {
			if _, err := w.issuer.Rotate(algorithm); err != nil {
				t.Fatal(err)
			}
		},
		Remove:   w.issuer.Remove,
		SetDown:  func(down bool) { w.issuer.SetFaults(testissuer.Faults{Down: down}) },
		Oversize: func() { w.issuer.SetFaults(testissuer.Faults{Oversized: true}) },
		Mismatch: func() { w.issuer.SetFaults(testissuer.Faults{Issuer: "https://other.example"}) },
		Restart:  func() identity.Verifier { return w.restart(t) },
		Unfit:    func(kind string) identitytest.Key { return publishUnfit(t, w.issuer, kind) },
	}
	f.Redirect = func() {
		foreign = startIssuer(t, testissuer.Options{Now: w.Now, Algorithm: algorithm})
		w.issuer.SetFaults(testissuer.Faults{Redirect: foreign.URL() + "/.well-known/jwks"})
	}
	f.Foreign = func() identitytest.Key { return testKey(foreign.Key()) }
	return f
}

// publicKey returns a key the way issuers publish it.
func publicKey(k *testissuer.Key) jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.Signer.Public(), KeyID: k.ID, Algorithm: k.Algorithm, Use: "sig"}
}

func publishUnfit(t *testing.T, issuer *testissuer.Issuer, kind string) identitytest.Key {
	id := "unfit-" + kind
	if kind == "oct" {
		secret := []byte("32 bytes that everybody can read")
		issuer.Publish(map[string]any{"kty": "oct", "k": base64.RawURLEncoding.EncodeToString(secret), "kid": id, "alg": "HS256"})
		return identitytest.Key{ID: id, Algorithm: "HS256", Sign: func(input []byte) []byte {
			mac := hmac.New(sha256.New, secret)
			mac.Write(input)
			return mac.Sum(nil)
		}}
	}
	private, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	key := &testissuer.Key{ID: id, Algorithm: "RS256", Signer: private}
	issuer.Publish(publicKey(key))
	return testKey(key)
}

func TestTheVerifierKeepsTheContract(t *testing.T) {
	for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
		t.Run(algorithm, func(t *testing.T) {
			identitytest.Run(t, func(t *testing.T) *identitytest.Fixture { return fixture(t, algorithm) })
		})
	}
}
