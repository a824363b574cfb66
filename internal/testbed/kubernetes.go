package testbed

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// KubernetesVersion is the version that the tests run, as tools/kube pins it.
const KubernetesVersion = "v1.36.3"

// Kubernetes is one API server with an etcd of its own, and nothing else: no node, no controller. What only a
// controller does, such as filling the roles view, edit and admin, does not happen. RBAC decides, and nobody who is
// not known sees anything.
type Kubernetes struct {
	URL   string // of the API server, and what it calls itself as issuer of tokens
	CA    []byte // PEM, that verifies it
	Admin string // a token that may do everything

	dir    string
	bin    string
	http   *http.Client
	etcd   *process
	server *process
}

// kubernetesBin finds the directory with kube-apiserver and kubectl.
func kubernetesBin() (string, error) {
	cache := os.Getenv("DAYPASS_CACHE")
	if cache == "" {
		base, err := root()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(base, ".cache")
	}
	bin := filepath.Join(cache, "kubernetes-"+KubernetesVersion)
	if _, err := os.Stat(filepath.Join(bin, "kube-apiserver")); err != nil {
		return "", fmt.Errorf("kube-apiserver %s is not in %s; build it: scripts/install-kube", KubernetesVersion, bin)
	}
	return bin, nil
}

// StartKubernetes makes an empty cluster and waits until it answers.
func StartKubernetes(ctx context.Context) (*Kubernetes, error) {
	bin, err := kubernetesBin()
	if err != nil {
		return nil, err
	}
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		return nil, errors.New("etcd is not installed: apt-get install etcd-server")
	}
	dir, err := scratch()
	if err != nil {
		return nil, err
	}
	for range 5 { // another process may take a port between our look and the server's
		k := &Kubernetes{Admin: rand.Text(), dir: filepath.Join(dir, rand.Text()[:8]), bin: bin}
		if err = k.start(ctx, etcd); err == nil {
			return k, nil
		}
		k.server.kill()
		k.etcd.kill()
	}
	os.RemoveAll(dir)
	return nil, err
}

func (k *Kubernetes) start(ctx context.Context, etcd string) error {
	if err := k.prepare(); err != nil {
		return err
	}
	storage, peers, port := 0, 0, 0
	for _, into := range []*int{&storage, &peers, &port} {
		var err error
		if *into, err = freePort(); err != nil {
			return err
		}
	}
	at := func(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
	var err error
	k.etcd, err = startProcess(k.dir, "etcd", etcd, "--name=t", "--data-dir=etcd", "--listen-client-urls="+at(storage), "--advertise-client-urls="+at(storage),
		"--listen-peer-urls="+at(peers), "--initial-advertise-peer-urls="+at(peers), "--initial-cluster=t="+at(peers))
	if err != nil {
		return err
	}
	k.URL = fmt.Sprintf("https://127.0.0.1:%d", port)
	k.server, err = startProcess(k.dir, "kube-apiserver", filepath.Join(k.bin, "kube-apiserver"),
		"--etcd-servers="+at(storage), "--cert-dir=certs", "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port), "--advertise-address=127.0.0.1",
		"--service-cluster-ip-range=10.96.0.0/24", "--service-account-issuer="+k.URL, "--service-account-signing-key-file=sa.key",
		"--service-account-key-file=sa.key", "--service-account-max-token-expiration=24h", "--api-audiences="+k.URL, "--authorization-mode=RBAC",
		"--token-auth-file=tokens.csv", "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
		"--enable-priority-and-fairness=false", "--profiling=false")
	if err != nil {
		return err
	}
	if err := k.server.await(ctx, 90*time.Second, k.ready); err != nil {
		text, _ := os.ReadFile(filepath.Join(k.dir, "kube-apiserver.log"))
		return fmt.Errorf("kube-apiserver: %w\n%s", err, text[max(0, len(text)-2000):])
	}
	return nil
}

// prepare writes the key that signs tokens, and who the administrator is.
func (k *Kubernetes) prepare() error {
	if err := os.Mkdir(k.dir, 0o755); err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(filepath.Join(k.dir, "sa.key"), text, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(k.dir, "tokens.csv"), []byte(k.Admin+",admin,admin,\"system:masters\"\n"), 0o600)
}

// ready asks whether the server is, once it has written its certificate.
func (k *Kubernetes) ready(ctx context.Context) error {
	if k.http == nil {
		ca, err := os.ReadFile(filepath.Join(k.dir, "certs", "apiserver.crt"))
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(ca) {
			return errors.New("the certificate is not written yet")
		}
		k.CA = ca
		k.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	}
	code, body, err := k.Do(ctx, k.Admin, http.MethodGet, "/readyz", nil)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("/readyz answers %d: %.200s", code, body)
	}
	return err
}

