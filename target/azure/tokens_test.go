package azure_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/azure"
	"github.com/daypass/daypass/target/azure/azuretest"
	"github.com/daypass/daypass/target/cloud"
	"github.com/daypass/daypass/target/cloud/cloudtest"
	"github.com/daypass/daypass/target/targettest"
)

func TestTokensConform(t *testing.T) {
	made := cloudtest.Keys(t)
	targettest.Run(t, func(t *testing.T) targettest.Fixture {
		r := newRig(t, made)
		r.Life(15 * time.Minute)
		return targettest.Fixture{
			Target: r.tokens(15 * time.Minute), Rights: []byte(plainRights), TTL: 15 * time.Minute,
			Try: r.read, Exceed: r.remove, Forward: r.clock.Pass, Logs: r.log.String,
			// A token whose answer was lost is in nobody's hands.
			Alive: func(ctx context.Context, lease string) (bool, error) {
				until, err := r.book.Until(ctx, lease)
				return !until.IsZero() && r.Tokens("dp_abc234_"+lease), err
			},
			Name: func(c target.Credential) string {
				_, name, err := r.Who(c.Secrets["access_token"].Reveal())
				if err != nil {
					t.Errorf("name: %v", err)
				}
				return name
			},
			Skips: map[targettest.Capability]string{
				targettest.Expiry:      "Entra says how long its tokens live, and the lease waits for that, or for the end of its principal",
				targettest.Sessions:    "what a service gives for a token is the service's, and lives by its rules",
				targettest.LostAnswers: "of an application that exists: a token whose answer was lost is in nobody's hands, and expires",
				targettest.LateGrants:  "of an application that exists: a token whose answer comes late is in nobody's hands, and expires",
				targettest.Listing:     "of an application that exists: nobody lists tokens",
				targettest.Renewal:     "a token does not change: acquire another",
				targettest.Narrowing:   "a service principal keeps what it was given",
				targettest.Marking:     "of an application that exists: there is nothing of ours at Azure",
				targettest.Clocks:      "Azure's clock is in its answers only",
				targettest.Expiries:    "of an application that exists: Entra tells nobody but who holds a token",
				targettest.Cleaning:    "of an application that exists: a token leaves nothing behind",
			},
		}
	})
}

// A workload's claims reach no trust policy: whoever has the role is one subject there.
func TestEntraKnowsTheRoleAndNoClaim(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	g := r.grant(plainRights)
	got, err := r.tokens(90*time.Minute).Grant(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	if clientID, name, err := r.Who(got.Secrets["access_token"].Reveal()); err != nil || clientID != app || name != "dp_abc234_"+g.Lease {
		t.Errorf("%s of %s, %v", name, clientID, err)
	}
	if got.Revocation != target.Bounded || got.Attributes["client_id"] != app || got.Attributes["tenant"] != tenant {
		t.Errorf("%+v", got)
	}
	g.Role = "admin"
	if _, err := r.tokens(90*time.Minute).Grant(t.Context(), g); !errors.Is(err, target.ErrNotDone) {
		t.Errorf("a role that the cloud does not trust: %v", err)
	}
}

// Entra chooses how long its tokens live. A lease waits for as long, and longer tokens than announced are not handed on.
func TestALeaseWaitsForTheTokensThatEntraGave(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	made, g := r.tokens(90*time.Minute), r.grant(plainRights)
	if _, err := made.Grant(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	r.book.Put(g.Lease, cloud.Held{Rights: g.Rights, HandedOut: true, Until: r.clock.Now().Add(20 * time.Minute)}) // the lease's end, whatever the token's
	for _, step := range []struct {
		by   time.Duration
		dead bool
	}{{20 * time.Minute, false}, {41 * time.Minute, false}, {48 * time.Minute, false}, {2 * time.Minute, true}} {
		r.clock.Pass(step.by)
		err := made.Revoke(t.Context(), g.Lease)
		if wait, ok := errors.AsType[*target.UnexpiredError](err); ok == step.dead || (err == nil) != step.dead {
			t.Errorf("after another %v: %v (%v)", step.by, err, wait)
		}
		if step.dead && r.Tokens("dp_abc234_"+g.Lease) {
			t.Error("revoked and alive")
		}
	}
	r.Life(2 * time.Hour)
	_, err := made.Grant(t.Context(), r.grant(plainRights))
	if refusal, ok := errors.AsType[*target.RefusalError](err); !ok || !strings.Contains(refusal.Text, "token_lifetime") {
		t.Errorf("a token of two hours: %v", err)
	}
}

// Whatever a service answers, it is bounded, tells no secret and follows nobody elsewhere.
func TestABadAnswerIsAnError(t *testing.T) {
	made := cloudtest.Keys(t)
	elsewhere := newRig(t, made)
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
			_, _ = w.Write([]byte(`{"error":"x","error_description":"` + r.PostFormValue("client_assertion") + `"}`))
		},
		"an outage": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"a dead token": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"access_token":"t","expires_in":-5}`))
		},
		"a token for centuries": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"access_token":"t","expires_in":9223372036854775807}`))
		},
	} {
		r := newRig(t, made)
		r.faults.Inner = answer
		for rights, at := range map[string]target.Target{plainRights: r.tokens(90 * time.Minute), leaseRights: r.principals(r.url, 0)} {
			_, err := at.Grant(t.Context(), r.grant(rights))
			if err == nil || elsewhere.Asked() != 0 {
				t.Errorf("%s, %.20s: %v; %d elsewhere", name, rights, err, elsewhere.Asked())
			}
			if err != nil && strings.Contains(err.Error(), "eyJ") {
				t.Errorf("%s, %.20s: the error quotes a token: %v", name, rights, err)
			}
		}
	}
}

