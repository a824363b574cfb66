package kube

import (
	"context"
	"net/http"
	"time"

	"github.com/daypass/daypass/secret"
)

// TokenOrder asks for a token of a service account.
type TokenOrder struct {
	Namespace, Account string
	Audiences          []string // none: the API server's own
	Seconds            int64    // how long it lives; the API server takes 600 or more, and may give less than was asked
	Secret, SecretUID  string   // the Secret that the token is bound to: it works while that Secret stands
}

// Token is a token of a service account.
type Token struct {
	Text      secret.Text
	ExpiresAt time.Time
}

// CreateToken makes a token. A Secret of that name with another UID is a [ReasonConflict], none [ReasonNotFound].
func (c *Client) CreateToken(ctx context.Context, o TokenOrder) (Token, error) {
	type bound struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
		Name       string `json:"name"`
		UID        string `json:"uid"`
	}
	type spec struct {
		Audiences []string `json:"audiences"`
		Seconds   int64    `json:"expirationSeconds"`
		Bound     bound    `json:"boundObjectRef"`
	}
	in := struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Spec       spec   `json:"spec"`
	}{"authentication.k8s.io/v1", "TokenRequest", spec{o.Audiences, o.Seconds, bound{"Secret", "v1", o.Secret, o.SecretUID}}}
	var out struct {
		Status struct {
			Token     string    `json:"token"`
			ExpiresAt time.Time `json:"expirationTimestamp"`
		} `json:"status"`
	}
	if err := c.do(ctx, http.MethodPost, at(core(o.Namespace, "serviceaccounts"), o.Account)+"/token", in, &out); err != nil {
		return Token{}, err
	}
	if out.Status.Token == "" {
		return Token{}, &Error{Message: "the answer holds no token"}
	}
	return Token{secret.New(out.Status.Token), out.Status.ExpiresAt.UTC()}, nil
}

// Review is what the API server says of a token.
type Review struct {
	Authenticated bool
	Why           string // it is not, where the server says so
	Username      string
	UID           string   // of the account
	Audiences     []string // of those that were asked for, whom the token is for
	Extra         map[string][]string
}

// ReviewToken asks whether a token works now, for any of audiences. The API server checks that the token's account,
// and the pod or other object that it is bound to, still stand; it may remember its answer to the same question.
func (c *Client) ReviewToken(ctx context.Context, token secret.Text, audiences []string) (Review, error) {
	type spec struct {
		Token     string   `json:"token"`
		Audiences []string `json:"audiences"`
	}
	in := struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Spec       spec   `json:"spec"`
	}{"authentication.k8s.io/v1", "TokenReview", spec{token.Reveal(), audiences}}
	var out struct {
		Status *struct {
			Authenticated bool     `json:"authenticated"`
			Error         string   `json:"error"`
			Audiences     []string `json:"audiences"`
			User          struct {
				Username string              `json:"username"`
				UID      string              `json:"uid"`
				Extra    map[string][]string `json:"extra"`
			} `json:"user"`
		} `json:"status"`
	}
	if err := c.do(ctx, http.MethodPost, "/apis/authentication.k8s.io/v1/tokenreviews", in, &out); err != nil {
		return Review{}, err
	}
	if out.Status == nil {
		return Review{}, &Error{Message: "the review of a token has no status"}
	}
	s := out.Status
	return Review{s.Authenticated, printable(s.Error), s.User.Username, s.User.UID, s.Audiences, s.User.Extra}, nil
}

// Access is something that may be done at the API server.
type Access struct {
	Namespace   string `json:"namespace,omitempty"` // empty: in all of them, or for what is in none
	Verb        string `json:"verb"`
	Group       string `json:"group,omitempty"` // of the API; "*" for all
	Resource    string `json:"resource"`
	Subresource string `json:"subresource,omitempty"`
}

// May asks whether the client's own credential may do something.
func (c *Client) May(ctx context.Context, a Access) (bool, error) {
	type spec struct {
		Attributes Access `json:"resourceAttributes"`
	}
	in := struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Spec       spec   `json:"spec"`
	}{"authorization.k8s.io/v1", "SelfSubjectAccessReview", spec{a}}
	var out struct {
		Status struct {
			Allowed bool `json:"allowed"`
		} `json:"status"`
	}
	err := c.do(ctx, http.MethodPost, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", in, &out)
	return out.Status.Allowed, err
}
