package inspection_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/inspection"
)

func TestOutsidersReadTheDocumentsOfTheIssuerAlone(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(w http.ResponseWriter, r *http.Request, url string)
		want  string // in the error; empty: read
	}{
		"both documents": {func(w http.ResponseWriter, r *http.Request, url string) {
			if r.URL.Path == "/keys" {
				w.Write([]byte(`{"keys":[]}`))
				return
			}
			w.Write([]byte(`{"issuer":"` + url + `","jwks_uri":"` + url + `/keys"}`))
		}, ""},
		"of another issuer": {func(w http.ResponseWriter, _ *http.Request, url string) {
			w.Write([]byte(`{"issuer":"` + url + `/","jwks_uri":"` + url + `/keys"}`))
		}, "is of the issuer"},
		"keys in clear": {func(w http.ResponseWriter, _ *http.Request, url string) {
			w.Write([]byte(`{"issuer":"` + url + `","jwks_uri":"http://example.com/keys"}`))
		}, "not https"},
		"no JSON":   {func(w http.ResponseWriter, _ *http.Request, _ string) { w.Write([]byte("<html>")) }, "no JSON"},
		"not there": {func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(404) }, "answers 404"},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request, _ string) { http.Redirect(w, r, "/x", http.StatusFound) }, "redirects"},
		"too much":  {func(w http.ResponseWriter, _ *http.Request, _ string) { w.Write([]byte(strings.Repeat(" ", 2<<20))) }, "more than"},
		"no keys yet": {func(w http.ResponseWriter, r *http.Request, url string) {
			if r.URL.Path == "/keys" {
				w.WriteHeader(503)
				return
			}
			w.Write([]byte(`{"issuer":"` + url + `","jwks_uri":"` + url + `/keys"}`))
		}, "answers 503"},
	} {
		t.Run(name, func(t *testing.T) {
			var there *httptest.Server
			there = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, there.URL) }))
			defer there.Close()
			p, err := inspection.LookFromOutside(t.Context(), there.Client(), there.URL)
			switch {
			case c.want == "" && (err != nil || string(p.Keys) != `{"keys":[]}`):
				t.Errorf("%v, %s", err, p.Keys)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	if _, err := inspection.LookFromOutside(t.Context(), http.DefaultClient, "http://127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("plain http: %v", err)
	}
}

func TestTheRoleSaysWhatOthersHaveToTrust(t *testing.T) {
	files := map[string]string{"a.yaml": `
kind: Target
name: services
oidc-token: {}
---
kind: Target
name: db
postgres: {url: "postgres://daypass@db.example.com/db?sslmode=verify-full", password: {file: db}}
---
kind: Role
name: deploy
target: services
oidc-token: {audience: sts.amazonaws.com}
---
kind: Role
name: tagged
target: services
oidc-token:
  audience: api.example.com
  algorithm: ES256
  subject: team:${role}
  claims:
    https://aws.amazon.com/tags: {principal_tags: {team: [a], repository: [b]}}
    https://aws.amazon.com/source_identity: x
---
kind: Role
name: reader
target: db
postgres: {in_role: [readers]}
`}
	f, err := inspection.FederationOf(files, "deploy", "https://daypass.example.com", "RS256")
	if err != nil || f.Subject != "role:deploy" || f.Audience != "sts.amazonaws.com" || f.Algorithm != "RS256" || f.Target != "services" || len(f.Tags) != 0 || f.SourceIdentity {
		t.Errorf("%+v, %v", f, err)
	}
	f, err = inspection.FederationOf(files, "tagged", "https://daypass.example.com", "RS256")
	if err != nil || f.Subject != "team:tagged" || f.Algorithm != "ES256" || strings.Join(f.Tags, " ") != "repository team" || !f.SourceIdentity {
		t.Errorf("%+v, %v", f, err)
	}
	for _, role := range []string{"reader", "absent"} {
		if _, err := inspection.FederationOf(files, role, "https://daypass.example.com", "RS256"); err == nil {
			t.Errorf("%s: no error", role)
		}
	}
}

