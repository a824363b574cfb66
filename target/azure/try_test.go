package azure_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/azure"
	"github.com/daypass/daypass/target/azure/azuretest"
	"github.com/daypass/daypass/target/cloud"
	"github.com/daypass/daypass/target/cloud/cloudtest"
)

const armResource = "https://management.azure.com"

// check tries the roles of a target.
func (r *rig) check(t *testing.T, settings azure.Settings, roles map[string]string) ([]target.Finding, error) {
	t.Helper()
	cfg := r.config()
	cfg.Roles = func(context.Context) (map[string]json.RawMessage, error) {
		all := map[string]json.RawMessage{}
		for name, rights := range roles {
			all[name] = json.RawMessage(rights)
		}
		return all, nil
	}
	var at target.Checker
	var err error
	if settings.Manage == nil {
		at, err = azure.NewTokens(cfg, settings)
	} else {
		at, err = azure.NewPrincipals(cfg, settings)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return at.Check(ctx)
}

// both are the settings of a target that names applications, and of one that makes them.
func (r *rig) both() []azure.Settings {
	plain := r.settings(r.url, 90*time.Minute)
	managing := plain
	managing.Manage = &azure.Manage{ClientID: manager, Scopes: []string{orders, bills}}
	return []azure.Settings{plain, managing}
}

// What the stand-in has against our tokens is in the words that Microsoft's reference and public reports quote. The same is said
// of a role's token and of the manager's.
func TestWhatEntraHasAgainstATokenIsExplained(t *testing.T) {
	made := cloudtest.Keys(t)
	for name, c := range map[string]struct {
		spoil          func(r *rig, clientID, subject string)
		why, says, fix string
	}{
		"no federated credential": {func(r *rig, id, _ string) { r.Distrust(id) }, "no federated credential of the application has issuer, subject and audience", "AADSTS70021:", "daypass trust render azure deploy"},
		"another issuer":          {func(r *rig, id, s string) { r.Federate(id, "https://other.example.com", s, azure.Audience) }, "has the issuer", "AADSTS700211:", "its issuer is " + cloudtest.IssuerURL + " to the letter"},
		"another audience":        {func(r *rig, id, s string) { r.Federate(id, cloudtest.IssuerURL, s, "api.example.com") }, "has the audience", "AADSTS700212:", "its audience is api://AzureADTokenExchange"},
		"another subject":         {func(r *rig, id, _ string) { r.Federate(id, cloudtest.IssuerURL, "role:x", azure.Audience) }, "has the subject", "AADSTS700213:", "its subject is SUBJECT, byte by byte"},
		"other capitals":          {func(r *rig, id, s string) { r.Federate(id, cloudtest.IssuerURL, strings.ToUpper(s), azure.Audience) }, "in other capitals", "AADSTS7002138:", "its subject is SUBJECT, byte by byte"},
		"no service principal":    {func(r *rig, id, _ string) { r.Dismiss(id) }, "no service principal", "AADSTS7000229:", "az ad sp create --id, for application ID"},
		"a clock that is ahead":   {func(r *rig, _, _ string) { r.Change(azuretest.Entra{Ahead: time.Hour}) }, "too old or of the future", "AADSTS700024:", "set the clock of the server that signs"},
		"keys it does not know":   {func(r *rig, _, _ string) { r.Change(azuretest.Entra{Unknown: true}) }, "does not find the key that signed it", "AADSTS7000272:", "Entra keeps what it has read for a while"},
		"an issuer out of reach":  {func(r *rig, _, _ string) { r.Change(azuretest.Entra{Cut: true}) }, "cannot read the documents of the issuer", "AADSTS501661:", "from the whole internet over https"},
		"conditional access":      {func(r *rig, _, _ string) { r.Change(azuretest.Entra{Blocked: true}) }, "Conditional Access", "AADSTS53003:", "allow application ID"},
		"a resource nobody knows": {func(r *rig, _, _ string) { r.Change(azuretest.Entra{Lost: armResource}) }, "does not know the resource", "AADSTS500011:", "compare scope of the role"},
	} {
		for i, role := range []string{"deploy", ""} {
			r := newRig(t, made)
			id, subject, rights := app, "role:deploy", plainRights
			if role == "" {
				id, subject, rights = manager, cloud.ManagerSubject("acme"), leaseRights
			}
			c.spoil(r, id, subject)
			found, err := r.check(t, r.both()[i], map[string]string{"deploy": rights})
			if err != nil || len(found) != 1 {
				t.Errorf("%s, %s: %v, %v", name, subject, found, err)
				continue
			}
			f := found[0]
			who := fmt.Sprintf("(issuer %s, audience %s, subject %s) does not become application %s: ", cloudtest.IssuerURL, azure.Audience, subject, id)
			fix := strings.NewReplacer("SUBJECT", subject, "ID", id).Replace(c.fix)
			if f.Severity != target.Problem || f.Role != role || !strings.Contains(f.Message, who) || !strings.Contains(f.Message, c.why) ||
				!strings.Contains(f.Message, ". Entra says status 4") || !strings.Contains(f.Message, c.says) || !strings.Contains(f.Fix, fix) {
				t.Errorf("%s, %s: %+v", name, subject, f)
			}
			if text := fmt.Sprint(found) + r.log.String(); strings.Contains(text, "eyJ") {
				t.Errorf("%s: a token is in %s", name, text)
			}
		}
	}
}

func TestWhatIsMissingAtEntraIsExplained(t *testing.T) {
	made := cloudtest.Keys(t)
	r := newRig(t, made)
	settings := r.both()[0]
	settings.Tenant = "22222222-2222-3333-4444-555555555555"
	if found, err := r.check(t, settings, map[string]string{"deploy": plainRights}); err != nil || len(found) != 1 || !strings.Contains(found[0].Message, "there is no such tenant. Entra says status 400: invalid_request: AADSTS90002: ") {
		t.Errorf("%v, %v", found, err)
	}
	unknown := strings.ReplaceAll(plainRights, "aaaaaaaa", "bbbbbbbb")
	if found, err := r.check(t, r.both()[0], map[string]string{"deploy": plainRights, "gone": unknown}); err != nil || len(found) != 1 || found[0].Role != "gone" || !strings.Contains(found[0].Message, "there is no such application in the tenant. Entra says status 400: unauthorized_client: AADSTS700016: ") {
		t.Errorf("%v, %v", found, err)
	}
	r.Life(5 * time.Hour)
	if found, err := r.check(t, r.both()[0], map[string]string{"deploy": plainRights}); err != nil || len(found) != 1 || !strings.Contains(found[0].Message, `role "deploy" gets nothing: the tenant gives tokens that live longer than token_lifetime of the target says`) {
		t.Errorf("%v, %v", found, err)
	}
}

func TestCheckAsksWhatTheManagerMay(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	r.Assign(manager, bills, azuretest.Contributor)
	elsewhere := strings.ReplaceAll(leaseRights, "/orders", "/others")
	found, err := r.check(t, r.both()[1], map[string]string{"deploy": leaseRights, "elsewhere": elsewhere})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range found {
		all = append(all, fmt.Sprintf("%s: %s [%s]", f.Severity, f.Message, f.Role))
	}
	want := `problem: role "elsewhere" gets nothing: the role assigns at a scope that its target does not list in manage.scopes [elsewhere]
warning: the manager may more at ` + bills + ` than assign roles: it has Microsoft.Resources/subscriptions/resourceGroups/delete and does not need it []`
	if text := strings.Join(all, "\n"); text != want {
		t.Errorf("found:\n%s\nwant:\n%s", text, want)
	}
	r.Demote()
	found, err = r.check(t, r.both()[1], nil)
	if err != nil || !strings.Contains(fmt.Sprint(found), "the manager may not assign roles at "+orders+": it lacks Microsoft.Authorization/roleAssignments/write") {
		t.Errorf("%v, %v", found, err)
	}
}

// A cloud that is out of order was not tried: that is no refusal.
func TestACloudThatDoesNotAnswerWasNotTried(t *testing.T) {
	made := cloudtest.Keys(t)
	for i := range 2 {
		r := newRig(t, made)
		r.faults.Inner = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		if found, err := r.check(t, r.both()[i], map[string]string{"deploy": plainRights}); err == nil {
			t.Error(found)
		}
	}
}

// A cloud that takes its time is waited for no longer than whoever asks does, and what is not known is called nothing.
func TestASlowCloudIsWaitedForNoLongerThanAsked(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	var slow atomic.Bool
	inner := r.faults.Inner
	r.faults.Inner = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if !slow.Load() {
			inner.ServeHTTP(w, q)
			return
		}
		_, _ = io.Copy(io.Discard, q.Body) // only then is it seen that the other side has gone
		<-q.Context().Done()
	})
	plain, managing := r.tokens(90*time.Minute), r.principals(r.url, 0)
	g := r.grant(leaseRights)
	if _, err := managing.Grant(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	slow.Store(true)
	for name, do := range map[string]func(context.Context) error{
		"a grant of a principal that exists": func(ctx context.Context) error { _, err := plain.Grant(ctx, r.grant(plainRights)); return err },
		"a grant of one per lease":           func(ctx context.Context) error { _, err := managing.Grant(ctx, r.grant(leaseRights)); return err },
		"a revocation":                       func(ctx context.Context) error { return managing.Revoke(ctx, g.Lease) },
		"a check of roles":                   func(ctx context.Context) error { _, err := plain.(target.Checker).Check(ctx); return err },
		"a check of the manager":             func(ctx context.Context) error { _, err := r.principals(r.url, 0).Check(ctx); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		done := make(chan error, 1)
		go func() { done <- do(ctx) }()
		select {
		case err := <-done:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(30 * time.Second): // a request alone may take half of that
			t.Errorf("%s goes on", name)
		}
		cancel()
	}
	slow.Store(false)
	if err := managing.Revoke(t.Context(), g.Lease); err != nil || len(r.left()) > 0 {
		t.Errorf("revoke: %v; left %v", err, r.left())
	}
}
