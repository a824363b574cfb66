package kubernetes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/daypass/daypass/target"
)

// Rights is the `kubernetes:` section of a role: one of the two.
type Rights struct {
	// ServiceAccount is an account that exists: a lease is a token of it.
	ServiceAccount *ServiceAccount `yaml:"service_account" json:"service_account,omitempty"`
	// PerLease makes an account for each lease, which ends with it.
	PerLease *PerLease `yaml:"per_lease" json:"per_lease,omitempty"`
}

// ServiceAccount is an account that somebody else made, with what rights it has.
type ServiceAccount struct {
	// Namespace is where the account is.
	Namespace string `yaml:"namespace" json:"namespace"`
	// Name is that of the account.
	Name string `yaml:"name" json:"name"`
	// Audiences are whom the token is for; the API server itself unless given. A token for others does not open the
	// API server.
	Audiences []string `yaml:"audiences" json:"audiences,omitempty"`
}

// PerLease is an account of the lease's own.
type PerLease struct {
	// Namespace is where the account is made. Whoever may make pods or tokens there can use it while it lives: give
	// leased accounts a namespace in which nobody can.
	Namespace string `yaml:"namespace" json:"namespace"`
	// Bind are the roles that the account gets.
	Bind []Bind `yaml:"bind" json:"bind"`
}

// Bind gives an account the rights of one role that exists: a Role or a ClusterRole.
type Bind struct {
	// Role is the name of a Role.
	Role string `yaml:"role" json:"role,omitempty"`
	// ClusterRole is the name of a ClusterRole.
	ClusterRole string `yaml:"cluster_role" json:"cluster_role,omitempty"`
	// Namespace is where the rights count; that of the account unless given.
	Namespace string `yaml:"namespace" json:"namespace,omitempty"`
	// ClusterWide says that the rights of a ClusterRole count everywhere.
	ClusterWide bool `yaml:"cluster_wide" json:"cluster_wide,omitempty"`
}

const (
	maxBindings  = 8
	maxAudiences = 8
)

// Validate returns every mistake, each a [target.FieldError].
func (r Rights) Validate() error {
	switch {
	case (r.ServiceAccount == nil) == (r.PerLease == nil):
		return target.Wrong("service_account", "want one of service_account and per_lease")
	case r.ServiceAccount != nil:
		return r.ServiceAccount.validate()
	}
	return r.PerLease.validate()
}

func (a ServiceAccount) validate() error {
	errs := []error{
		checkLabel("service_account.namespace", a.Namespace),
		checkName("service_account.name", a.Name, subdomain, 253),
	}
	if len(a.Audiences) > maxAudiences {
		errs = append(errs, target.Wrong("service_account.audiences", "at most %d", maxAudiences))
	}
	for i, audience := range a.Audiences {
		if audience == "" || len(audience) > 512 {
			errs = append(errs, target.Wrong(fmt.Sprintf("service_account.audiences[%d]", i), "want 1 to 512 bytes"))
		}
	}
	return errors.Join(errs...)
}

func (p PerLease) validate() error {
	errs := []error{checkLabel("per_lease.namespace", p.Namespace)}
	if len(p.Bind) == 0 || len(p.Bind) > maxBindings {
		errs = append(errs, target.Wrong("per_lease.bind", "want 1 to %d roles to bind", maxBindings))
	}
	for i, b := range p.Bind {
		at := fmt.Sprintf("per_lease.bind[%d]", i)
		switch {
		case (b.Role == "") == (b.ClusterRole == ""):
			errs = append(errs, target.Wrong(at, "want one of role and cluster_role"))
		case b.ClusterWide && (b.Role != "" || b.Namespace != ""):
			errs = append(errs, target.Wrong(at+".cluster_wide", "is for a cluster_role without a namespace"))
		}
		if b.Namespace != "" {
			errs = append(errs, checkLabel(at+".namespace", b.Namespace))
		}
		if name := b.Role + b.ClusterRole; name != "" {
			errs = append(errs, checkName(at, name, rbacName, 253))
		}
		if slices.Contains(p.Bind[:i], b) {
			errs = append(errs, target.Wrong(at, "is listed twice"))
		}
	}
	return errors.Join(errs...)
}

// parseRights reads rights as the configuration keeps them, strictly.
func parseRights(text json.RawMessage) (Rights, error) {
	var r Rights
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("the rights cannot be read: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return r, errors.New("the rights cannot be read: something follows them")
	}
	if err := r.Validate(); err != nil {
		return r, fmt.Errorf("the rights are not valid: %w", err)
	}
	return r, nil
}

// home is the namespace of the account, and of the anchor with it.
func (r Rights) home() string {
	if r.PerLease != nil {
		return r.PerLease.Namespace
	}
	return r.ServiceAccount.Namespace
}

// bound is one binding: its namespace, empty for the whole cluster, and the role.
type bound struct{ namespace, kind, role string }

// bindings are those of the lease's own account, in order.
func (r Rights) bindings() []bound {
	if r.PerLease == nil {
		return nil
	}
	var all []bound
	for _, b := range r.PerLease.Bind {
		one := bound{namespace: b.Namespace, kind: "ClusterRole", role: b.ClusterRole}
		if b.Role != "" {
			one.kind, one.role = "Role", b.Role
		}
		if one.namespace == "" && !b.ClusterWide {
			one.namespace = r.PerLease.Namespace
		}
		all = append(all, one)
	}
	return all
}

// allowed refuses rights that lead out of the target's namespaces.
func (s Settings) allowed(r Rights) error {
	within := func(namespace string) error {
		if namespace != "" && !slices.Contains(s.Namespaces, namespace) {
			return fmt.Errorf("namespace %s is not one of the target's namespaces", namespace)
		}
		return nil
	}
	if err := within(r.home()); err != nil {
		return err
	}
	for _, b := range r.bindings() {
		if err := within(b.namespace); err != nil {
			return err
		}
	}
	return nil
}
