package gcp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
	"github.com/daypass/daypass/target/cloud/cloudtest"
	"github.com/daypass/daypass/target/gcp"
	"github.com/daypass/daypass/target/gcp/gcptest"
)

// check tries the roles of a target.
func (r *rig) check(t *testing.T, manage *gcp.Manage, roles map[string]string) ([]target.Finding, error) {
	t.Helper()
	cfg, settings := r.config(), r.settings(r.url)
	cfg.Roles = func(context.Context) (map[string]json.RawMessage, error) {
		all := map[string]json.RawMessage{}
		for name, rights := range roles {
			all[name] = json.RawMessage(rights)
		}
		return all, nil
	}
	settings.Manage = manage
	var at target.Checker
	var err error
	if manage == nil {
		at, err = gcp.NewTokens(cfg, settings)
	} else {
		at, err = gcp.NewPrincipals(cfg, settings)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return at.Check(ctx)
}

func managed() *gcp.Manage {
	return &gcp.Manage{ServiceAccount: manager, Project: project, Resources: []string{"buckets/artifacts", "projects/acme-prod"}}
}

// What the stand-in has against our tokens is in the words that Google's documentation and public reports quote. The same is
// said of a role's token and of the manager's.
func TestWhatGoogleHasAgainstATokenIsExplained(t *testing.T) {
	made := cloudtest.Keys(t)
	ours := "https:" + provider
	for name, c := range map[string]struct {
		spoil     func(*rig)
		why, says string
		fix       string
	}{
		"a provider that is disabled": {func(r *rig) { r.Provide(gcptest.Provider{Disabled: true}) }, "it is disabled or deleted", "invalid_target", "daypass trust render gcp deploy"},
		"another issuer":              {func(r *rig) { r.Provide(gcptest.Provider{Issuer: "https://other.example.com"}) }, "trusts another issuer", "invalid_grant", "its issuer URI is " + cloudtest.IssuerURL + " to the letter"},
		"another audience":            {func(r *rig) { r.Provide(gcptest.Provider{Audiences: []string{"api.example.com"}}) }, "does not list the audience", "invalid_grant", "add " + ours + " to its allowed audiences"},
		"a condition on the subject":  {func(r *rig) { r.Provide(gcptest.Provider{Subjects: []string{"role:x"}}) }, "attribute condition does not let the subject in", "unauthorized_client", "assertion.sub == 'SUBJECT'"},
		"an issuer out of reach":      {func(r *rig) { r.Provide(gcptest.Provider{Cut: true}) }, "cannot read the keys of the issuer", "invalid_grant", "from the whole internet over https"},
		"an API that is off":          {func(r *rig) { r.Provide(gcptest.Provider{Mute: true}) }, "is switched off in the project", "PERMISSION_DENIED", "gcloud services enable iamcredentials.googleapis.com"},
		"a clock that is ahead":       {func(r *rig) { r.Provide(gcptest.Provider{Ahead: time.Hour}) }, "too old or of the future", "invalid_grant", "set the clock of the server that signs"},
		"keys that it does not know":  {func(r *rig) { r.Provide(gcptest.Provider{Unknown: true}) }, "does not find the key that signed it", "invalid_grant", "Google keeps what it has read for a while"},
		"an account nobody may be": {func(r *rig) {
			pool, _, _ := strings.Cut(strings.TrimPrefix(provider, "//"), "/providers/")
			r.Unbind("accounts/"+account, "principal://"+pool+"/subject/role:deploy")
			r.Unbind("accounts/"+manager, "principal://"+pool+"/subject/"+cloud.ManagerSubject("acme"))
		}, "may not impersonate the account (iam.serviceAccounts.getAccessToken)", "PERMISSION_DENIED", "/subject/SUBJECT roles/iam.workloadIdentityUser on ACCOUNT: daypass trust render gcp deploy"},
	} {
		for _, manage := range []*gcp.Manage{nil, managed()} {
			r := newRig(t, made)
			c.spoil(r)
			subject, becomes, role, rights := "role:deploy", account, "deploy", plainRights
			if manage != nil {
				subject, becomes, role, rights = cloud.ManagerSubject("acme"), manager, "", leaseRights
			}
			found, err := r.check(t, manage, map[string]string{"deploy": rights})
			if err != nil || len(found) != 1 {
				t.Errorf("%s, %s: %v, %v", name, subject, found, err)
				continue
			}
			f := found[0]
			who := fmt.Sprintf("(issuer %s, audience %s, subject %s) does not become %s: ", cloudtest.IssuerURL, ours, subject, becomes)
			fix := strings.NewReplacer("SUBJECT", subject, "ACCOUNT", becomes).Replace(c.fix)
			if f.Severity != target.Problem || f.Role != role || !strings.Contains(f.Message, who) || !strings.Contains(f.Message, c.why) ||
				!strings.Contains(f.Message, ". Google says status 4") || !strings.Contains(f.Message, c.says) || !strings.Contains(f.Fix, fix) {
				t.Errorf("%s, %s: %+v", name, subject, f)
			}
			if text := fmt.Sprint(found) + r.log.String(); strings.Contains(text, "eyJ") || strings.Contains(text, "ya29.") {
				t.Errorf("%s: a token is in %s", name, text)
			}
		}
	}
}

// A trial gets a token that may do nothing for a minute, whatever the role is for, of each role of the target.
func TestATrialGetsNothing(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	var mu sync.Mutex
	var asked []string
	inner := r.faults.Inner
	r.faults.Inner = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasSuffix(q.URL.Path, ":generateAccessToken") {
			var body map[string]any
			text, err := io.ReadAll(q.Body)
			if err == nil {
				err = json.Unmarshal(text, &body)
			}
			if err != nil {
				t.Errorf("read what was asked: %v", err)
			}
			q.Body = io.NopCloser(bytes.NewReader(text))
			mu.Lock()
			asked = append(asked, fmt.Sprint(body["lifetime"], body["scope"]))
			mu.Unlock()
		}
		inner.ServeHTTP(w, q)
	})
	found, err := r.check(t, nil, map[string]string{"deploy": plainRights, "conformance": `{"service_account":"` + account + `","scopes":["https://www.googleapis.com/auth/cloud-platform"]}`, "nobody": plainRights})
	if err != nil || len(found) != 1 || found[0].Role != "nobody" {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := r.check(t, managed(), map[string]string{"deploy": leaseRights}); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 5 { // three roles, the manager's trial, and the manager's own token
		t.Fatalf("asked for %q", asked)
	}
	for _, one := range asked[:4] {
		if one != "60s[https://www.googleapis.com/auth/userinfo.email]" {
			t.Errorf("a trial asked for %s", one)
		}
	}
	if live := r.left(); len(live) > 0 {
		t.Errorf("there is left %v", live)
	}
}