// Do sends one request with a bearer token. Body is JSON text or a value with a JSON form, nil for none.
func (k *Kubernetes) Do(ctx context.Context, token, method, path string, body any) (code int, answer []byte, err error) {
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return 0, nil, err
		}
		in = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, k.URL+path, in)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := k.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

// Must sends one request as the administrator, and fails the test unless it succeeds.
func (k *Kubernetes) Must(t testing.TB, method, path string, body any) []byte {
	t.Helper()
	code, answer, err := k.Do(context.WithoutCancel(t.Context()), k.Admin, method, path, body)
	if err != nil || code < 200 || code > 299 {
		t.Fatalf("%s %s: %d %s %v", method, path, code, answer, err)
	}
	return answer
}

// Namespace makes a namespace with a random name that begins with prefix.
func (k *Kubernetes) Namespace(t testing.TB, prefix string) string {
	t.Helper()
	name := prefix + "-" + strings.ToLower(rand.Text()[:8])
	k.Must(t, http.MethodPost, "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": name}})
	return name
}

// Account makes a service account.
func (k *Kubernetes) Account(t testing.TB, namespace, name string) {
	t.Helper()
	k.Must(t, http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts", map[string]any{"metadata": map[string]any{"name": name}})
}

// Token makes a token of a service account, as a kubelet does for a pod where pod is given.
func (k *Kubernetes) Token(t testing.TB, namespace, account, audience, pod string) string {
	t.Helper()
	spec := map[string]any{"expirationSeconds": 3600}
	if audience != "" {
		spec["audiences"] = []string{audience}
	}
	if pod != "" {
		spec["boundObjectRef"] = map[string]any{"kind": "Pod", "apiVersion": "v1", "name": pod}
	}
	var out struct {
		Status struct {
			Token string `json:"token"`
		} `json:"status"`
	}
	answer := k.Must(t, http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+account+"/token", map[string]any{"spec": spec})
	if err := json.Unmarshal(answer, &out); err != nil {
		t.Fatal(err)
	}
	return out.Status.Token
}

// Kubectl runs the real kubectl with a kubeconfig, and returns what it printed.
func (k *Kubernetes) Kubectl(ctx context.Context, kubeconfig string, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, k.KubectlPath(), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + k.dir, "KUBECONFIG=" + kubeconfig}
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// KubectlPath returns where kubectl is.
func (k *Kubernetes) KubectlPath() string { return filepath.Join(k.bin, "kubectl") }

// AdminConfig writes a kubeconfig of the administrator and returns its path.
func (k *Kubernetes) AdminConfig(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin.kubeconfig")
	if err := k.WriteAdminConfig(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// WriteAdminConfig writes a kubeconfig of the administrator.
func (k *Kubernetes) WriteAdminConfig(path string) error {
	config := map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "t",
		"clusters": []any{map[string]any{"name": "t", "cluster": map[string]any{"server": k.URL, "certificate-authority-data": k.CA}}},
		"users":    []any{map[string]any{"name": "t", "user": map[string]any{"token": k.Admin}}},
		"contexts": []any{map[string]any{"name": "t", "context": map[string]any{"cluster": "t", "user": "t"}}},
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// Address returns host:port of the API server.
func (k *Kubernetes) Address() string { return strings.TrimPrefix(k.URL, "https://") }

// Stop ends the cluster and removes its data.
func (k *Kubernetes) Stop() error {
	k.server.kill()
	k.etcd.kill()
	return os.RemoveAll(filepath.Dir(k.dir))
}

// SharedKubernetes returns the cluster that all tests of this process share, and starts it when it is the first to
// ask. Tests work in namespaces of their own.
func SharedKubernetes(t testing.TB) *Kubernetes {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.kubernetes == nil {
		// Not the test's context: the cluster outlives the test.
		k, err := StartKubernetes(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		shared.kubernetes = k
	}
	return shared.kubernetes
}

// OwnKubernetes starts a cluster for one test, and stops it with the test.
func OwnKubernetes(t testing.TB) *Kubernetes {
	t.Helper()
	k, err := StartKubernetes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Stop(); err != nil {
			t.Error(err)
		}
	})
	return k
}
