package server_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

// posture is a source that speaks of repositories.
const posture = `---
kind: Posture
name: repository
of: {github: repository}
fields: {healthy: bool}
max_age: 10m
`

const whileHealthy = `permit (principal is GitHub::Workload, action in [Action::"acquire", Action::"renew"], resource == Role::"orders-readonly")
when { context.posture has repository && context.posture.repository.healthy };
permit (principal is GitHub::Workload, action == Action::"report", resource == Posture::"repository")
when { principal.claims.repository == "acme/monitor" };
permit (principal, action, resource is System) when { context has now };
`

func report(t *testing.T, c *client.Client, healthy bool) {
	t.Helper()
	if _, err := c.ReportPosture(t.Context(), "repository", "acme/orders", api.PostureReport{Fields: json.RawMessage(fmt.Sprintf(`{"healthy":%v}`, healthy))}); err != nil {
		t.Fatal(err)
	}
}

func works(t *testing.T, l *client.Lease) bool {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), l.Credential.Secret("url").Reveal())
	if err == nil {
		conn.Close(t.Context())
	}
	return err == nil
}

// until polls until something is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

func TestALoginAndItsSessionsEndWhenPostureTurns(t *testing.T) {
	r := newRig(t)
	r.write(t, "access/access.yaml", r.accessFile()+posture)
	r.write(t, "access/policy.cedar", whileHealthy)
	r.start(t)
	workload, monitor := r.workload(t, testissuer.Run{}), r.workload(t, testissuer.Run{Repository: "acme/monitor"})
	if _, err := workload.Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"}); !denied(err) {
		t.Fatalf("without posture: %v", err)
	}
	if _, err := workload.ReportPosture(t.Context(), "repository", "acme/orders", api.PostureReport{Fields: json.RawMessage(`{"healthy":true}`)}); !denied(err) {
		t.Errorf("a workload speaks for itself: %v", err)
	}
	report(t, monitor, true)
	l := acquire(t, workload)
	conn, err := pgx.Connect(t.Context(), l.Credential.Secret("url").Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	begun := time.Now()
	report(t, monitor, false)
	until(t, "the lease to be revoked", func() bool {
		now, err := r.administrator(t).Lease(t.Context(), l.ID())
		return err == nil && now.State == "revoked" && now.Reason == "policy"
	})
	t.Logf("revoked %s after the report", time.Since(begun).Round(time.Millisecond))
	if works(t, l) || conn.Ping(t.Context()) == nil {
		t.Error("the login or its session still works")
	}
	if _, err := workload.Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"}); !denied(err) {
		t.Errorf("acquired again: %v", err)
	}
	found := 0
	for record, err := range r.administrator(t).Postures(t.Context(), "repository") {
		if found++; err != nil || record.ID != "acme/orders" || !strings.HasPrefix(record.ReportedBy, "github:repo:acme/monitor") {
			t.Errorf("listed: %+v, %v", record, err)
		}
	}
	if found != 1 {
		t.Errorf("%d records", found)
	}
}

func denied(err error) bool {
	problem, ok := errors.AsType[*api.Problem](err)
	return ok && problem.Status == http.StatusForbidden
}

func TestPostureIsReadFromAURLAndAFailingOneGrowsStale(t *testing.T) {
	r := newRig(t)
	var answer atomic.Value
	answer.Store(`{"records":[{"id":"acme/orders","fields":{"healthy":true}},{"id":"acme/else","fields":{"healthy":"yes"}}]}`)
	health := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch text := answer.Load().(string); {
		case q.Header.Get("Authorization") != "Bearer health-token":
			w.WriteHeader(http.StatusUnauthorized)
		case text == "redirect":
			http.Redirect(w, q, "/elsewhere", http.StatusFound)
		case q.URL.Path == "/elsewhere":
			t.Error("a redirect was followed")
		default:
			fmt.Fprint(w, text)
		}
	}))
	defer health.Close()
	r.write(t, "secrets/health-token", "health-token\n")
	r.write(t, "secrets/health.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: health.Certificate().Raw})))
	r.write(t, "access/access.yaml", r.accessFile()+posture+fmt.Sprintf("read: {url: %q, every: 5s, token: {file: health-token}, ca_file: health.pem}\n", health.URL+"/repositories"))
	r.write(t, "access/policy.cedar", whileHealthy)
	r.start(t)
	workload := r.workload(t, testissuer.Run{})
	var l *client.Lease
	until(t, "the first reading", func() bool {
		var err error
		l, err = workload.Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"})
		return err == nil
	})
	if _, err := r.administrator(t).ReportPosture(t.Context(), "repository", "acme/orders", api.PostureReport{Fields: json.RawMessage(`{"healthy":true}`)}); err == nil {
		t.Error("a report was taken for a source that is read")
	}
	answer.Store("redirect") // nothing changes
	until(t, "the log to tell", func() bool { return strings.Contains(r.log.String(), "answers 302") })
	if now, err := r.administrator(t).Lease(t.Context(), l.ID()); err != nil || now.State != "active" {
		t.Errorf("the lease: %+v, %v", now, err)
	}
	answer.Store(`{"records":[]}`)
	until(t, "the lease to be revoked", func() bool {
		now, err := r.administrator(t).Lease(t.Context(), l.ID())
		return err == nil && now.State == "revoked" && now.Reason == "policy"
	})
}