func TestCheckAsksWhatTheManagerMay(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	r.Unbind("projects/acme-prod", "serviceAccount:"+manager)
	r.Bind("projects/"+project, "roles/iam.serviceAccountKeyAdmin", "serviceAccount:"+manager, "")
	found, err := r.check(t, managed(), map[string]string{"deploy": leaseRights, "elsewhere": strings.ReplaceAll(leaseRights, "artifacts", "others"), "plain": plainRights})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range found {
		all = append(all, fmt.Sprintf("%s: %s [%s]", f.Severity, f.Message, f.Role))
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{
		`problem: role "elsewhere" gets nothing: the role binds accounts on a resource that its target does not list in manage.resources [elsewhere]`,
		`problem: role "plain" gets nothing: `,
		"problem: the manager may not read the policy of projects/acme-prod: ",
		"problem: the manager may not write the policy on projects/acme-prod: it lacks resourcemanager.projects.setIamPolicy []",
		"warning: the manager may make keys, which outlive leases on projects/acme-leases: it has iam.serviceAccountKeys.create and does not need it []",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says %q:\n%s", want, text)
		}
	}
	if len(all) != 5 {
		t.Errorf("more is said:\n%s", text)
	}
}

// A cloud that is out of order or slow was not tried: that is no refusal, and takes no longer than whoever asks waits.
func TestACloudThatDoesNotAnswerWasNotTried(t *testing.T) {
	made := cloudtest.Keys(t)
	for name, manage := range map[string]*gcp.Manage{"a role": nil, "the manager": managed()} {
		r := newRig(t, made)
		r.faults.Inner = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		if found, err := r.check(t, manage, map[string]string{"deploy": plainRights}); err == nil {
			t.Errorf("%s: %v", name, found)
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
	plain, managing := r.tokens(), r.principals(r.url, 0)
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
