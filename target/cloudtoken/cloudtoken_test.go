package cloudtoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloudtoken"
	"github.com/daypass/daypass/target/targettest"
)

// fixture is one cloud and a kind of target at it.
func fixture(c *cloud, made *cloudtoken.Target, rights, resource string) targettest.Fixture {
	return targettest.Fixture{
		Target: made,
		Rights: json.RawMessage(rights),
		TTL:    15 * time.Minute,
		Try:    func(_ context.Context, got target.Credential) error { return c.use(got, resource) },
		Exceed: func(_ context.Context, got target.Credential) error { return c.use(got, "something else") },
		Alive:  func(_ context.Context, lease string) (bool, error) { return c.alive(lease), nil },
		Name: func(got target.Credential) string {
			g, err := c.tokenOf(got.Secrets["access_token"].Reveal())
			if err != nil {
				c.t.Errorf("name: %v", err)
			}
			return g.name
		},
		Forward: c.pass,
		Skips: map[targettest.Capability]string{
			targettest.Expiry:      "Entra says how long its tokens live, and the lease waits for that; at Google Cloud proved",
			targettest.Sessions:    "what a service gives for a token is the service's, and lives by its rules",
			targettest.LostAnswers: "a token whose answer was lost is in nobody's hands, and expires",
			targettest.LateGrants:  "a token whose answer comes late is in nobody's hands, and expires",
			targettest.Listing:     "the cloud lists no tokens",
			targettest.Renewal:     "a token does not change: acquire another",
			targettest.Narrowing:   "a token says what the account may do; narrow the account",
			targettest.Marking:     "the cloud remembers nothing of ours",
			targettest.Checking:    "Daypass has no rights of its own there",
			targettest.Clocks:      "the cloud's clock is in its answers only",
			targettest.Expiries:    "the cloud tells nobody but who holds a token",
			targettest.Cleaning:    "a token leaves nothing behind",
		},
	}
}

func TestGoogleConforms(t *testing.T) {
	made := newIssuer(t)
	targettest.Run(t, func(t *testing.T) targettest.Fixture {
		c := newCloud(t, made)
		f := fixture(c, c.google(), `{"service_account":"`+account+`"}`, account)
		delete(f.Skips, targettest.Expiry)
		return f
	})
}

func TestAzureConforms(t *testing.T) {
	made := newIssuer(t)
	targettest.Run(t, func(t *testing.T) targettest.Fixture {
		c := newCloud(t, made)
		c.life = 15 * time.Minute
		return fixture(c, c.azureWith(c.life), `{"client_id":"`+app+`"}`, "https://management.azure.com/.default")
	})
}

func grantOf(rights string) target.Grant {
	return target.Grant{Lease: targettest.Lease(), Role: "deploy", Rights: json.RawMessage(rights), TTL: 20 * time.Minute,
		Holder: target.Holder{Subject: "repo:acme/x:ref:refs/heads/main' or 1=1", Claims: map[string]any{"sub": "role:admin"}}}
}

