package azure_test

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
	"github.com/daypass/daypass/target/azure"
	"github.com/daypass/daypass/target/azure/azuretest"
	"github.com/daypass/daypass/target/cloud"
	"github.com/daypass/daypass/target/cloud/cloudtest"
	"github.com/daypass/daypass/target/targettest"
)

const (
	tenant  = "11111111-2222-3333-4444-555555555555"
	app     = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	manager = "99999999-8888-7777-6666-555555555555"
	orders  = "/subscriptions/00000000-1111-2222-3333-444444444444/resourceGroups/orders"
	bills   = "/subscriptions/00000000-1111-2222-3333-444444444444/resourceGroups/bills"

	plainRights = `{"client_id":"` + app + `"}`
	leaseRights = `{"per_lease":true,"assignments":[{"on":"` + orders + `","roles":["` + azuretest.Reader + `"]}]}`
)

// rig is a stand-in for Azure with an issuer that it trusts, on the loopback.
type rig struct {
	*azuretest.Cloud
	t      testing.TB
	clock  *cloudtest.Clock
	book   *cloudtest.Book
	issuer *issuer.Issuer
	faults *cloudtest.Faults
	log    *testbed.Log
	url    string
}

func newRig(t testing.TB, made func(*cloudtest.Clock) *issuer.Issuer) *rig {
	t.Helper()
	r := &rig{t: t, clock: cloudtest.NewClock(time.Now()), book: cloudtest.NewBook(), log: &testbed.Log{}}
	r.issuer = made(r.clock)
	r.Cloud = azuretest.New(azuretest.Config{
		Tenant: tenant, Manager: manager, Issuer: cloudtest.IssuerURL, Now: r.clock.Now,
		Verify: cloudtest.Verifier{Issuer: r.issuer, Now: r.clock.Now}.Verify,
	}, cloud.ManagerSubject("acme"), map[string][]string{orders: {azuretest.Reader}, bills: {azuretest.Reader, azuretest.Contributor}})
	r.Application(app, "role:deploy", "role:conformance")
	r.Assign(app, orders, azuretest.Reader)
	r.faults = &cloudtest.Faults{Inner: r.Cloud}
	server := httptest.NewServer(r.faults)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *rig) config() cloud.Config {
	cfg := cloudtest.Config(r.issuer, r.book, r.clock)
	cfg.Log = slog.New(slog.NewTextHandler(r.log, nil))
	return cfg
}

func (r *rig) settings(url string, life time.Duration) azure.Settings {
	lifetime := api.Duration(life)
	return azure.Settings{Tenant: tenant, Authority: url, Graph: url, ResourceManager: url, TokenLifetime: &lifetime}
}

func (r *rig) tokens(life time.Duration) target.Target {
	r.t.Helper()
	cfg := r.config()
	cfg.Roles = func(context.Context) (map[string]json.RawMessage, error) {
		return map[string]json.RawMessage{"deploy": json.RawMessage(plainRights)}, nil
	}
	made, err := azure.NewTokens(cfg, r.settings(r.url, life))
	if err != nil {
		r.t.Fatal(err)
	}
	return cloudtest.Tokens{Tokens: made, Book: r.book, Clock: r.clock}
}

// principals is a target that makes applications, over a road to the stand-in.
func (r *rig) principals(url string, settle time.Duration) cloudtest.Principals {
	r.t.Helper()
	settings, wait := r.settings(url, 90*time.Minute), api.Duration(settle)
	settings.Manage = &azure.Manage{ClientID: manager, Scopes: []string{orders, bills}, Settle: &wait}
	made, err := azure.NewPrincipals(r.config(), settings)
	if err != nil {
		r.t.Fatal(err)
	}
	return cloudtest.Principals{Principals: made, Book: r.book, Clock: r.clock}
}

// use does something at the Resource Manager with a credential.
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

func (r *rig) read(ctx context.Context, c target.Credential) error {
	return r.use(ctx, c, http.MethodGet, orders)
}

func (r *rig) remove(ctx context.Context, c target.Credential) error {
	return r.use(ctx, c, http.MethodDelete, orders)
}

// left is what lives at the stand-in for leases.
func (r *rig) left() (left []string) {
	for _, o := range r.Objects("dp_" + cloudtest.Instance + "_") {
		if !strings.HasSuffix(o, "_mark") {
			left = append(left, o)
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
