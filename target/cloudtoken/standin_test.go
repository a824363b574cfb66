package cloudtoken_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/keyring"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloudtoken"
)

const (
	issuerURL = "https://daypass.example.com"
	provider  = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/daypass/providers/daypass"
	account   = "deploy@acme-prod.iam.gserviceaccount.com"
	tenant    = "11111111-2222-3333-4444-555555555555"
	app       = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
)

// shelf keeps the keys of an issuer.
type shelf struct {
	mu     sync.Mutex // guards what follows
	sealed []byte
}

func (s *shelf) Load(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sealed, nil
}

func (s *shelf) Swap(_ context.Context, _, next []byte, _ issuer.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = next
	return nil
}

// given is a token that the stand-in gave.
type given struct {
	name      string // jti of the token of ours that it was given for
	subject   string
	resource  string // what it opens
	expires   time.Time
	federated bool // at Google: good for impersonation only
}

// cloud is a stand-in for the token services of Google Cloud and Entra, written by their documentation. It verifies
// our tokens by our published keys, as they do, and trusts every role but one. It is not the real thing.
type cloud struct {
	t      testing.TB
	issuer *issuer.Issuer
	url    string

	mu     sync.Mutex // guards what follows
	now    time.Time
	life   time.Duration // of Entra's tokens
	tokens map[string]given
	until  map[string]time.Time // of leases, as the store of a broker remembers
	answer http.HandlerFunc     // instead of everything, where it is set
	asked  int
}

func newIssuer(t testing.TB) func(*cloud) *issuer.Issuer {
	t.Helper()
	master, err := keyring.Create(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	keys := &shelf{}
	return func(c *cloud) *issuer.Issuer {
		return issuer.New(issuer.Config{URL: issuerURL, Key: master, Shelf: keys, Now: c.clock, Log: slog.New(slog.DiscardHandler)})
	}
}

func newCloud(t testing.TB, made func(*cloud) *issuer.Issuer) *cloud {
	t.Helper()
	c := &cloud{t: t, now: time.Now(), life: time.Hour, tokens: map[string]given{}, until: map[string]time.Time{}}
	c.issuer = made(c)
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *cloud) clock() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *cloud) pass(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

func (c *cloud) config() cloudtoken.Config {
	return cloudtoken.Config{
		Instance: "abc234", Now: c.clock,
		Sign: func(ctx context.Context, o cloudtoken.Order) (secret.Text, error) {
			return c.issuer.Sign(ctx, issuer.Token{ID: o.ID, Algorithm: issuer.RS256, Subject: o.Subject, Audience: []string{o.Audience}, TTL: o.TTL})
		},
		Until: func(_ context.Context, lease string) (time.Time, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.until[lease], nil
		},
	}
}

func (c *cloud) google() *cloudtoken.Target {
	c.t.Helper()
	made, err := cloudtoken.NewGoogle(c.config(), cloudtoken.GoogleSettings{Provider: provider, STS: c.url, IAMCredentials: c.url})
	if err != nil {
		c.t.Fatal(err)
	}
	return made
}

func (c *cloud) azure() *cloudtoken.Target { return c.azureWith(90 * time.Minute) }

func (c *cloud) azureWith(life time.Duration) *cloudtoken.Target {
	c.t.Helper()
	lifetime := api.Duration(life)
	made, err := cloudtoken.NewAzure(c.config(), cloudtoken.AzureSettings{Tenant: tenant, Authority: c.url, TokenLifetime: &lifetime})
	if err != nil {
		c.t.Fatal(err)
	}
	return made
}

// ServeHTTP is the clouds' side.
func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.asked++
	special := c.answer
	c.mu.Unlock()
	if special != nil {
		special(w, r)
		return
	}
	out, err := c.serve(r)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		out = map[string]any{"error": "invalid_grant", "error_description": err.Error()}
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		c.t.Errorf("answer: %v", err)
	}
}

func (c *cloud) serve(r *http.Request) (any, error) {
	switch {
	case r.URL.Path == "/v1/token":
		return c.federate(r)
	case strings.HasPrefix(r.URL.Path, "/v1/projects/-/serviceAccounts/"):
		return c.impersonate(r)
	case r.URL.Path == "/"+tenant+"/oauth2/v2.0/token":
		return c.assert(r)
	}
	return nil, fmt.Errorf("nothing is at %s", r.URL.Path)
}

