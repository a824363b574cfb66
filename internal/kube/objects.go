package kube

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
)

// Meta is the part of an object's metadata that we use.
type Meta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace,omitempty"`
	UID               string            `json:"uid,omitempty"`
	ResourceVersion   string            `json:"resourceVersion,omitempty"`
	CreationTimestamp string            `json:"creationTimestamp,omitempty"` // RFC 3339
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
}

// Lease is a `coordination.k8s.io/v1` Lease: a small record that holds nothing secret.
type Lease struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Meta       Meta      `json:"metadata"`
	Spec       LeaseSpec `json:"spec"`
}

// LeaseSpec says whose a Lease is, and for how long.
type LeaseSpec struct {
	HolderIdentity       string `json:"holderIdentity,omitempty"`
	LeaseDurationSeconds int32  `json:"leaseDurationSeconds,omitempty"`
}

// Secret is a Secret without data.
type Secret struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Meta       Meta   `json:"metadata"`
	Type       string `json:"type"`
	Immutable  bool   `json:"immutable"`
}

// ServiceAccount is a ServiceAccount whose token is mounted into no pod.
type ServiceAccount struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Meta       Meta   `json:"metadata"`
	Automount  bool   `json:"automountServiceAccountToken"`
}

// Binding is a RoleBinding, or a ClusterRoleBinding where it has no namespace.
type Binding struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Meta       Meta      `json:"metadata"`
	Role       RoleRef   `json:"roleRef"`
	Subjects   []Subject `json:"subjects"`
}

// RoleRef names the Role or ClusterRole of a [Binding].
type RoleRef struct {
	Group string `json:"apiGroup"`
	Kind  string `json:"kind"`
	Name  string `json:"name"`
}

// Subject is a service account that a [Binding] gives rights to.
type Subject struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// groupRBAC is the API group of roles and bindings.
const groupRBAC = "rbac.authorization.k8s.io"

func leases(namespace string) string {
	return "/apis/coordination.k8s.io/v1/namespaces/" + url.PathEscape(namespace) + "/leases"
}

func core(namespace, resource string) string {
	return "/api/v1/namespaces/" + url.PathEscape(namespace) + "/" + resource
}

func bindings(namespace string) string {
	if namespace == "" {
		return "/apis/" + groupRBAC + "/v1/clusterrolebindings"
	}
	return "/apis/" + groupRBAC + "/v1/namespaces/" + url.PathEscape(namespace) + "/rolebindings"
}

func at(path, name string) string { return path + "/" + url.PathEscape(name) }

// CreateLease makes a Lease and returns it as it stands.
func (c *Client) CreateLease(ctx context.Context, l Lease) (made Lease, err error) {
	l.APIVersion, l.Kind = "coordination.k8s.io/v1", "Lease"
	err = c.do(ctx, http.MethodPost, leases(l.Meta.Namespace), l, &made)
	return made, err
}

// Lease reads a Lease.
func (c *Client) Lease(ctx context.Context, namespace, name string) (l Lease, err error) {
	err = c.do(ctx, http.MethodGet, at(leases(namespace), name), nil, &l)
	return l, err
}

// UpdateLease replaces a Lease, unless it has changed since l was read: that is a [ReasonConflict].
func (c *Client) UpdateLease(ctx context.Context, l Lease) (now Lease, err error) {
	l.APIVersion, l.Kind = "coordination.k8s.io/v1", "Lease"
	err = c.do(ctx, http.MethodPut, at(leases(l.Meta.Namespace), l.Meta.Name), l, &now)
	return now, err
}

// Leases lists the Leases of a namespace that have labels (a label selector), page by page.
func (c *Client) Leases(ctx context.Context, namespace, labels string) iter.Seq2[Lease, error] {
	return func(yield func(Lease, error) bool) {
		query := url.Values{"labelSelector": {labels}, "limit": {strconv.Itoa(pageSize)}}
		for {
			var page struct {
				Meta struct {
					Continue string `json:"continue"`
				} `json:"metadata"`
				Items []Lease `json:"items"`
			}
			if err := c.do(ctx, http.MethodGet, leases(namespace)+"?"+query.Encode(), nil, &page); err != nil {
				yield(Lease{}, err)
				return
			}
			for _, l := range page.Items {
				if !yield(l, nil) {
					return
				}
			}
			if page.Meta.Continue == "" {
				return
			}
			query.Set("continue", page.Meta.Continue)
		}
	}
}

// DeleteLease deletes a Lease if it is still the one of that UID and version.
func (c *Client) DeleteLease(ctx context.Context, m Meta) error {
	type preconditions struct {
		UID             string `json:"uid,omitempty"`
		ResourceVersion string `json:"resourceVersion,omitempty"`
	}
	options := struct {
		APIVersion    string        `json:"apiVersion"`
		Kind          string        `json:"kind"`
		Preconditions preconditions `json:"preconditions"`
	}{"v1", "DeleteOptions", preconditions{m.UID, m.ResourceVersion}}
	return c.do(ctx, http.MethodDelete, at(leases(m.Namespace), m.Name), options, nil)
}

// CreateSecret makes a Secret that holds nothing and never will, and returns it with its UID.
func (c *Client) CreateSecret(ctx context.Context, m Meta) (made Secret, err error) {
	in := Secret{APIVersion: "v1", Kind: "Secret", Meta: m, Type: "Opaque", Immutable: true}
	err = c.do(ctx, http.MethodPost, core(m.Namespace, "secrets"), in, &made)
	return made, err
}

// DeleteSecret deletes a Secret.
func (c *Client) DeleteSecret(ctx context.Context, namespace, name string) error {
	return c.do(ctx, http.MethodDelete, at(core(namespace, "secrets"), name), nil, nil)
}

// CreateServiceAccount makes a ServiceAccount.
func (c *Client) CreateServiceAccount(ctx context.Context, m Meta) error {
	in := ServiceAccount{APIVersion: "v1", Kind: "ServiceAccount", Meta: m}
	return c.do(ctx, http.MethodPost, core(m.Namespace, "serviceaccounts"), in, nil)
}

// DeleteServiceAccount deletes a ServiceAccount.
func (c *Client) DeleteServiceAccount(ctx context.Context, namespace, name string) error {
	return c.do(ctx, http.MethodDelete, at(core(namespace, "serviceaccounts"), name), nil, nil)
}

// CreateBinding gives a service account the rights of a role: in the binding's namespace, or everywhere where it has
// none. RoleKind is "Role" or "ClusterRole".
func (c *Client) CreateBinding(ctx context.Context, m Meta, roleKind, role string, account Subject) error {
	in := Binding{APIVersion: groupRBAC + "/v1", Kind: "RoleBinding", Meta: m, Role: RoleRef{groupRBAC, roleKind, role}}
	if m.Namespace == "" {
		in.Kind = "ClusterRoleBinding"
	}
	account.Kind = "ServiceAccount"
	in.Subjects = []Subject{account}
	return c.do(ctx, http.MethodPost, bindings(m.Namespace), in, nil)
}

// DeleteBinding deletes a RoleBinding, or a ClusterRoleBinding where namespace is empty.
func (c *Client) DeleteBinding(ctx context.Context, namespace, name string) error {
	return c.do(ctx, http.MethodDelete, at(bindings(namespace), name), nil, nil)
}
