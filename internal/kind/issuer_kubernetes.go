package kind

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/daypass/daypass/identity/kubernetes"
	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/kube"
	"github.com/daypass/daypass/internal/secretdir"
	"github.com/daypass/daypass/secret"
	target "github.com/daypass/daypass/target/kubernetes"
)

// kubernetesIssuers is the kind of issuers that are Kubernetes clusters.
func kubernetesIssuers() Issuer {
	return Issuer{
		IssuerKind: access.IssuerKind{Settings: decode[kubernetes.Settings], Vocabulary: kubernetes.Kind},
		open:       openKubernetesIssuer,
		files:      kubernetesIssuerFiles,
	}
}

// kubernetesIssuerFiles are the certificates. The token is read again for each request, so that one that was replaced
// makes no new issuer.
func kubernetesIssuerFiles(issuer access.Issuer) (named []reference, err error) {
	settings, err := readIssuer[kubernetes.Settings](issuer)
	if settings.CA.File != "" {
		named = append(named, reference{settings.CA.File, true})
	}
	if settings.API != nil && settings.API.CA.File != "" {
		named = append(named, reference{settings.API.CA.File, true})
	}
	return named, err
}

// reviewRelied is how long the review of a token counts: the pod may be gone by then, and an access token does not know.
const reviewRelied = time.Minute

func openKubernetesIssuer(order IssuerOrder) (OpenIssuer, error) {
	issuer := order.Config
	settings, err := readIssuer[kubernetes.Settings](issuer)
	if err != nil {
		return OpenIssuer{}, err
	}
	cfg := oidc.Config{
		Name: issuer.Name, URL: issuer.URL, Audience: cmp.Or(settings.Audience, order.Audience),
		Keys: order.Keys, Egress: order.Egress, Observer: order.Observer, Now: order.Now, Log: order.Log,
	}
	var api *kube.Client
	if a := settings.API; a != nil {
		if api, err = connectCluster(order.Secrets, a.URL, a.CA.File, a.Token.File, a.InCluster); err != nil {
			return OpenIssuer{}, fmt.Errorf("issuer %q: %w", issuer.Name, err)
		}
		cfg.Source = func(ctx context.Context) (oidc.KeySet, error) {
			jwks, err := api.Keys(ctx)
			return oidc.KeySet{JWKS: jwks, MaxAge: -1}, err
		}
	} else if settings.CA.File != "" {
		if cfg.CA, err = order.Secrets.Certificates(settings.CA.File); err != nil {
			return OpenIssuer{}, fmt.Errorf("ca of issuer %q: %w", issuer.Name, err)
		}
	}
	tokens, err := oidc.New(cfg)
	if err != nil {
		return OpenIssuer{}, err
	}
	v, err := kubernetes.New(kubernetes.Config{Name: issuer.Name, Audience: cfg.Audience, Tokens: tokens, API: api})
	opened := OpenIssuer{Tokens: v, Run: tokens.Run, Status: tokens.Status}
	if api != nil {
		opened.Relied = reviewRelied
	}
	return opened, err
}

// connectCluster returns a connection with a token from a file, which is read for each request: clusters replace the
// tokens of pods, and whoever else replaces one needs to tell nobody.
func connectCluster(s secretdir.Dir, url, ca, token string, inCluster bool) (*kube.Client, error) {
	cfg := kube.Config{URL: url, Token: clusterToken(s, token, inCluster)}
	var err error
	switch {
	case inCluster:
		cfg.URL = target.InClusterURL
		cfg.CA, err = podFile("ca.crt")
	case ca != "":
		cfg.CA, err = s.Certificates(ca)
	}
	if err != nil {
		return nil, err
	}
	return kube.New(cfg)
}

// clusterToken reads a token below secrets_dir, or that of the pod that we run in.
func clusterToken(s secretdir.Dir, name string, inCluster bool) func() (secret.Text, error) {
	if !inCluster {
		return func() (secret.Text, error) { return s.Text(name) }
	}
	return func() (secret.Text, error) {
		text, err := podFile("token")
		return secret.New(string(text)), err
	}
}

func podFile(name string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(target.InClusterDir, name))
	if err != nil {
		return nil, fmt.Errorf("in_cluster is for a Daypass that runs in a pod of the cluster: %w", err)
	}
	return text, nil
}
