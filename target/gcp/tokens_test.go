package gcp_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud/cloudtest"
	"github.com/daypass/daypass/target/gcp"
	"github.com/daypass/daypass/target/targettest"
)

func TestTokensConform(t *testing.T) {
	made := cloudtest.Keys(t)
	targettest.Run(t, func(t *testing.T) targettest.Fixture {
		r := newRig(t, made)
		return targettest.Fixture{
			Target: r.tokens(), Rights: []byte(plainRights), TTL: 15 * time.Minute,
			Try: r.list, Exceed: r.remove, Forward: r.clock.Pass, Logs: r.log.String,
			// A token whose answer was lost is in nobody's hands.
			Alive: func(ctx context.Context, lease string) (bool, error) {
				until, err := r.book.Until(ctx, lease)
				return !until.IsZero() && r.Tokens("dp_abc234_"+lease), err
			},
			Name: func(c target.Credential) string {
				_, _, name, err := r.Who(c.Secrets["access_token"].Reveal())
				if err != nil {
					t.Errorf("name: %v", err)
				}
				return name
			},
			Skips: map[targettest.Capability]string{
				targettest.Sessions:    "Google checks each request by itself: what a service goes on with is its own",
				targettest.LostAnswers: "of an account that exists: a token whose answer was lost is in nobody's hands, and expires",
				targettest.LateGrants:  "of an account that exists: a token whose answer comes late is in nobody's hands, and expires",
				targettest.Listing:     "of an account that exists: nobody lists tokens",
				targettest.Renewal:     "a token does not change: acquire another",
				targettest.Narrowing:   "an account keeps what it was given",
				targettest.Marking:     "of an account that exists: there is nothing of ours at Google",
				targettest.Clocks:      "Google's clock is in its answers only",
				targettest.Expiries:    "of an account that exists: Google tells nobody but who holds a token",
				targettest.Cleaning:    "of an account that exists: a token leaves nothing behind",
			},
		}
	})
}

// A workload's claims reach no trust policy: whoever has the role is one subject there.
func TestGoogleKnowsTheRoleAndNoClaim(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	g := r.grant(plainRights)
	got, err := r.tokens().Grant(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	if email, _, name, err := r.Who(got.Secrets["access_token"].Reveal()); err != nil || email != account || name != "dp_abc234_"+g.Lease {
		t.Errorf("%s of %s, %v", name, email, err)
	}
	if got.Revocation != target.Bounded || got.Attributes["service_account"] != account || got.Attributes["expires_at"] != r.clock.Now().Add(20*time.Minute).UTC().Truncate(time.Second).Format(time.RFC3339) {
		t.Errorf("%+v", got)
	}
	g.Role = "admin"
	if _, err := r.tokens().Grant(t.Context(), g); !errors.Is(err, target.ErrNotDone) {
		t.Errorf("a role that the cloud does not trust: %v", err)
	}
}

func TestGoogleIsNotAskedForMoreThanAnHour(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	for rights, at := range map[string]target.Target{plainRights: r.tokens(), leaseRights: r.principals(r.url, 0)} {
		g := r.grant(rights)
		g.TTL = 61 * time.Minute
		_, err := at.Grant(t.Context(), g)
		if _, ok := errors.AsType[*target.RefusalError](err); !ok || r.Asked() != 0 {
			t.Errorf("%v after %d questions", err, r.Asked())
		}
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
			_, _ = w.Write([]byte(`{"error":"x","error_description":"` + r.PostFormValue("subject_token") + `"}`))
		},
		"an outage": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"an escape": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			_, _ = w.Write([]byte("{\"error\":{\"status\":\"\\u001b[31m\",\"message\":\"\\u202e\"}}"))
		},
	} {
		r := newRig(t, made)
		r.faults.Inner = answer
		for rights, at := range map[string]target.Target{plainRights: r.tokens(), leaseRights: r.principals(r.url, 0)} {
			_, err := at.Grant(t.Context(), r.grant(rights))
			if err == nil || elsewhere.Asked() != 0 || strings.ContainsAny(err.Error(), "\x1b\u202e") {
				t.Errorf("%s, %.20s: %v; %d elsewhere", name, rights, err, elsewhere.Asked())
			}
			if err != nil && strings.Contains(err.Error(), "eyJ") {
				t.Errorf("%s, %.20s: the error quotes a token: %v", name, rights, err)
			}
		}
	}
}

func TestSectionsThatCannotBeMeantAreRefused(t *testing.T) {
	long := api.Duration(2 * time.Hour)
	manage := func(change func(*gcp.Manage)) gcp.Settings {
		m := gcp.Manage{ServiceAccount: manager, Project: project, Resources: []string{"projects/acme-prod"}}
		change(&m)
		return gcp.Settings{Provider: provider, Manage: &m}
	}
	binding := func(on string, roles ...string) gcp.Rights {
		return gcp.Rights{PerLease: true, Bindings: []gcp.Binding{{On: on, Roles: roles}}}
	}
	for name, section := range map[string]interface{ Validate() error }{
		"no provider":               gcp.Settings{},
		"a provider elsewhere":      gcp.Settings{Provider: "//evil.example/projects/1/locations/global/workloadIdentityPools/pool/providers/prov"},
		"plain http":                gcp.Settings{Provider: provider, STS: "http://sts.example.com"},
		"a user in an address":      gcp.Settings{Provider: provider, IAMCredentials: "https://u:p@iam.example.com"},
		"no account that manages":   manage(func(m *gcp.Manage) { m.ServiceAccount = "" }),
		"a project's number":        manage(func(m *gcp.Manage) { m.Project = "123456" }),
		"no resources":              manage(func(m *gcp.Manage) { m.Resources = nil }),
		"a resource that is a path": manage(func(m *gcp.Manage) { m.Resources = []string{"buckets/../x"} }),
		"a resource of another API": manage(func(m *gcp.Manage) { m.Resources = []string{"datasets/x"} }),
		"a resource twice":          manage(func(m *gcp.Manage) { m.Resources = []string{"projects/acme-prod", "projects/acme-prod"} }),
		"hours of settling":         manage(func(m *gcp.Manage) { m.Settle = &long }),
		"no account":                gcp.Rights{},
		"an account and per lease":  gcp.Rights{ServiceAccount: account, PerLease: true},
		"a path as account":         gcp.Rights{ServiceAccount: "../x@acme-prod.iam.gserviceaccount.com"},
		"a scope elsewhere":         gcp.Rights{ServiceAccount: account, Scopes: []string{"https://evil.example/auth"}},
		"bindings of an account":    gcp.Rights{ServiceAccount: account, Bindings: []gcp.Binding{{On: "projects/acme-prod", Roles: []string{viewer}}}},
		"no bindings":               gcp.Rights{PerLease: true},
		"no roles":                  binding("projects/acme-prod"),
		"a basic role":              binding("projects/acme-prod", "roles/editor"),
		"a role that is none":       binding("projects/acme-prod", "storage viewer"),
		"a role twice":              binding("projects/acme-prod", viewer, viewer),
	} {
		if err := section.Validate(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, good := range []interface{ Validate() error }{
		gcp.Settings{Provider: provider}, gcp.Rights{ServiceAccount: account, Scopes: []string{"https://www.googleapis.com/auth/devstorage.read_only"}},
		manage(func(m *gcp.Manage) {
			m.Resources = []string{"projects/acme-prod", "buckets/acme_artifacts.example.com"}
		}),
		binding("buckets/artifacts", viewer, "projects/acme-prod/roles/deployer"),
	} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}
