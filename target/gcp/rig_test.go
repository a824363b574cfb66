package gcp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
	"github.com/daypass/daypass/target/cloud/cloudtest"
	"github.com/daypass/daypass/target/gcp"
	"github.com/daypass/daypass/target/gcp/gcptest"
	"github.com/daypass/daypass/target/targettest"
)

const (
	provider = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/daypass/providers/daypass"
	account  = "deploy@acme-prod.iam.gserviceaccount.com"
	manager  = "daypass-manage@acme-leases.iam.gserviceaccount.com"
	project  = "acme-leases"
	viewer   = "roles/storage.objectViewer"

	plainRights = `{"service_account":"` + account + `"}`
	leaseRights = `{"per_lease":true,"bindings":[{"on":"buckets/artifacts","roles":["` + viewer + `"]}]}`
)

// rig is a stand-in for Google Cloud with an issuer that it trusts, on the loopback.
type rig struct {
	*gcptest.Cloud
	t      testing.TB
	clock  *cloudtest.Clock
	book   *cloudtest.Book
	issuer *issuer.Issuer
	faults *cloudtest.Faults
	log    *testbed.Log
	server *httptest.Server
	url    string
}

func newRig(t testing.TB, made func(*cloudtest.Clock) *issuer.Issuer) *rig {
	t.Helper()
	r := &rig{t: t, clock: cloudtest.NewClock(time.Now()), book: cloudtest.NewBook(), log: &testbed.Log{}}
	r.issuer = made(r.clock)
	r.Cloud = gcptest.New(gcptest.Config{
		Provider: provider, Manager: manager, Project: project, Now: r.clock.Now,
		Verify: cloudtest.Verifier{Issuer: r.issuer, Now: r.clock.Now}.Verify,
	}, map[string][]string{"buckets/artifacts": {viewer, "roles/storage.objectAdmin"}, "projects/acme-prod": {viewer}})
	r.Account(account)
	r.Trust("role:deploy", account)
	r.Trust("role:conformance", account)
	r.Bind("buckets/artifacts", viewer, "serviceAccount:"+account, "")
	r.Trust(cloud.ManagerSubject("acme"), manager)
	r.faults = &cloudtest.Faults{Inner: r.Cloud}
	r.server = httptest.NewServer(r.faults)
	r.server.Config.ErrorLog = nil
	t.Cleanup(r.server.Close)
	r.url = r.server.URL
	return r
}

func (r *rig) config() cloud.Config {
	cfg := cloudtest.Config(r.issuer, r.book, r.clock)
	cfg.Log = slog.New(slog.NewTextHandler(r.log, nil))
	return cfg
}

func (r *rig) settings(url string) gcp.Settings {
	return gcp.Settings{Provider: provider, STS: url, IAMCredentials: url, IAM: url, ResourceManager: url, Storage: url}
}

func (r *rig) tokens() target.Target {
	r.t.Helper()
	cfg := r.config()
	cfg.Roles = func(context.Context) (map[string]json.RawMessage, error) {
		return map[string]json.RawMessage{"deploy": json.RawMessage(plainRights)}, nil
	}
	made, err := gcp.NewTokens(cfg, r.settings(r.url))
	if err != nil {
		r.t.Fatal(err)
	}
	return cloudtest.Tokens{Tokens: made, Book: r.book, Clock: r.clock}
}

// principals is a target that makes accounts, over a road to the stand-in.
func (r *rig) principals(url string, settle time.Duration) cloudtest.Principals {
	return r.managing(r.config(), url, settle)
}

// known is one where credentials live that were handed out.
func (r *rig) known() cloudtest.Principals {
	cfg := r.config()
	cfg.Known = true
	return r.managing(cfg, r.url, 0)
}

func (r *rig) managing(cfg cloud.Config, url string, settle time.Duration) cloudtest.Principals {
	r.t.Helper()
	settings, wait := r.settings(url), api.Duration(settle)
	settings.Manage = &gcp.Manage{ServiceAccount: manager, Project: project, Resources: []string{"buckets/artifacts", "projects/acme-prod"}, Settle: &wait}
	made, err := gcp.NewPrincipals(cfg, settings)
	if err != nil {
		r.t.Fatal(err)
	}
	return cloudtest.Principals{Principals: made, Book: r.book, Clock: r.clock}
}

// use does something at Storage with a credential.
func (r *rig) use(ctx context.Context, c target.Credential, method, path string) error {
	request, err := http.NewRequestWithContext(ctx, method, r.url+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+c.Secrets["access_token"].Reveal())
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d: %s", answer.StatusCode, text)
	}
	return err
}

func (r *rig) list(ctx context.Context, c target.Credential) error {
	return r.use(ctx, c, http.MethodGet, "/storage/v1/b/artifacts/o")
}

func (r *rig) remove(ctx context.Context, c target.Credential) error {
	return r.use(ctx, c, http.MethodDelete, "/storage/v1/b/artifacts/o/x")
}

// left is what lives at the stand-in for leases.
func (r *rig) left() []string {
	left := r.Live("dp-" + cloudtest.Instance + "-")
	for _, on := range []string{"buckets/artifacts", "projects/acme-prod"} {
		for _, m := range r.Members(on) {
			if strings.Contains(m, "dp-"+cloudtest.Instance+"-") {
				left = append(left, m)
			}
		}
	}
	return left
}

func (r *rig) grant(rights string) target.Grant {
	return target.Grant{Lease: targettest.Lease(), Role: "deploy", Rights: json.RawMessage(rights), TTL: 20 * time.Minute,
		Holder: target.Holder{Issuer: "github", Subject: "repo:acme/x:ref:refs/heads/main' or 1=1", Claims: map[string]any{"sub": "role:admin"}}}
}

// faulty is the target over a road that breaks.
func (r *rig) faulty() targettest.Faulty {
	proxy := testbed.StartProxy(r.t, strings.TrimPrefix(r.url, "http://"))
	return targettest.Faulty{
		Target:      r.principals("http://"+proxy.Address(), 0),
		LoseAnswers: func() { proxy.Set(testbed.DropAnswers) },
		Hold:        func() { proxy.Set(testbed.Hold) },
		Heal: func() {
			asked := r.Asked()
			proxy.Heal()
			r.arrived(asked)
		},
		Successor: func() target.Target { return r.principals(r.url, 0) },
	}
}

// arrived waits for what was held, a moment at most: it may have been given up.
func (r *rig) arrived(asked int) {
	for deadline := time.Now().Add(500 * time.Millisecond); r.Asked() == asked && time.Now().Before(deadline); {
		<-time.After(5 * time.Millisecond)
	}
	<-time.After(50 * time.Millisecond)
}