func (c *cloud) federate(r *http.Request) (any, error) {
	if r.PostFormValue("audience") != provider || r.PostFormValue("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange" ||
		r.PostFormValue("subject_token_type") != "urn:ietf:params:oauth:token-type:jwt" {
		return nil, errors.New("the exchange is not one")
	}
	claims, err := c.verify(r.PostFormValue("subject_token"), "https:"+provider)
	if err != nil {
		return nil, err
	}
	text := c.give(given{name: claims.ID, subject: claims.Subject, expires: c.clock().Add(time.Hour), federated: true})
	return map[string]any{"access_token": text, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer", "expires_in": 3600}, nil
}

func (c *cloud) impersonate(r *http.Request) (any, error) {
	who, err := c.tokenOf(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if err != nil || !who.federated || !trusted(who.subject) {
		return nil, errors.New("this subject may not impersonate")
	}
	var body struct {
		Lifetime string   `json:"lifetime"`
		Scope    []string `json:"scope"`
	}
	life, parsed := time.Duration(0), error(nil)
	if err := json.NewDecoder(r.Body).Decode(&body); err == nil {
		life, parsed = time.ParseDuration(body.Lifetime)
	}
	if parsed != nil || life <= 0 || life > time.Hour || len(body.Scope) == 0 {
		return nil, errors.New("the lifetime is not one")
	}
	named := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/v1/projects/-/serviceAccounts/"), ":generateAccessToken")
	expires := c.clock().Add(life).Truncate(time.Second)
	text := c.give(given{name: who.name, subject: who.subject, resource: named, expires: expires})
	return map[string]any{"accessToken": text, "expireTime": expires.UTC().Format(time.RFC3339)}, nil
}

func (c *cloud) assert(r *http.Request) (any, error) {
	if r.PostFormValue("grant_type") != "client_credentials" || r.PostFormValue("client_id") != app {
		return nil, errors.New("the application is not known")
	}
	claims, err := c.verify(r.PostFormValue("client_assertion"), "api://AzureADTokenExchange")
	if err != nil {
		return nil, err
	}
	if !trusted(claims.Subject) {
		return nil, errors.New("AADSTS70021: no matching federated identity record found")
	}
	c.mu.Lock()
	life := c.life
	c.mu.Unlock()
	text := c.give(given{name: claims.ID, subject: claims.Subject, resource: r.PostFormValue("scope"), expires: c.clock().Add(life)})
	return map[string]any{"access_token": text, "token_type": "Bearer", "expires_in": int(life.Seconds())}, nil
}

func trusted(subject string) bool {
	return strings.HasPrefix(subject, "role:") && subject != "role:admin"
}

// verify verifies a token of ours as a stranger does: by the published keys.
func (c *cloud) verify(text, audience string) (claims jwt.Claims, err error) {
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return claims, errors.New("the token cannot be read")
	}
	documents, err := c.issuer.Documents(context.Background())
	if err != nil {
		return claims, err
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(documents[1].Body, &keys); err != nil {
		return claims, err
	}
	if err := parsed.Claims(keys, &claims); err != nil {
		return claims, errors.New("the token is not of this issuer")
	}
	return claims, claims.ValidateWithLeeway(jwt.Expected{Issuer: issuerURL, AnyAudience: jwt.Audience{audience}, Time: c.clock()}, 0)
}

func (c *cloud) give(g given) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := "cloud-" + rand.Text()
	c.tokens[text] = g
	if !g.federated {
		c.until[strings.TrimPrefix(g.name, "dp_abc234_")] = g.expires
	}
	return text
}

// tokenOf is a token that the cloud takes now.
func (c *cloud) tokenOf(text string) (given, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g, ok := c.tokens[text]
	if !ok || !c.now.Before(g.expires) {
		return g, errors.New("the token is not accepted")
	}
	return g, nil
}

// use uses a credential for a resource.
func (c *cloud) use(credential target.Credential, resource string) error {
	g, err := c.tokenOf(credential.Secrets["access_token"].Reveal())
	if err == nil && (g.federated || g.resource != resource) {
		err = errors.New("the token does not open this")
	}
	return err
}

// alive reports whether a token of a lease is taken.
func (c *cloud) alive(lease string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.tokens {
		if g.name == "dp_abc234_"+lease && !g.federated && c.now.Before(g.expires) {
			return true
		}
	}
	return false
}
