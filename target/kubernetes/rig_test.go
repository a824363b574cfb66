package kubernetes_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/kubernetes"
	"github.com/daypass/daypass/target/targettest"
)

// TestMain lets many tests run at once: they wait for the API server to forget tokens, and compute little.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "64"); err != nil {
		panic(err)
	}
	os.Exit(testbed.Main(m))
}

// rig is a cluster with Daypass's account as the how-to makes it, and namespaces of its own for one test.
type rig struct {
	*testbed.Kubernetes
	space    string // where records are
	work     string // where roles act
	other    string // a namespace that no role of the target may touch
	token    string // of Daypass's account
	instance string
	log      *testbed.Log
}

// newRig applies the how-to's rules, as a cluster's administrator would, and makes what roles are bound to: the role
// reader, who may list configmaps, the role lister, who may list pods, and the account robot, who is a reader.
func newRig(t testing.TB) *rig {
	t.Helper()
	k := testbed.SharedKubernetes(t)
	r := &rig{Kubernetes: k, instance: targettest.Lease()[:6], log: &testbed.Log{}}
	r.space, r.work, r.other = k.Namespace(t, "daypass"), k.Namespace(t, "work"), k.Namespace(t, "other")
	r.apply(t, "../../docs/howto/kubernetes-target.yaml")
	r.token = k.Token(t, r.space, "daypass", "", "")
	for name, resource := range map[string]string{"reader": "configmaps", "lister": "pods"} {
		rules := []any{map[string]any{"apiGroups": []string{""}, "resources": []string{resource}, "verbs": []string{"list", "watch"}}}
		k.Must(t, http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/namespaces/"+r.work+"/roles",
			map[string]any{"metadata": map[string]any{"name": name}, "rules": rules})
	}
	k.Account(t, r.work, "robot")
	k.Must(t, http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/namespaces/"+r.work+"/rolebindings", map[string]any{
		"metadata": map[string]any{"name": "robot"},
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
		"subjects": []any{map[string]any{"kind": "ServiceAccount", "name": "robot", "namespace": r.work}},
	})
	return r
}

// apply has kubectl apply a page of the documentation, with the names of this rig for the page's.
func (r *rig) apply(t testing.TB, page string) {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(page))
	if err != nil {
		t.Fatal(err)
	}
	named := strings.NewReplacer("namespace: daypass", "namespace: "+r.space, "namespace: orders", "namespace: "+r.work).Replace(string(text))
	out, err := r.Kubectl(context.WithoutCancel(t.Context()), r.AdminConfig(t), named, "apply", "-f", "-")
	if err != nil {
		t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
}

// perLease are rights of an account per lease that may list configmaps.
func (r *rig) perLease(role string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"per_lease":{"namespace":%q,"bind":[{"role":%q}]}}`, r.work, role))
}

// account are rights of a token of the account robot.
func (r *rig) account() json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"service_account":{"namespace":%q,"name":"robot"}}`, r.work))
}

func (r *rig) config(address string) kubernetes.Config {
	return kubernetes.Config{
		Instance: r.instance,
		Settings: kubernetes.Settings{
			URL: "https://" + address, CA: kubernetes.File{File: "ca.pem"}, Token: kubernetes.File{File: "token"},
			Namespace: r.space, Namespaces: []string{r.work},
		},
		CA:     string(r.CA),
		Token:  func() (secret.Text, error) { return secret.New(r.token), nil },
		Client: kubernetes.Client{URL: r.URL},
		Mark:   target.Mark{Target: "cluster-a", Boot: 1},
		Log:    slog.New(slog.NewTextHandler(r.log, nil)),
	}
}

func (r *rig) open(t testing.TB, address string) *kubernetes.Kubernetes {
	t.Helper()
	return openConfig(t, r.config(address))
}

func openConfig(t testing.TB, cfg kubernetes.Config) *kubernetes.Kubernetes {
	t.Helper()
	k, err := kubernetes.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

// try does one thing at the API server with a credential, and returns an error unless it is allowed.
func (r *rig) try(ctx context.Context, c target.Credential, path string) error {
	code, answer, err := r.Do(ctx, c.Secrets["token"].Reveal(), http.MethodGet, path, nil)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%d %s", code, answer)
	}
	return err
}

func (r *rig) configmaps() string { return "/api/v1/namespaces/" + r.work + "/configmaps" }
func (r *rig) pods() string       { return "/api/v1/namespaces/" + r.work + "/pods" }

// known returns what the API server has at a path, as its administrator sees it; nil where there is nothing.
func (r *rig) known(ctx context.Context, path string) ([]byte, error) {
	code, answer, err := r.Do(ctx, r.Admin, http.MethodGet, path, nil)
	switch {
	case err != nil:
		return nil, err
	case code == http.StatusNotFound:
		return nil, nil
	case code != http.StatusOK:
		return nil, fmt.Errorf("%s: %d %s", path, code, answer)
	}
	return answer, nil
}

// alive looks for everything that could open something: an account, a binding, an anchor of a record that lives.
func (r *rig) alive(ctx context.Context, lease string) (bool, error) {
	name := "dp-" + r.instance + "-" + lease
	record, err := r.known(ctx, "/apis/coordination.k8s.io/v1/namespaces/"+r.space+"/leases/"+name)
	if err != nil {
		return false, err
	}
	if record != nil && !bytes.Contains(record, []byte(`"daypass.dev/state":"ended"`)) {
		return true, nil
	}
	for _, path := range []string{
		"/api/v1/namespaces/" + r.work + "/serviceaccounts/" + name,
		"/apis/rbac.authorization.k8s.io/v1/namespaces/" + r.work + "/rolebindings/" + name + "-0",
	} {
		if found, err := r.known(ctx, path); err != nil || found != nil {
			return true, err
		}
	}
	return false, nil
}

// waiting lets the cluster's clock, which is real and shows whole seconds, go on by one at least. Nothing here needs more.
func waiting(d time.Duration) { <-time.After(min(d, time.Second) + 1100*time.Millisecond) }
