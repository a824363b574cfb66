package daypasstest_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/daypasstest"
	"github.com/daypass/daypass/target/azure/azuretest"
	"github.com/daypass/daypass/target/cloud"
	"github.com/daypass/daypass/target/gcp/gcptest"
)

// published verifies tokens as a stranger does: by the keys that an issuer shows at its address.
func published(url string) func(token, audience string) (subject, id string, err error) {
	return func(token, audience string) (string, string, error) {
		answer, err := http.Get(url + "/.well-known/jwks.json")
		if err != nil {
			return "", "", err
		}
		defer answer.Body.Close()
		var keys jose.JSONWebKeySet
		if err := json.NewDecoder(answer.Body).Decode(&keys); err != nil {
			return "", "", err
		}
		parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			return "", "", errors.New("the token cannot be read")
		}
		var claims jwt.Claims
		if err := parsed.Claims(keys, &claims); err != nil {
			return "", "", errors.New("the token is not of this issuer")
		}
		return claims.Subject, claims.ID, claims.Validate(jwt.Expected{Issuer: url, AnyAudience: jwt.Audience{audience}, Time: time.Now()})
	}
}

// clouds are stand-ins for both clouds, which come to trust a broker when it has started.
type clouds struct {
	*daypasstest.Daypass
	google, azure atomic.Value // of http.Handler
	atGoogle      string
	atAzure       string // where Daypass reaches it
	tlsAzure      string // where azidentity does, which takes https alone
	ca            string
	program       string
}

const (
	googleProvider = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/daypass/providers/daypass"
	googleAccount  = "deploy@acme-prod.iam.gserviceaccount.com"
	googleManager  = "daypass-manage@acme-leases.iam.gserviceaccount.com"
	azureTenant    = "11111111-2222-3333-4444-555555555555"
	azureApp       = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	azureManager   = "99999999-8888-7777-6666-555555555555"
	subscription   = "00000000-1111-2222-3333-444444444444"
	ordersGroup    = "/subscriptions/" + subscription + "/resourceGroups/orders"
)