func TestSectionsThatCannotBeMeantAreRefused(t *testing.T) {
	long := api.Duration(48 * time.Hour)
	manage := func(change func(*azure.Manage)) azure.Settings {
		m := azure.Manage{ClientID: manager, Scopes: []string{orders}}
		change(&m)
		return azure.Settings{Tenant: tenant, Manage: &m}
	}
	assignment := func(on string, roles ...string) azure.Rights {
		return azure.Rights{PerLease: true, Assignments: []azure.Assignment{{On: on, Roles: roles}}}
	}
	for name, section := range map[string]interface{ Validate() error }{
		"no tenant":                     azure.Settings{},
		"a path as tenant":              azure.Settings{Tenant: "../common"},
		"a life of days":                azure.Settings{Tenant: tenant, TokenLifetime: &long},
		"no application that manages":   manage(func(m *azure.Manage) { m.ClientID = "" }),
		"no scopes":                     manage(func(m *azure.Manage) { m.Scopes = nil }),
		"all of the tenant":             manage(func(m *azure.Manage) { m.Scopes = []string{"/"} }),
		"a scope that leads out":        manage(func(m *azure.Manage) { m.Scopes = []string{orders + "/../bills"} }),
		"a scope twice":                 manage(func(m *azure.Manage) { m.Scopes = []string{orders, strings.ToUpper(orders)} }),
		"days of settling":              manage(func(m *azure.Manage) { m.Settle = &long }),
		"no application":                azure.Rights{},
		"an application and per lease":  azure.Rights{ClientID: app, PerLease: true},
		"a scope without default":       azure.Rights{ClientID: app, Scope: "https://storage.azure.com/"},
		"assignments of an application": azure.Rights{ClientID: app, Assignments: []azure.Assignment{{On: orders, Roles: []string{azuretest.Reader}}}},
		"no assignments":                azure.Rights{PerLease: true},
		"no roles":                      assignment(orders),
		"a role by its name":            assignment(orders, "Reader"),
		"a role twice":                  assignment(orders, azuretest.Reader, azuretest.Reader),
		"a role that assigns roles":     assignment(orders, "8E3AF657-a8ff-443c-a75c-2fe8c4bcb635"),
		"a place that leads out":        assignment(orders+"/../bills", azuretest.Reader),
		"a query as place":              assignment(orders+"?x=y", azuretest.Reader),
	} {
		if err := section.Validate(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, good := range []interface{ Validate() error }{
		azure.Settings{Tenant: tenant}, azure.Rights{ClientID: app, Scope: "https://storage.azure.com/.default"},
		manage(func(m *azure.Manage) { m.Scopes = []string{"/subscriptions/" + tenant, bills} }),
		assignment(orders+"/providers/Microsoft.Storage/storageAccounts/acme", azuretest.Reader),
	} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}