// A workload's claims reach no trust policy: whoever has the role is one subject there.
func TestTheCloudKnowsTheRoleAndNoClaim(t *testing.T) {
	c := newCloud(t, newIssuer(t))
	g := grantOf(`{"service_account":"` + account + `"}`)
	got, err := c.google().Grant(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := c.tokenOf(got.Secrets["access_token"].Reveal()); err != nil || who.subject != "role:deploy" || who.name != "dp_abc234_"+g.Lease {
		t.Errorf("%+v, %v", who, err)
	}
	if got.Revocation != target.Bounded || got.Attributes["service_account"] != account || got.Attributes["expires_at"] != c.clock().Add(20*time.Minute).UTC().Truncate(time.Second).Format(time.RFC3339) {
		t.Errorf("%+v", got)
	}
	g.Role = "admin"
	if _, err := c.google().Grant(t.Context(), g); !errors.Is(err, target.ErrNotDone) {
		t.Errorf("a role that the cloud does not trust: %v", err)
	}
}

// Entra chooses how long its tokens live. A lease waits for as long, and longer tokens than announced are not handed on.
func TestALeaseWaitsForTheTokensThatEntraGave(t *testing.T) {
	c := newCloud(t, newIssuer(t))
	made, g := c.azure(), grantOf(`{"client_id":"`+app+`"}`)
	if _, err := made.Grant(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.until[g.Lease] = c.now.Add(20 * time.Minute) // the lease's end, whatever the token's
	c.mu.Unlock()
	for _, step := range []struct {
		by   time.Duration
		dead bool
	}{{20 * time.Minute, false}, {41 * time.Minute, false}, {48 * time.Minute, false}, {2 * time.Minute, true}} {
		c.pass(step.by)
		err := made.Revoke(t.Context(), g.Lease)
		if wait, ok := errors.AsType[*target.UnexpiredError](err); ok == step.dead || (err == nil) != step.dead {
			t.Errorf("after another %v: %v (%v)", step.by, err, wait)
		}
		if step.dead && c.alive(g.Lease) {
			t.Error("revoked and alive")
		}
	}
	c.mu.Lock()
	c.life = 2 * time.Hour
	c.mu.Unlock()
	_, err := made.Grant(t.Context(), grantOf(`{"client_id":"`+app+`"}`))
	if refusal, ok := errors.AsType[*target.RefusalError](err); !ok || !strings.Contains(refusal.Text, "token_lifetime") {
		t.Errorf("a token of two hours: %v", err)
	}
}

func TestGoogleIsNotAskedForMoreThanAnHour(t *testing.T) {
	c := newCloud(t, newIssuer(t))
	g := grantOf(`{"service_account":"` + account + `"}`)
	g.TTL = 61 * time.Minute
	_, err := c.google().Grant(t.Context(), g)
	if _, ok := errors.AsType[*target.RefusalError](err); !ok || c.asked != 0 {
		t.Errorf("%v after %d questions", err, c.asked)
	}
}

// Whatever a service answers, it is bounded, tells no secret and follows nobody elsewhere.
func TestABadAnswerIsAnError(t *testing.T) {
	c := newCloud(t, newIssuer(t))
	elsewhere := newCloud(t, newIssuer(t))
	for name, answer := range map[string]http.HandlerFunc{
		"garbage": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"nothing": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) },
		"too much": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"access_token":"` + strings.Repeat("x", 70<<10) + `"}`))
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.url+r.URL.Path, http.StatusTemporaryRedirect)
		},
		"an echo": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			_, _ = w.Write([]byte(`{"error":"x","error_description":"` + r.PostFormValue("subject_token") + r.PostFormValue("client_assertion") + `"}`))
		},
		"an outage": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"an escape": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			_, _ = w.Write([]byte("{\"error\":{\"status\":\"\\u001b[31m\",\"message\":\"\\u202e\"}}"))
		},
		"a dead token": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"access_token":"t","expires_in":-5}`))
		},
	} {
		c.answer = answer
		for kind, try := range map[string]func() error{
			"gcp": func() error {
				_, err := c.google().Grant(t.Context(), grantOf(`{"service_account":"`+account+`"}`))
				return err
			},
			"azure": func() error { _, err := c.azure().Grant(t.Context(), grantOf(`{"client_id":"`+app+`"}`)); return err },
		} {
			err := try()
			if err == nil || elsewhere.asked != 0 || strings.ContainsAny(err.Error(), "\x1b\u202e") {
				t.Errorf("%s, %s: %v; %d elsewhere", kind, name, err, elsewhere.asked)
			}
			if err != nil && strings.Contains(err.Error(), "eyJ") {
				t.Errorf("%s, %s: the error quotes a token: %v", kind, name, err)
			}
		}
	}
}

func TestSectionsThatCannotBeMeantAreRefused(t *testing.T) {
	long := api.Duration(48 * time.Hour)
	for name, section := range map[string]interface{ Validate() error }{
		"no provider":             cloudtoken.GoogleSettings{},
		"a provider elsewhere":    cloudtoken.GoogleSettings{Provider: "//evil.example/projects/1/locations/global/workloadIdentityPools/pool/providers/prov"},
		"plain http":              cloudtoken.GoogleSettings{Provider: provider, STS: "http://sts.example.com"},
		"a user in an address":    cloudtoken.GoogleSettings{Provider: provider, IAMCredentials: "https://u:p@iam.example.com"},
		"no account":              cloudtoken.GoogleRights{},
		"a path as account":       cloudtoken.GoogleRights{ServiceAccount: "../x@acme-prod.iam.gserviceaccount.com"},
		"a scope elsewhere":       cloudtoken.GoogleRights{ServiceAccount: account, Scopes: []string{"https://evil.example/auth"}},
		"no tenant":               cloudtoken.AzureSettings{},
		"a path as tenant":        cloudtoken.AzureSettings{Tenant: "../common"},
		"a life of days":          cloudtoken.AzureSettings{Tenant: tenant, TokenLifetime: &long},
		"no application":          cloudtoken.AzureRights{},
		"a scope without default": cloudtoken.AzureRights{ClientID: app, Scope: "https://storage.azure.com/"},
	} {
		if err := section.Validate(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, good := range []interface{ Validate() error }{
		cloudtoken.GoogleSettings{Provider: provider}, cloudtoken.GoogleRights{ServiceAccount: account, Scopes: []string{"https://www.googleapis.com/auth/devstorage.read_only"}},
		cloudtoken.AzureSettings{Tenant: tenant}, cloudtoken.AzureRights{ClientID: app, Scope: "https://storage.azure.com/.default"},
	} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}
