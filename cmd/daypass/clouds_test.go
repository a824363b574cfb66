package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/target/azure"
	"github.com/daypass/daypass/target/azure/azuretest"
	"github.com/daypass/daypass/target/cloud"
	"github.com/daypass/daypass/target/gcp/gcptest"
)

// TestCloudScripts runs scripts from the chair of who makes Google Cloud and Azure trust us. Both are stand-ins, which verify
// our tokens by what the server publishes over https.
func TestCloudScripts(t *testing.T) {
	postgres := testbed.SharedPostgres(t, 15)
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/clouds",
		RequireUniqueNames: true,
		Cmds:               withClouds(servedCommands()),
		Setup: func(e *testscript.Env) error {
			e.Values[sky{}] = &clouds{}
			return errors.Join(furnish(t, e, postgres), furnishTLS(t, e))
		},
	})
}

const (
	googleProvider = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/daypass/providers/daypass"
	googleAccount  = "deploy@acme-prod.iam.gserviceaccount.com"
	googleManager  = "daypass-manage@acme-leases.iam.gserviceaccount.com"
	azureTenant    = "11111111-2222-3333-4444-555555555555"
	azureApp       = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	azureManager   = "99999999-8888-7777-6666-555555555555"
	ordersGroup    = "/subscriptions/00000000-1111-2222-3333-444444444444/resourceGroups/orders"
)

// sky is where a script keeps its clouds.
type sky struct{}

type clouds struct {
	google *gcptest.Cloud
	azure  *azuretest.Cloud
	issuer string
}

// withClouds adds to the other commands:
//
//	clouds        starts Google Cloud and Azure, which trust the server, and names them in access/clouds.yaml
//	becomes WHAT  changes how they are set up
func withClouds(commands map[string]func(*testscript.TestScript, bool, []string)) map[string]func(*testscript.TestScript, bool, []string) {
	commands["clouds"] = func(ts *testscript.TestScript, _ bool, _ []string) {
		c := ts.Value(sky{}).(*clouds)
		authority := x509.NewCertPool()
		if !authority.AppendCertsFromPEM([]byte(ts.ReadFile("secrets/ca.pem"))) {
			ts.Fatalf("the authority is no certificate")
		}
		outsider := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority}}}
		c.open(ts.Getenv("DAYPASS_URL"), outsider)
		google, azure := httptest.NewServer(c.google), httptest.NewServer(c.azure)
		ts.Defer(google.Close)
		ts.Defer(azure.Close)
		path := filepath.Join(ts.MkAbs("access"), "clouds.yaml")
		text := strings.NewReplacer("GOOGLE", google.URL, "AZURE", azure.URL).Replace(ts.ReadFile("clouds.yaml"))
		ts.Check(os.WriteFile(path, []byte(text), 0o600))
	}
	commands["becomes"] = func(ts *testscript.TestScript, _ bool, args []string) {
		c := ts.Value(sky{}).(*clouds)
		switch args[0] {
		case "well":
			c.google.Provide(gcptest.Provider{})
			c.google.Trust("role:push", googleAccount)
			c.azure.Federate(azureApp, c.issuer, "role:read-orders", azure.Audience)
		case "disabled":
			c.google.Provide(gcptest.Provider{Disabled: true})
		case "unbound":
			pool, _, _ := strings.Cut(strings.TrimPrefix(googleProvider, "//"), "/providers/")
			c.google.Unbind("accounts/"+googleAccount, "principal://"+pool+"/subject/role:push")
		case "another-subject":
			c.azure.Federate(azureApp, c.issuer, "role:read-orders-too", azure.Audience)
		case "demoted":
			c.google.Unbind("projects/acme-leases", "serviceAccount:"+googleManager)
			c.azure.Distrust(azureManager)
		default:
			ts.Fatalf("nobody knows how clouds become %s", args[0])
		}
	}
	return commands
}

// open makes clouds that trust an issuer.
func (c *clouds) open(url string, outsider *http.Client) {
	verify := func(token, audience string) (string, string, error) { return verified(outsider, url, token, audience) }
	c.issuer = url
	c.google = gcptest.New(gcptest.Config{Provider: googleProvider, Manager: googleManager, Project: "acme-leases", Verify: verify, Now: time.Now},
		map[string][]string{"buckets/artifacts": {"roles/storage.objectViewer"}})
	c.google.Account(googleAccount)
	c.google.Trust("role:push", googleAccount)
	c.google.Trust(cloud.ManagerSubject("google-leases"), googleManager)
	c.azure = azuretest.New(azuretest.Config{Tenant: azureTenant, Manager: azureManager, Issuer: url, Verify: verify, Now: time.Now},
		cloud.ManagerSubject("azure-leases"), map[string][]string{ordersGroup: {azuretest.Reader}})
	c.azure.Application(azureApp, "role:read-orders")
}

// verified verifies a token as a stranger does, by the keys that an issuer publishes.
func verified(outsider *http.Client, url, token, audience string) (subject, id string, err error) {
	answer, err := outsider.Get(url + issuer.KeysPath)
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
