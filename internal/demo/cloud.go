package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/daypass/daypass/internal/testbed"
)

// cloudGround has a Kubernetes cluster with a pod, a way to the broker that says where callers are, and a cloud that
// trusts the broker's issuer. The tutorial of two clouds is played on it.
var cloudGround = ground{prepare: prepareCloud, tend: tendCloud}

// pod is a workload of the cluster. There is no node that would run it: whoever plays with it is the pod.
const pod = `{apiVersion: v1, kind: Namespace, metadata: {name: daypass}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot, namespace: shop}}
---
apiVersion: v1
kind: Pod
metadata: {name: report-1, namespace: shop}
spec: {serviceAccountName: robot, automountServiceAccountToken: false, nodeName: node-1, containers: [{name: report, image: example.com/report}]}
---
`

// cloudAudience is what the cloud calls itself in tokens.
const cloudAudience = "cloud.example"

func prepareCloud(ctx context.Context, s *stage) (map[string]string, error) {
	aws, err := testbed.FindAWS()
	if err != nil {
		return nil, err
	}
	if s.cluster, err = testbed.StartKubernetes(ctx); err != nil {
		return nil, err
	}
	config := s.path("kubeconfig")
	account, err := os.ReadFile(filepath.Join(s.repository, "docs/howto/kubernetes-issuer.yaml"))
	if err = errors.Join(err, s.cluster.WriteAdminConfig(config)); err != nil {
		return nil, err
	}
	if out, err := s.cluster.Kubectl(ctx, config, pod+string(account), "apply", "-f", "-"); err != nil {
		return nil, fmt.Errorf("kubectl apply: %w\n%s", err, out)
	}
	places, err := os.ReadFile(filepath.Join(s.repository, "internal/location/testdata/country.mmdb"))
	if err != nil {
		return nil, err
	}
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	if s.front, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	s.url = "http://" + s.front.Addr().String()
	return map[string]string{
		"cluster-ca.pem": string(s.cluster.CA), "places.mmdb": string(places), "address": "1.1.2.3\n",
		"env": fmt.Sprintf(`export PATH=%s:%s:$PATH
export KUBECONFIG=%s
export CLUSTER=%s
export LISTEN=%s
export DAYPASS_URL=%s
export AWS_REGION=eu-central-1 AWS_EC2_METADATA_DISABLED=true
`, aws, filepath.Dir(s.cluster.KubectlPath()), config, s.cluster.URL, listen, s.url),
	}, nil
}

// tendCloud says where callers are, in the words of a load balancer, and starts the cloud as soon as the broker shows
// the keys that the cloud is to trust.
func tendCloud(ctx context.Context, s *stage, dir string) error {
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		return err
	}
	_, listen, _ := strings.Cut(string(env), "export LISTEN=")
	listen, _, _ = strings.Cut(listen, "\n")
	balancer := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: balance(listen, filepath.Join(dir, "address"))}
	failed := make(chan error, 1)
	go func() { failed <- balancer.Serve(s.front) }()
	defer func() { _ = balancer.Close() }() // nobody is left who asks
	if err := s.awaitKeys(ctx); err != nil {
		return nil // interrupted before anybody started a broker
	}
	if s.minio, err = testbed.StartMinIO(ctx, testbed.MinIOOptions{Issuer: s.url, Audience: cloudAudience, Policy: "readwrite"}); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	text := fmt.Sprintf(`export CLOUD=%s
export CLOUD_ROLE=%s
owner() { env AWS_ENDPOINT_URL=$CLOUD AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s "$@"; }
`, s.minio.URL, s.minio.RoleARN, s.minio.User, s.minio.Password)
	half := filepath.Join(dir, "cloud.new") // who waits for the file must not read half of it
	if err := errors.Join(os.WriteFile(half, []byte(text), 0o600), os.Rename(half, filepath.Join(dir, "cloud"))); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// balance passes requests on to the broker, and says that their callers are at the address that a file holds.
func balance(listen, address string) http.Handler {
	to := &url.URL{Scheme: "http", Host: listen}
	return &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
		r.Out.Header.Del("X-Forwarded-For")
		if text, err := os.ReadFile(address); err == nil {
			r.Out.Header.Set("X-Forwarded-For", strings.TrimSpace(string(text)))
		}
	}}
}

// awaitKeys waits until the broker answers as an issuer.
func (s *stage) awaitKeys(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	client := &http.Client{Timeout: 5 * time.Second}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/.well-known/openid-configuration", nil)
		if err != nil {
			return err
		}
		if answer, err := client.Do(request); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