func serve(t *testing.T, start func(http.Handler) *httptest.Server, of *atomic.Value) *httptest.Server {
	server := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { of.Load().(http.Handler).ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	return server
}

func startClouds(t *testing.T) *clouds {
	t.Helper()
	c := &clouds{program: filepath.Join(t.TempDir(), "cloudclients")}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // the clouds' libraries are large
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", c.program, ".")
	build.Dir = "../tools/cloudclients"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the clients: %v (run: cd tools/cloudclients && go mod download)\n%s", err, out)
	}
	c.atGoogle = serve(t, httptest.NewServer, &c.google).URL
	c.atAzure = serve(t, httptest.NewServer, &c.azure).URL
	tls := serve(t, httptest.NewTLSServer, &c.azure)
	c.tlsAzure, c.ca = tls.URL, filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(c.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Daypass = daypasstest.Start(t, daypasstest.Options{Access: c.access})
	google := gcptest.New(gcptest.Config{Provider: googleProvider, Manager: googleManager, Project: "acme-leases", Verify: published(c.URL()), Now: time.Now},
		map[string][]string{"buckets/artifacts": {"roles/storage.objectViewer"}})
	google.Account(googleAccount)
	google.Trust("role:google-subject", googleAccount)
	google.Trust(cloud.ManagerSubject("google"), googleManager)
	google.Bind("buckets/artifacts", "roles/storage.objectViewer", "serviceAccount:"+googleAccount, "")
	c.google.Store(http.Handler(google))
	azure := azuretest.New(azuretest.Config{Tenant: azureTenant, Manager: azureManager, Issuer: c.URL(), Verify: published(c.URL()), Now: time.Now},
		cloud.ManagerSubject("azure"), map[string][]string{ordersGroup: {azuretest.Reader}})
	azure.Application(azureApp, "role:azure-subject")
	azure.Assign(azureApp, ordersGroup, azuretest.Reader)
	c.azure.Store(http.Handler(azure))
	return c
}

// access gives everybody tokens that the clouds take for their own, and principals per lease.
func (c *clouds) access(issuer string) map[string]string {
	return map[string]string{"access.cedar": "permit (principal, action, resource);\n", "access.yaml": fmt.Sprintf(`kind: Issuer
name: test
oidc: {url: %[1]q}
---
kind: Target
name: tokens
oidc-token: {}
---
kind: Role
name: google-subject
target: tokens
ttl: {default: 5m, max: 5m}
oidc-token: {audience: "https:%[4]s", algorithm: RS256}
---
kind: Role
name: azure-subject
target: tokens
ttl: {default: 5m, max: 5m}
oidc-token: {audience: "api://AzureADTokenExchange", algorithm: RS256}
---
kind: Target
name: google
gcp:
  provider: %[4]s
  sts: %[2]s
  iam_credentials: %[2]s
  iam: %[2]s
  resource_manager: %[2]s
  storage: %[2]s
  manage: {service_account: %[5]s, project: acme-leases, resources: [buckets/artifacts], settle: 0s}
---
kind: Role
name: google-lease
target: google
ttl: {default: 5m, max: 30m}
gcp: {per_lease: true, bindings: [{on: buckets/artifacts, roles: [roles/storage.objectViewer]}]}
---
kind: Target
name: azure
azure:
  tenant: %[6]s
  authority: %[3]s
  graph: %[3]s
  resource_manager: %[3]s
  manage: {client_id: %[7]s, scopes: [%[8]s], settle: 0s}
---
kind: Role
name: azure-lease
target: azure
ttl: {default: 5m, max: 30m}
azure: {per_lease: true, assignments: [{on: %[8]s, roles: [%[9]s]}]}
`, issuer, c.atGoogle, c.atAzure, googleProvider, googleManager, azureTenant, azureManager, ordersGroup, azuretest.Reader)}
}

// subject acquires a token of ours into a file.
func (c *clouds) subject(t *testing.T, role string) string {
	t.Helper()
	l, err := c.Workload(nil).Acquire(t.Context(), api.AcquireRequest{Role: role})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(l.Credential.Secret("token").Reveal()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (c *clouds) run(t *testing.T, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	said, err := exec.CommandContext(ctx, c.program, args...).CombinedOutput()
	return string(said), err
}

// TestTheOfficialClientsOfGoogleTakeOurTokens drives x/oauth2/google and cloud.google.com/go/auth, as they are, with an
// external_account file over a token of a role.
func TestTheOfficialClientsOfGoogleTakeOurTokens(t *testing.T) {
	c := startClouds(t)
	write := func(token, account string) string {
		text, err := json.Marshal(map[string]any{
			"type": "external_account", "audience": googleProvider, "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": c.atGoogle + "/v1/token",
			"service_account_impersonation_url": c.atGoogle + "/v1/projects/-/serviceAccounts/" + account + ":generateAccessToken",
			"credential_source":                 map[string]any{"file": token},
		})
		file := filepath.Join(t.TempDir(), "external_account.json")
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	token := c.subject(t, "google-subject")
	good, bad := write(token, googleAccount), write(token, googleManager)
	for _, library := range []string{"oauth2", "auth"} {
		if said, err := c.run(t, library, good, c.atGoogle+"/storage/v1/b/artifacts/o"); err != nil || !strings.Contains(said, "storage#objects") {
			t.Errorf("%s: %v: %s", library, err, said)
		}
		if said, err := c.run(t, library, bad, c.atGoogle+"/storage/v1/b/artifacts/o"); err == nil || !strings.Contains(said, "denied") {
			t.Errorf("%s, as an account that does not trust the role: %v: %s", library, err, said)
		}
	}
}

// TestTheOfficialClientsOfAzureTakeOurTokens drives azidentity and armresources, as they are, with a token of a role.
func TestTheOfficialClientsOfAzureTakeOurTokens(t *testing.T) {
	c := startClouds(t)
	args := func(token, group string) []string {
		return []string{"azure", azureTenant, azureApp, token, c.tlsAzure, c.ca, subscription, group}
	}
	if said, err := c.run(t, args(c.subject(t, "azure-subject"), "orders")...); err != nil || !strings.Contains(strings.ToLower(said), strings.ToLower(ordersGroup)) {
		t.Errorf("%v: %s", err, said)
	}
	if said, err := c.run(t, args(c.subject(t, "azure-subject"), "bills")...); err == nil || !strings.Contains(said, "AuthorizationFailed") {
		t.Errorf("a group that it has no role at: %v: %s", err, said)
	}
	if said, err := c.run(t, args(c.subject(t, "google-subject"), "orders")...); err == nil || !strings.Contains(said, "AADSTS") {
		t.Errorf("a token for Google: %v: %s", err, said)
	}
}

// TestALeaseHasAPrincipalOfItsOwnAtACloud is the whole way of roles that make one: acquired, used, released, and of no use.
func TestALeaseHasAPrincipalOfItsOwnAtACloud(t *testing.T) {
	c := startClouds(t)
	for role, url := range map[string]string{"google-lease": c.atGoogle + "/storage/v1/b/artifacts/o", "azure-lease": c.atAzure + ordersGroup} {
		w := c.Workload(nil)
		l, err := w.Acquire(t.Context(), api.AcquireRequest{Role: role})
		if err != nil {
			t.Fatal(err)
		}
		use := func() int {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer "+l.Credential.Secret("access_token").Reveal())
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			_, _ = io.Copy(io.Discard, answer.Body)
			return answer.StatusCode
		}
		if status := use(); status != http.StatusOK || l.Info().Revocation != "assisted" {
			t.Errorf("%s: it is answered %d, and its class is %s", role, status, l.Info().Revocation)
		}
		ended, err := l.Release(t.Context(), 30*time.Second)
		if err != nil || ended.State != "revoked" {
			t.Errorf("%s: release: %+v, %v", role, ended, err)
		}
		if status := use(); status == http.StatusOK {
			t.Errorf("%s: it works after its end", role)
		}
	}
}