func TestPlacesComeFromTheFileAndAForgedHeaderMovesNobody(t *testing.T) {
	r := newRig(t)
	file := filepath.Join(r.dir, "places.mmdb")
	fixture := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("..", "location", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	put := func(data []byte) {
		if err := os.WriteFile(file+".new", data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	put(fixture("city.mmdb"))
	r.cfg.Location.File = file
	r.cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	r.write(t, "access/policy.cedar", `permit (principal is GitHub::Workload, action == Action::"acquire", resource)
when { context has country && context.country == "DE" && context has subdivision && context.subdivision == "DE-BE" };`)
	r.start(t)
	from := func(forwarded string) error {
		http := &http.Client{Transport: forwards{forwarded}}
		c, err := client.New(client.Options{URL: r.URL(), Token: client.StaticToken(secret.New(r.issuer.Token(r.issuer.GitHub(testissuer.Run{Audience: r.URL()})))), HTTP: http})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"})
		return err
	}
	if err := from("1.1.2.3"); err != nil {
		t.Errorf("from Berlin: %v", err)
	}
	for says, forwarded := range map[string]string{
		"from another country":                    "2.2.2.2",
		"from nowhere":                            "10.0.0.1",
		"a forged hop before the real one":        "1.1.2.3, 2.2.2.2",
		"several forged hops":                     "1.1.2.3, 1.1.2.4, 9.9.9.9",
		"a header that is no address":             "berlin",
		"without a header: the proxy's own place": "",
	} {
		if err := from(forwarded); !denied(err) {
			t.Errorf("%s: %v", says, err)
		}
	}
	put([]byte("not a database"))
	r.Reload(t.Context())
	status, err := r.administrator(t).Status(t.Context())
	if err != nil || !strings.Contains(fmt.Sprint(status.Warnings), "location file") {
		t.Errorf("status: %v, %v", status.Warnings, err)
	}
	if err := from("1.1.2.3"); err != nil {
		t.Errorf("from Berlin by the last good file: %v", err)
	}
	put(fixture("moved.mmdb"))
	r.Reload(t.Context())
	if err := from("1.1.2.3"); !denied(err) {
		t.Errorf("from where Berlin was: %v", err)
	}
}

// forwards is a proxy that passes on what its clients claim.
type forwards struct{ header string }

func (f forwards) RoundTrip(q *http.Request) (*http.Response, error) {
	q = q.Clone(q.Context())
	if f.header != "" {
		q.Header.Set("X-Forwarded-For", f.header)
	}
	return http.DefaultTransport.RoundTrip(q)
}

func TestPoliciesWithoutConditionsAreRefusedWhereConditionsAreRequired(t *testing.T) {
	open := "// all\npermit (principal is GitHub::Workload, action == Action::\"acquire\", resource == Role::\"orders-readonly\");\n"
	for _, c := range []struct {
		setting, policy string
		refused, noted  bool
	}{
		{"off", open, false, false},
		{"warn", open, false, true},
		{"require", open, true, false},
		{"require", strings.Replace(open, ");", ") when { true };", 1), true, false},
		{"require", strings.Replace(open, ");", ") unless { principal.claims.ref like \"refs/pull/*\" };", 1), false, false},
	} {
		r := newRig(t)
		r.cfg.Conditions, r.cfg.Access = c.setting, ""
		r.start(t)
		files := map[string]string{"access.yaml": r.accessFile(), "policy.cedar": c.policy}
		applied, err := r.administrator(t).ApplyAccess(t.Context(), files, "")
		if refused := err != nil; refused != c.refused || refused && !strings.Contains(fmt.Sprint(err), "policy.cedar:2") {
			t.Errorf("%s, %q: %v", c.setting, c.policy, err)
		}
		if noted := strings.Contains(fmt.Sprint(applied.Notes), "policy.cedar:2"); noted != c.noted {
			t.Errorf("%s, %q: notes %v", c.setting, c.policy, applied.Notes)
		}
	}
}

// A revision that is active serves on when the setting becomes stricter; it is only never activated again.
func TestAStricterSettingShutsNobodyOut(t *testing.T) {
	r := newRig(t)
	r.write(t, "access/policy.cedar", `permit (principal is GitHub::Workload, action == Action::"acquire", resource);`)
	r.start(t)
	acquire(t, r.workload(t, testissuer.Run{}))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.cfg.Conditions = "require"
	r.start(t)
	acquire(t, r.workload(t, testissuer.Run{}))
	var revision string
	for one, err := range r.administrator(t).Revisions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		revision = one.ID
	}
	if _, err := r.administrator(t).ActivateAccess(context.WithoutCancel(t.Context()), revision, ""); err == nil {
		t.Error("it was activated again")
	}
}
