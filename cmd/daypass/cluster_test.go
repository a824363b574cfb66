package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/daypass/daypass/internal/testbed"
)

// TestClusterScripts runs scripts from a pod's chair: a real API server is the issuer and the target, and the real
// kubectl uses what Daypass gives.
func TestClusterScripts(t *testing.T) {
	postgres, cluster := testbed.SharedPostgres(t, 15), testbed.SharedKubernetes(t)
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/cluster",
		RequireUniqueNames: true,
		Cmds:               servedCommands(),
		Setup: func(e *testscript.Env) error {
			if err := furnish(t, e, postgres); err != nil {
				return err
			}
			return furnishCluster(t, e, cluster)
		},
	})
}

const clusterAccess = `kind: Issuer
name: cluster
kubernetes:
  url: "CLUSTER"
  api: {url: "CLUSTER", ca: {file: cluster-ca.pem}, token: {file: cluster-token}}
---
kind: Target
name: cluster
kubernetes: {url: "CLUSTER", ca: {file: cluster-ca.pem}, token: {file: cluster-token}, namespace: SPACE, namespaces: [SHOP]}
---
kind: Role
name: read-config
target: cluster
ttl: {default: 15m, max: 1h}
kubernetes: {per_lease: {namespace: SHOP, bind: [{role: reader}]}}
`

const clusterPolicy = `permit (principal is Kubernetes::Workload, action == Action::"acquire", resource == Role::"read-config")
when { principal.claims.namespace == "SHOP" && principal.claims.service_account == "robot" };
permit (principal, action, resource is Lease);
`

const pluginConfig = `apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: "CLUSTER", certificate-authority: "WORK/secrets/cluster-ca.pem"}}]
contexts: [{name: c, context: {cluster: c, user: daypass, namespace: SHOP}}]
users:
  - name: daypass
    user:
      exec:
        apiVersion: client.authentication.k8s.io/v1
        command: daypass
        args: [acquire, read-config, --output, exec-credential]
        interactiveMode: Never
`

// equipCluster gives Daypass what it needs at a cluster, in a namespace called space, and a workload an account there,
// robot in shop.
func equipCluster(t *testing.T, e *testscript.Env, k *testbed.Kubernetes) (space, shop string, err error) {
	space, shop = k.Namespace(t, "daypass"), k.Namespace(t, "shop")
	rename := strings.NewReplacer("namespace: daypass", "namespace: "+space, "namespace: orders", "namespace: "+shop, "name: daypass-reviews", "name: daypass-reviews-"+space)
	for _, page := range []string{"kubernetes-issuer.yaml", "kubernetes-target.yaml"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", "howto", page))
		if err != nil {
			return space, shop, err
		}
		if out, err := k.Kubectl(context.WithoutCancel(t.Context()), k.AdminConfig(t), rename.Replace(string(text)), "apply", "-f", "-"); err != nil {
			return space, shop, fmt.Errorf("kubectl apply: %w\n%s", err, out)
		}
	}
	k.Must(t, http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/namespaces/"+shop+"/roles", map[string]any{
		"metadata": map[string]any{"name": "reader"},
		"rules":    []any{map[string]any{"apiGroups": []string{""}, "resources": []string{"configmaps"}, "verbs": []string{"get", "list"}}},
	})
	k.Must(t, http.MethodPost, "/api/v1/namespaces/"+shop+"/configmaps", map[string]any{"metadata": map[string]any{"name": "settings"}})
	k.Account(t, shop, "robot")
	e.Setenv("DAYPASS_TOKEN_FILE", filepath.Join(e.WorkDir, "token"))
	e.Setenv("PATH", filepath.Dir(k.KubectlPath())+string(filepath.ListSeparator)+e.Getenv("PATH"))
	return space, shop, errors.Join(
		os.Remove(filepath.Join(e.WorkDir, "access", "orders.cedar")),
		os.WriteFile(filepath.Join(e.WorkDir, "secrets", "cluster-ca.pem"), k.CA, 0o600),
		os.WriteFile(filepath.Join(e.WorkDir, "secrets", "cluster-token"), []byte(k.Token(t, space, "daypass", "", "")), 0o600),
	)
}

// furnishCluster makes the script's workload an account of the cluster, and the cluster the only target.
func furnishCluster(t *testing.T, e *testscript.Env, k *testbed.Kubernetes) error {
	space, shop, err := equipCluster(t, e, k)
	if err != nil {
		return err
	}
	fill := strings.NewReplacer("CLUSTER", k.URL, "SPACE", space, "SHOP", shop, "WORK", e.WorkDir)
	for name, text := range map[string]string{
		"access/access.yaml": fill.Replace(clusterAccess), "access/policy.cedar": fill.Replace(clusterPolicy), "plugin.kubeconfig": fill.Replace(pluginConfig),
		"token": k.Token(t, shop, "robot", e.Getenv("DAYPASS_URL"), ""),
	} {
		if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	e.Setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "")
	return nil
}
