package server_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/secret"
)

// clustered is a Daypass whose workloads are pods of a real cluster, and whose target is the same cluster.
type clustered struct {
	*rig
	cluster     *testbed.Kubernetes
	space, work string
}

const clusterFile = `kind: Issuer
name: cluster
kubernetes:
  url: %[1]q
  api: {url: %[1]q, ca: {file: cluster-ca.pem}, token: {file: cluster-token}}
---
kind: Target
name: cluster
kubernetes: {url: %[1]q, ca: {file: cluster-ca.pem}, token: {file: cluster-token}, namespace: %[2]s, namespaces: [%[3]s]}
---
kind: Role
name: read-config
target: cluster
ttl: {default: 10m, max: 1h}
kubernetes: {per_lease: {namespace: %[3]s, bind: [{role: reader}]}}
---
kind: Role
name: as-robot
target: cluster
ttl: {default: 10m, max: 1h}
kubernetes: {service_account: {namespace: %[3]s, name: robot}}
`

const clusterPolicy = `permit (principal is Kubernetes::Workload, action == Action::"acquire", resource is Role)
when { principal.claims.namespace == %q && principal.claims.service_account == "builder" && principal.claims has pod };
permit (principal, action, resource is Lease);
`

func newClustered(t *testing.T) *clustered {
	t.Helper()
	c := &clustered{rig: newRig(t), cluster: testbed.SharedKubernetes(t)}
	k := c.cluster
	c.space, c.work = k.Namespace(t, "daypass"), k.Namespace(t, "work")
	named := strings.NewReplacer("namespace: daypass", "namespace: "+c.space, "namespace: orders", "namespace: "+c.work, "name: daypass-reviews", "name: daypass-reviews-"+c.space)
	for _, page := range []string{"kubernetes-issuer.yaml", "kubernetes-target.yaml"} {
		text, err := os.ReadFile(filepath.Join("../../docs/howto", page))
		if err != nil {
			t.Fatal(err)
		}
		if out, err := k.Kubectl(t.Context(), k.AdminConfig(t), named.Replace(string(text)), "apply", "-f", "-"); err != nil {
			t.Fatalf("kubectl apply: %v\n%s", err, out)
		}
	}
	k.Must(t, http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/namespaces/"+c.work+"/roles", map[string]any{
		"metadata": map[string]any{"name": "reader"},
		"rules":    []any{map[string]any{"apiGroups": []string{""}, "resources": []string{"configmaps"}, "verbs": []string{"list"}}},
	})
	k.Account(t, c.work, "robot")
	k.Account(t, c.work, "builder")
	c.write(t, "secrets/cluster-token", k.Token(t, c.space, "daypass", "", "")+"\n")
	c.write(t, "secrets/cluster-ca.pem", string(k.CA))
	c.write(t, "access/access.yaml", fmt.Sprintf(clusterFile, k.URL, c.space, c.work))
	c.write(t, "access/policy.cedar", fmt.Sprintf(clusterPolicy, c.work))
	c.start(t)
	return c
}

// pod makes a pod and returns its projected token.
func (c *clustered) pod(t *testing.T, name string) secret.Text {
	t.Helper()
	c.cluster.Must(t, http.MethodPost, "/api/v1/namespaces/"+c.work+"/pods", map[string]any{
		"metadata": map[string]any{"name": name},
		"spec": map[string]any{
			"serviceAccountName": "builder", "automountServiceAccountToken": false, "nodeName": "node-1",
			"containers": []any{map[string]any{"name": "c", "image": "none"}},
		},
	})
	return secret.New(c.cluster.Token(t, c.work, "builder", c.URL(), name))
}

// workload is a client that has exchanged nothing yet.
func (c *clustered) workload(t *testing.T, token secret.Text) *client.Client {
	t.Helper()
	workload, err := client.New(client.Options{URL: c.URL(), Token: client.StaticToken(token)})
	if err != nil {
		t.Fatal(err)
	}
	return workload
}

// status returns what the API server answers to a credential that lists configmaps.
func (c *clustered) status(t *testing.T, lease *client.Lease) int {
	t.Helper()
	code, _, err := c.cluster.Do(context.WithoutCancel(t.Context()), lease.Credential.Secret("token").Reveal(), http.MethodGet, "/api/v1/namespaces/"+c.work+"/configmaps", nil)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// TestAPodGetsAnAccountThatDiesWithItsLease follows a pod's token to credentials of both kinds and to their end
// (THREAT_MODEL promises 5 and 8).
func TestAPodGetsAnAccountThatDiesWithItsLease(t *testing.T) {
	c := newClustered(t)
	token := c.pod(t, "builder-1")
	workload := c.workload(t, token)
	lease, err := workload.Acquire(t.Context(), api.AcquireRequest{Role: "read-config"})
	if err != nil {
		t.Fatal(err)
	}
	if lease.Info().Revocation != "instant" || lease.Credential.Type != "kubernetes" {
		t.Errorf("got a %s of class %s", lease.Credential.Type, lease.Info().Revocation)
	}
	// The real kubectl, with what the workload was given and nothing else.
	c.write(t, "kubeconfig", lease.Credential.Secret("kubeconfig").Reveal())
	config := filepath.Join(c.dir, "kubeconfig")
	if out, err := c.cluster.Kubectl(t.Context(), config, "", "get", "configmaps"); err != nil {
		t.Errorf("kubectl: %v\n%s", err, out)
	}
	if out, err := c.cluster.Kubectl(t.Context(), config, "", "get", "secrets"); err == nil || !strings.Contains(out, "Forbidden") {
		t.Errorf("kubectl gets secrets: %v\n%s", err, out)
	}
	robot, err := workload.Acquire(t.Context(), api.AcquireRequest{Role: "as-robot"})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.status(t, robot); got != http.StatusForbidden { // known, and without rights
		t.Errorf("robot gets %d", got)
	}
	for _, lease := range []*client.Lease{lease, robot} {
		released, err := lease.Release(t.Context(), 30*time.Second)
		if err != nil || released.State != "revoked" {
			t.Errorf("released: %+v, %v", released, err)
		}
		if got := c.status(t, lease); got != http.StatusUnauthorized {
			t.Errorf("a token of a revoked lease gets %d", got)
		}
	}
	// The pod goes, and with it what its token says. An access token that it bought before is another matter.
	c.cluster.Must(t, http.MethodDelete, "/api/v1/namespaces/"+c.work+"/pods/builder-1?gracePeriodSeconds=0", nil)
	begun := time.Now()
	for {
		lease, err := c.workload(t, token).Acquire(t.Context(), api.AcquireRequest{Role: "read-config"})
		if err != nil {
			if !strings.Contains(err.Error(), "unauthenticated") {
				t.Errorf("the token of a deleted pod: %v", err)
			}
			break
		}
		if _, err := lease.Release(t.Context(), 0); err != nil {
			t.Error(err)
		}
		if time.Since(begun) > 8*time.Second { // below the ten of the API server's memory
			t.Fatal("the token of a deleted pod is accepted")
		}
	}
}
