// Package kubernetes verifies service account tokens of a Kubernetes cluster.
//
// It owns what such a token must say beside what every token must: the account and, for tokens that a kubelet projects
// into a pod, the pod and its node, as the cluster's own claim `kubernetes.io` has them. It promises that a principal's
// claims are that claim's and nobody else's, and, where the cluster is connected, that the API server was asked about
// this token just now: a token of a deleted account or pod is refused at once, and while the API server cannot be asked
// nobody can tell.
//
// Signature, times and audience are checked by the verifier that is given to it. The package imports identity, secret
// and internal/kube.
package kubernetes

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/kube"
	"github.com/daypass/daypass/secret"
)

// Kind is the name of this kind of issuer in access files.
const Kind = "kubernetes"

// Config is one cluster.
type Config struct {
	Name     string            // in the access configuration
	Audience string            // `aud` of tokens for us, which Tokens checks too
	Tokens   identity.Verifier // checks signature, issuer, audience and times, as for every OpenID Connect token
	API      *kube.Client      // reviews tokens; nil where there is no connection to the cluster
}

// Verifier verifies tokens of one cluster.
type Verifier struct{ cfg Config }

var _ identity.Verifier = (*Verifier)(nil)

// New returns a verifier. It asks nobody anything.
func New(cfg Config) (*Verifier, error) {
	if cfg.Tokens == nil || cfg.Audience == "" {
		return nil, fmt.Errorf("issuer %q: want a verifier of its tokens and an audience", cfg.Name)
	}
	return &Verifier{cfg}, nil
}

// Verify returns the account that a token speaks for.
func (v *Verifier) Verify(ctx context.Context, evidence secret.Text) (identity.Principal, error) {
	p, err := v.cfg.Tokens.Verify(ctx, evidence)
	if err != nil {
		return identity.Principal{}, err
	}
	who, err := read(p)
	if err == nil && v.cfg.API != nil {
		err = v.review(ctx, evidence, p, who)
	}
	if err != nil {
		return identity.Principal{}, fmt.Errorf("verify a token for issuer %q: %w", v.cfg.Name, err)
	}
	p.Claims = who.claims(p.Claims)
	return p, nil
}

// Extras of a reviewed token, as Kubernetes names them.
const (
	extraPod    = "authentication.kubernetes.io/pod-uid"
	extraNode   = "authentication.kubernetes.io/node-uid"
	extraTokens = "authentication.kubernetes.io/credential-id"
)

// review asks the API server whether the token works now, and holds its answer to the token.
//
// API servers remember for ten seconds what they answered about a token and its audiences. An audience that nobody has
// makes the question new each time.
func (v *Verifier) review(ctx context.Context, evidence secret.Text, p identity.Principal, who workload) error {
	r, err := v.cfg.API.ReviewToken(ctx, evidence, []string{v.cfg.Audience, "urn:daypass:review:" + rand.Text()})
	switch {
	case err != nil:
		return fmt.Errorf("have the API server review it: %w", err) // whatever it is, it says nothing about the token
	case !r.Authenticated && r.Why != "":
		return rejected("the API server does not take it: %s", r.Why)
	case !r.Authenticated:
		return rejected("the API server does not take it")
	case !slices.Contains(r.Audiences, v.cfg.Audience):
		// An API server that looks at no audiences answers without them.
		return rejected("the API server does not say that it is for us")
	case r.Username != p.Subject || r.UID != who.accountUID:
		return rejected("the API server takes it for another account")
	}
	for extra, want := range map[string]string{extraPod: who.podUID, extraNode: who.nodeUID} {
		if got := r.Extra[extra]; len(got) > 0 && !slices.Equal(got, []string{want}) {
			return rejected("the API server takes it for another pod or node")
		}
	}
	if got := r.Extra[extraTokens]; len(got) > 0 && p.TokenID != "" && !slices.Equal(got, []string{"JTI=" + p.TokenID}) {
		return rejected("the API server takes it for another token")
	}
	return nil
}

// Why is the kind of a rejection that is this verifier's own: a closed list, fit for the label of a metric.
type Why string

// WhyReview says that the cluster does not take a token, or that it is not as a cluster writes them.
const WhyReview Why = "review"

func rejected(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), identity.Reject(WhyReview, "the evidence was rejected"))
}

// errForm says that a token is not as Kubernetes makes them.
var errForm = errors.New("its claim kubernetes.io is not as Kubernetes writes it")