// A condition for the whole issuer has to know every role, and a manager is of its whole target.
func TestARoleComesWithWhatIsSharedWithOthers(t *testing.T) {
	const target = `
kind: Target
name: acme
gcp:
  provider: //iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/daypass/providers/daypass
  manage: {service_account: manage@acme-leases.iam.gserviceaccount.com, project: acme-leases, resources: [projects/acme-prod, buckets/orders]}
---
kind: Role
name: first
target: acme
gcp: {service_account: first-account@acme-prod.iam.gserviceaccount.com}
---
kind: Role
name: second
target: acme
gcp: {service_account: second-account@acme-prod.iam.gserviceaccount.com}
---
kind: Role
name: third
target: acme
gcp: {per_lease: true, bindings: [{on: projects/acme-prod, roles: [roles/run.invoker]}]}
---
kind: Role
name: fourth
target: acme
gcp: {per_lease: true, bindings: [{on: projects/acme-prod, roles: [roles/storage.objectViewer]}, {on: buckets/orders, roles: [roles/storage.objectUser]}]}
`
	files := map[string]string{"a.yaml": target}
	f, err := inspection.FederationOf(files, "second", "https://daypass.example.com", "RS256")
	if err != nil || strings.Join(f.Others, " ") != "role:first daypass:target:acme" && strings.Join(f.Others, " ") != "daypass:target:acme role:first" {
		t.Errorf("%+v, %v", f, err)
	}
	f, err = inspection.FederationOf(files, "third", "https://daypass.example.com", "RS256")
	if err != nil || strings.Join(f.Others, " ") != "role:first role:second" {
		t.Fatalf("%+v, %v", f, err)
	}
	if m := f.Manager; strings.Join(m.Grants["projects/acme-prod"], " ") != "roles/run.invoker roles/storage.objectViewer" || len(m.Grants["buckets/orders"]) != 1 {
		t.Errorf("the manager grants %v", m.Grants)
	}
}

// The manager at AWS is of its target: what it may do is for all roles of it, and a boundary is demanded where each has one.
func TestTheManagerAtAWSIsOfItsTarget(t *testing.T) {
	const head = "kind: Target\nname: acme\naws: {region: eu-central-1, manage: {role_arn: 'arn:aws:iam::123456789012:role/manage', per_lease: %}}\n"
	role := func(name, rights string) string {
		return "---\nkind: Role\nname: " + name + "\ntarget: acme\naws: {" + rights + "}\n"
	}
	const bound = ", permissions_boundary: 'arn:aws:iam::123456789012:policy/leases'"
	const policy = "policy_arns: ['arn:aws:iam::aws:policy/ReadOnlyAccess']"
	for name, c := range map[string]struct {
		text       string
		boundaries int
		sessions   int
	}{
		"all bounded":  {strings.Replace(head, "%", "true", 1) + role("a", "per_lease: role, "+policy+bound) + role("b", "per_lease: user, "+policy+bound), 1, 0},
		"one without":  {strings.Replace(head, "%", "true", 1) + role("a", "per_lease: role, "+policy+bound) + role("b", "per_lease: user, "+policy), 0, 0},
		"for sessions": {strings.Replace(head, "%", "false", 1) + role("a", "role_arn: 'arn:aws:iam::123456789012:role/a'") + role("b", "role_arn: 'arn:aws:iam::123456789012:role/b'"), 0, 2},
	} {
		f, err := inspection.FederationOf(map[string]string{"a.yaml": c.text}, "a", "https://daypass.example.com", "RS256")
		if err != nil || f.Manager == nil || f.Manager.Subject != "daypass:target:acme" || len(f.Manager.Sessions) != c.sessions || (f.Manager.Making == nil) != (c.sessions > 0) {
			t.Errorf("%s: %+v, %v", name, f, err)
			continue
		}
		if m := f.Manager.Making; m != nil && (len(m.Boundaries) != c.boundaries || len(m.Kinds) != 2 || len(m.Policies) != 1) {
			t.Errorf("%s: it makes %+v", name, m)
		}
	}
}
