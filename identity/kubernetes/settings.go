package kubernetes

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/daypass/daypass/internal/kube"
)

// Kind is the name of this kind of issuer in access files.
const Kind = "kubernetes"

// Settings is the `kubernetes:` section of an issuer.
type Settings struct {
	// Issuer is what the cluster calls itself in its tokens, byte for byte: --service-account-issuer of its API server.
	// `kubectl get --raw /.well-known/openid-configuration` shows it.
	Issuer string `yaml:"url" json:"url"`
	// Audience is what tokens for us carry; the server's own URL unless given.
	Audience string `yaml:"audience" json:"audience,omitempty"`
	// CA names the file with the certificates (PEM) that verify the issuer's URL, where its keys are fetched there;
	// absent means the system's.
	CA File `yaml:"ca" json:"ca,omitzero"`
	// API connects to the cluster: keys are then fetched from it, wherever the issuer's URL leads, and it is asked about
	// each token, so that those of deleted pods and accounts are refused at once.
	API *API `yaml:"api" json:"api,omitempty"`
}

// API is how the cluster's API server is reached.
type API struct {
	// URL is https://host:port of the API server.
	URL string `yaml:"url" json:"url,omitempty"`
	// CA names the file with the certificates (PEM) that verify the server; absent means the system's.
	CA File `yaml:"ca" json:"ca,omitzero"`
	// Token names the file below secrets_dir with a bearer token of an account that may create tokenreviews. It is read
	// again for each request.
	Token File `yaml:"token" json:"token,omitzero"`
	// InCluster says that Daypass runs in a pod of this cluster and uses the account of its pod. Nothing else is given
	// then.
	InCluster bool `yaml:"in_cluster" json:"in_cluster,omitempty"`
}

// File refers to a file by name, so that nothing secret is inline.
type File struct {
	File string `yaml:"file" json:"file,omitempty"`
}

// URL returns what tells this issuer from every other, for ever.
func (s Settings) URL(string) string { return s.Issuer }

// FieldError is something wrong in a section of an access file.
type FieldError struct {
	Path string // such as api.url
	Text string
}

// Error names the field.
func (e *FieldError) Error() string { return e.Path + ": " + e.Text }

// Field returns the path of the field in its section.
func (e *FieldError) Field() string { return e.Path }

func wrong(path, format string, args ...any) error {
	return &FieldError{Path: path, Text: fmt.Sprintf(format, args...)}
}

// Validate returns every mistake, each a [FieldError].
func (s Settings) Validate() error {
	var errs []error
	u, err := url.Parse(s.Issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Contains(s.Issuer, "#") {
		errs = append(errs, wrong("url", "want the https URL that the cluster's tokens have as iss"))
	}
	if len(s.Audience) > 512 {
		errs = append(errs, wrong("audience", "has more than 512 bytes"))
	}
	if s.API == nil {
		return errors.Join(errs...)
	}
	if s.CA.File != "" {
		errs = append(errs, wrong("ca", "is for keys at the issuer's URL; with api they come from there"))
	}
	a := s.API
	switch {
	case a.InCluster && (a.URL != "" || a.CA.File != "" || a.Token.File != ""):
		errs = append(errs, wrong("api.in_cluster", "a pod's own account goes to its own cluster; remove url, ca and token"))
	case a.InCluster:
	default:
		if err := kube.CheckURL(a.URL); err != nil {
			errs = append(errs, wrong("api.url", "%v", err))
		}
		if a.Token.File == "" {
			errs = append(errs, wrong("api.token", "want token: {file: …} or in_cluster: true"))
		}
	}
	return errors.Join(errs...)
}
