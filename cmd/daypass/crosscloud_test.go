package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/testbed"
)

// TestCrossCloudScripts runs scripts from the chair of a pod that reaches a cloud with no key in between. All parts are
// real: the API server that speaks for the pod, the server, the STS that trusts it, and the official AWS CLI.
func TestCrossCloudScripts(t *testing.T) {
	postgres, cluster := testbed.SharedPostgres(t, 15), testbed.SharedKubernetes(t)
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/crosscloud",
		RequireUniqueNames: true,
		Cmds:               withCloud(t, servedCommands()),
		Setup: func(e *testscript.Env) error {
			if err := furnish(t, e, postgres); err != nil {
				return err
			}
			return furnishCloud(t, e, cluster)
		},
	})
}

// withCloud adds to the other commands:
//
//	cloud                    starts a cloud that trusts the server's issuer, and writes its target into the access files
//	from ADDRESS             says where callers are from now on, in the words of the proxy in front of the server
//	report NODE BOOL [AGO]   reports the health of a node as it was some time ago
//	awaits PATTERN command…  runs it until what it prints matches
func withCloud(t *testing.T, commands map[string]func(*testscript.TestScript, bool, []string)) map[string]func(*testscript.TestScript, bool, []string) {
	commands["cloud"] = func(ts *testscript.TestScript, _ bool, _ []string) {
		cloud := testbed.OwnMinIO(t, testbed.MinIOOptions{Issuer: ts.Getenv("DAYPASS_URL"), Audience: "cloud.example", Policy: "readwrite"})
		path := ts.MkAbs("access/cloud.yaml")
		text := strings.NewReplacer("CLOUD", cloud.URL, "ROLE", cloud.RoleARN).Replace(ts.ReadFile(path))
		ts.Check(os.WriteFile(path, []byte(text), 0o600))
		ts.Setenv("CLOUD", cloud.URL)
		ts.Setenv("CLOUD_USER", cloud.User)
		ts.Setenv("CLOUD_PASSWORD", cloud.Password)
	}
	commands["from"] = func(ts *testscript.TestScript, _ bool, args []string) {
		ts.Value(placed{}).(*atomic.Value).Store(args[0])
	}
	commands["report"] = func(ts *testscript.TestScript, _ bool, args []string) {
		var ago time.Duration
		if len(args) > 2 {
			var err error
			ago, err = time.ParseDuration(args[2])
			ts.Check(err)
		}
		local, err := client.New(client.Options{URL: "unix://" + ts.Getenv("DAYPASS_SOCKET")})
		ts.Check(err)
		at := api.At(time.Now().Add(-ago))
		_, err = local.ReportPosture(t.Context(), "node", args[0], api.PostureReport{Fields: json.RawMessage(`{"healthy":` + args[1] + `}`), ReportedAt: &at})
		ts.Check(err)
	}
	commands["awaits"] = func(ts *testscript.TestScript, _ bool, args []string) {
		want, tick, late := regexp.MustCompile("(?m)"+args[0]), time.NewTicker(200*time.Millisecond), time.After(90*time.Second)
		defer tick.Stop()
		for {
			err := ts.Exec(args[1], args[2:]...)
			if want.MatchString(ts.ReadFile("stdout") + ts.ReadFile("stderr")) {
				return
			}
			select {
			case <-tick.C:
			case <-late:
				ts.Fatalf("%v\n%s%s", err, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
			}
		}
	}
	return commands
}

// placed is where a script keeps the address that callers seem to have.
type placed struct{}

const cloudSettings = `trusted_proxies: [127.0.0.1/32]
time_zones: [Europe/Berlin]
location: {file: WORK/places.mmdb}
`

const cloudAccess = `kind: Issuer
name: cluster
kubernetes:
  url: "CLUSTER"
  api: {url: "CLUSTER", ca: {file: cluster-ca.pem}, token: {file: cluster-token}}
---
kind: Posture
name: node
of: {cluster: node}
fields: {healthy: bool}
max_age: 10m
---
kind: Target
name: cloud
aws: {region: eu-central-1, audience: cloud.example, sts: "CLOUD", token_life: true, leeway: 1s}
client: {endpoint: "CLOUD"}
---
kind: Role
name: read-reports
target: cloud
ttl: {default: 15m, max: 1h}
aws:
  role_arn: "ROLE"
  session_policy:
    Version: "2012-10-17"
    Statement: [{Effect: Allow, Action: ["s3:GetObject", "s3:ListBucket"], Resource: ["arn:aws:s3:::reports", "arn:aws:s3:::reports/*"]}]
`

const cloudPolicy = `@id("pods-in-berlin")
permit (
  principal is Kubernetes::Workload,
  action == Action::"acquire",
  resource is Role
) when {
  [Role::"read-reports", Role::"orders-readonly"].contains(resource) &&
  principal.claims.namespace == "SHOP" && principal.claims.service_account == "robot" &&
  context has country && context.country == "DE" &&
  [HOURS].contains(context.local["Europe/Berlin"].hour) &&
  context.posture has node && context.posture.node.healthy
};
@id("jobs-of-main")
permit (principal is GitHub::Workload, action == Action::"acquire", resource == Role::"read-reports")
when { principal.claims.repository_id == "741852963" && principal.claims.event_name == "push" && principal.claims.ref == "refs/heads/main" };
`

// furnishCloud puts a proxy in front of the server, which says where callers are, and makes the script's workload a pod.
func furnishCloud(t *testing.T, e *testscript.Env, k *testbed.Kubernetes) error {
	_, shop, err := equipCluster(t, e, k)
	if err != nil {
		return err
	}
	e.Setenv("PATH", testbed.AWSPath(t)+string(filepath.ListSeparator)+e.Getenv("PATH"))
	inside := e.Getenv("DAYPASS_URL")
	outside, err := front(e, inside)
	if err != nil {
		return err
	}
	k.Must(t, http.MethodPost, "/api/v1/namespaces/"+shop+"/pods", map[string]any{
		"metadata": map[string]any{"name": "report-1"},
		"spec": map[string]any{"serviceAccountName": "robot", "automountServiceAccountToken": false, "nodeName": "node-1",
			"containers": []any{map[string]any{"name": "c", "image": "none"}}},
	})
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		return err
	}
	around := func(at time.Time) string { // an hour before and after too, since the hour may turn in the middle
		return fmt.Sprintf("%d, %d, %d", at.Add(-time.Hour).Hour(), at.Hour(), at.Add(time.Hour).Hour())
	}
	now := time.Now().In(zone)
	e.Setenv("OPEN", around(now))
	e.Setenv("SHUT", around(now.Add(12*time.Hour)))
	fill := strings.NewReplacer("WORK", e.WorkDir, "CLUSTER", k.URL, "SHOP", shop, "HOURS", around(now))
	config, err := os.ReadFile(filepath.Join(e.WorkDir, "daypass.yaml"))
	places, err2 := os.ReadFile(filepath.Join("..", "..", "internal", "location", "testdata", "country.mmdb"))
	if err = errors.Join(err, err2); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"daypass.yaml": strings.Replace(string(config), "url: "+inside, "url: "+outside, 1) + fill.Replace(cloudSettings),
		"places.mmdb":  string(places), "token": k.Token(t, shop, "robot", outside, "report-1"),
		"access/cloud.yaml": fill.Replace(cloudAccess), "access/policy.cedar": fill.Replace(cloudPolicy),
	} {
		if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// front is a proxy in front of the server at inside, as a load balancer is: it says which address a caller has. The
// server has its address for its own from then on.
func front(e *testscript.Env, inside string) (string, error) {
	to, err := url.Parse(inside)
	if err != nil {
		return "", err
	}
	place := &atomic.Value{}
	place.Store("1.1.2.3")
	proxy := httptest.NewServer(&httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
		r.Out.Header.Set("X-Forwarded-For", place.Load().(string))
	}})
	e.Defer(proxy.Close)
	e.Values[placed{}] = place
	e.Setenv("DAYPASS_URL", proxy.URL)
	return proxy.URL, nil
}
