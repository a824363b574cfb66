package kubernetes

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/daypass/daypass/internal/kube"

	"github.com/daypass/daypass/target"
)

// Settings is the `kubernetes:` section of a target: how Daypass reaches it.
type Settings struct {
	// URL is https://host:port of the API server.
	URL string `yaml:"url" json:"url,omitempty"`
	// CA names the file with the certificates (PEM) that verify the server; absent means the system's.
	CA File `yaml:"ca" json:"ca,omitzero"`
	// Token names the file below secrets_dir with the bearer token of the administrator's account. It is read again for
	// each request, so that whatever replaces it needs to tell nobody.
	Token File `yaml:"token" json:"token,omitzero"`
	// Certificate names the file below secrets_dir with a client certificate (PEM), instead of a token.
	Certificate File `yaml:"certificate" json:"certificate,omitzero"`
	// Key names the file below secrets_dir with the certificate's key (PEM).
	Key File `yaml:"key" json:"key,omitzero"`
	// InCluster says that Daypass runs in a pod of this cluster and uses the account of its pod. Nothing of the above is
	// given then.
	InCluster bool `yaml:"in_cluster" json:"in_cluster,omitempty"`
	// Namespace is where Daypass keeps its record of each lease; "daypass" unless given. Each target needs one of its
	// own.
	Namespace string `yaml:"namespace" json:"namespace,omitempty"`
	// Namespaces are those in which roles of this target may act. Rights of roles that lead elsewhere are refused.
	Namespaces []string `yaml:"namespaces" json:"namespaces"`
}

// Client is the `client:` section of a target: what workloads are told where it differs from what Daypass uses.
type Client struct {
	// URL is https://host:port of the API server as workloads reach it.
	URL string `yaml:"url" json:"url,omitempty"`
	// CA names the file with the certificates (PEM) that workloads verify the server with.
	CA File `yaml:"ca" json:"ca,omitzero"`
}

// File refers to a file by name, so that nothing secret is inline.
type File struct {
	File string `yaml:"file" json:"file,omitempty"`
}

// Where a pod finds its cluster and the account that is its own.
const (
	// InClusterURL is the API server.
	InClusterURL = "https://kubernetes.default.svc"
	// InClusterDir holds the files token and ca.crt.
	InClusterDir = "/var/run/secrets/kubernetes.io/serviceaccount"
)

// Address returns where the API server is.
func (s Settings) Address() string {
	if s.InCluster {
		return InClusterURL
	}
	return s.URL
}

func (s Settings) space() string { return cmp.Or(s.Namespace, "daypass") }

// maxNamespaces bounds what Revoke may have to search.
const maxNamespaces = 64

// Validate returns every mistake, each a [target.FieldError].
func (s Settings) Validate() error {
	errs := s.validateCredential()
	if s.Namespace != "" {
		errs = append(errs, checkLabel("namespace", s.Namespace))
	}
	if len(s.Namespaces) == 0 || len(s.Namespaces) > maxNamespaces {
		errs = append(errs, target.Wrong("namespaces", "want the namespaces in which roles may act, at most %d", maxNamespaces))
	}
	for i, name := range s.Namespaces {
		path := fmt.Sprintf("namespaces[%d]", i)
		errs = append(errs, checkLabel(path, name))
		if slices.Contains(s.Namespaces[:i], name) {
			errs = append(errs, target.Wrong(path, "%s is listed twice", name))
		}
		if name == s.space() {
			// Whoever may use the records' namespace could end the story of a lease there.
			errs = append(errs, target.Wrong(path, "%s holds the records of Daypass; give roles another", name))
		}
	}
	return errors.Join(errs...)
}

// validateCredential demands one credential, and none that could be sent to another place than its own.
func (s Settings) validateCredential() []error {
	var errs []error
	certificate := s.Certificate.File != "" || s.Key.File != ""
	if s.InCluster {
		if s.URL != "" || s.CA.File != "" || s.Token.File != "" || certificate {
			errs = append(errs, target.Wrong("in_cluster", "a pod's own account goes to its own cluster; remove url, ca, token, certificate and key"))
		}
		return errs
	}
	if err := kube.CheckURL(s.URL); err != nil {
		errs = append(errs, target.Wrong("url", "%v", err))
	}
	if (s.Token.File != "") == certificate {
		errs = append(errs, target.Wrong("token", "want one of token: {file: …}, certificate with key, and in_cluster: true"))
	}
	if certificate && (s.Certificate.File == "" || s.Key.File == "") {
		errs = append(errs, target.Wrong("certificate", "a client certificate needs both certificate: {file: …} and key: {file: …}"))
	}
	return errs
}

// Validate returns every mistake, each a [target.FieldError].
func (c Client) Validate() error {
	if c.URL == "" {
		return nil
	}
	if err := kube.CheckURL(c.URL); err != nil {
		return target.Wrong("url", "%v", err)
	}
	return nil
}

const (
	label     = `^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`                              // RFC 1123 label, as of namespaces
	subdomain = `^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$` // as of service accounts
	rbacName  = `^[A-Za-z0-9:._-]+$`                                                // of what names of roles hold in practice
)

func checkLabel(field, name string) error { return checkName(field, name, label, 63) }

// checkName returns a nil error or a [target.FieldError].
func checkName(field, name, pattern string, most int) error {
	if len(name) > most || !regexp.MustCompile(pattern).MatchString(name) {
		return target.Wrong(field, "%q is not a name in Kubernetes", name)
	}
	return nil
}
