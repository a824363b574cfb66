package kind

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/daypass/daypass/identity/kubernetes"
	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/kube"
	"github.com/daypass/daypass/internal/secretdir"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	kubetarget "github.com/daypass/daypass/target/kubernetes"
)

// KubernetesIssuer is the `kubernetes:` section of an issuer.
type KubernetesIssuer struct {
	// Issuer is what the cluster calls itself in its tokens, byte for byte: --service-account-issuer of its API server.
	// `kubectl get --raw /.well-known/openid-configuration` shows it.
	Issuer string `yaml:"url" json:"url"`
	// Audience is what tokens for us carry; the server's own URL unless given.
	Audience string `yaml:"audience" json:"audience,omitempty"`
	// CA names the file with the certificates (PEM) that verify the issuer's URL, where its keys are fetched there;
	// absent means the system's.
	CA FileName `yaml:"ca" json:"ca,omitzero"`
	// API connects to the cluster: keys are then fetched from it, wherever the issuer's URL leads, and it is asked about
	// each token, so that those of deleted pods and accounts are refused at once.
	API *KubernetesAPI `yaml:"api" json:"api,omitempty"`
	// Once makes each token good once, by its `jti`, which clusters from Kubernetes 1.30 on write; one without is refused.
	// A projected token is in a file until the kubelet replaces it: this is for tokens that are asked for at each use.
	Once bool `yaml:"single_use" json:"single_use,omitempty"`
}

// KubernetesAPI is how the cluster's API server is reached.
type KubernetesAPI struct {
	// URL is https://host:port of the API server.
	URL string `yaml:"url" json:"url,omitempty"`
	// CA names the file with the certificates (PEM) that verify the server; absent means the system's.
	CA FileName `yaml:"ca" json:"ca,omitzero"`
	// Token names the file below secrets_dir with a bearer token of an account that may create tokenreviews. It is read
	// again for each request.
	Token FileName `yaml:"token" json:"token,omitzero"`
	// InCluster says that Daypass runs in a pod of this cluster and uses the account of its pod. Nothing else is given
	// then.
	InCluster bool `yaml:"in_cluster" json:"in_cluster,omitempty"`
}

// URL implements what package access asks of settings.
func (s KubernetesIssuer) URL(string) string { return s.Issuer }

// SingleUse implements what package access asks of settings.
func (s KubernetesIssuer) SingleUse() bool { return s.Once }

// Validate returns every mistake, each a [target.FieldError].
func (s KubernetesIssuer) Validate() error {
	var errs []error
	u, err := url.Parse(s.Issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Contains(s.Issuer, "#") {
		errs = append(errs, target.Wrong("url", "want the https URL that the cluster's tokens have as iss"))
	}
	if len(s.Audience) > 512 {
		errs = append(errs, target.Wrong("audience", "has more than 512 bytes"))
	}
	if s.API == nil {
		return errors.Join(errs...)
	}
	if s.CA.File != "" {
		errs = append(errs, target.Wrong("ca", "is for keys at the issuer's URL; with api they come from there"))
	}
	a := s.API
	switch {
	case a.InCluster && (a.URL != "" || a.CA.File != "" || a.Token.File != ""):
		errs = append(errs, target.Wrong("api.in_cluster", "a pod's own account goes to its own cluster; remove url, ca and token"))
	case a.InCluster:
	default:
		if err := kube.CheckURL(a.URL); err != nil {
			errs = append(errs, target.Wrong("api.url", "%v", err))
		}
		if a.Token.File == "" {
			errs = append(errs, target.Wrong("api.token", "want token: {file: …} or in_cluster: true"))
		}
	}
	return errors.Join(errs...)
}

// kubernetesIssuers is the kind of issuers that are Kubernetes clusters.
func kubernetesIssuers() Issuer {
	return Issuer{
		IssuerKind: access.IssuerKind{Settings: decode[KubernetesIssuer], Vocabulary: kubernetes.Kind,
			Instead: "a cluster says of a pod what stands in the vocabulary, and of labels and annotations nothing"},
		open:  openKubernetesIssuer,
		files: kubernetesIssuerFiles,
	}
}

// kubernetesIssuerFiles are the certificates. The token is read again for each request, so that one that was replaced
// makes no new issuer.
func kubernetesIssuerFiles(issuer access.Issuer) (named []reference, err error) {
	settings, err := readIssuer[KubernetesIssuer](issuer)
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
	settings, err := readIssuer[KubernetesIssuer](issuer)
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
		cfg.URL = kubetarget.InClusterURL
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
	text, err := os.ReadFile(filepath.Join(kubetarget.InClusterDir, name))
	if err != nil {
		return nil, fmt.Errorf("in_cluster is for a Daypass that runs in a pod of the cluster: %w", err)
	}
	return text, nil
}
