package gcp

import (
	"errors"
	"fmt"
	"slices"

	"github.com/daypass/daypass/target"
)

// Rights is the `gcp:` section of a role: either service_account, an account that exists, or per_lease, an account that is
// made for each lease.
type Rights struct {
	// ServiceAccount is the account whose token workloads get, by its address. Its rights are the role's, and its token
	// ends with the lease: that is why there is always one.
	ServiceAccount string `yaml:"service_account" json:"service_account,omitempty"`
	// PerLease makes a service account for each lease, which is deleted with it. The target needs manage.
	PerLease bool `yaml:"per_lease" json:"per_lease,omitempty"`
	// Bindings are what the account of a lease may do.
	Bindings []Binding `yaml:"bindings" json:"bindings,omitempty"`
	// Scopes narrow the token; cloud-platform unless given, which leaves all to the account's rights.
	Scopes []string `yaml:"scopes" json:"scopes,omitempty"`
}

// Binding is one entry of `bindings:`.
type Binding struct {
	// On is a resource that the target lists in manage.resources.
	On string `yaml:"on" json:"on"`
	// Roles are roles of Google's or of your own, such as roles/storage.objectViewer. They end with the lease by a condition,
	// which owner, editor and viewer cannot have.
	Roles []string `yaml:"roles" json:"roles"`
}

const (
	maxScopes   = 20
	maxBindings = 10 // of a lease: each resource is one policy to write
	maxRoles    = 10
)

// basic are the roles that cannot have a condition.
var basic = []string{"roles/owner", "roles/editor", "roles/viewer", "roles/browser"}

// granting are roles that are there to change who may do what, or to become others, our own manager among them: what they
// allow would outlive the lease.
var granting = []string{
	"roles/iam.securityAdmin", "roles/iam.serviceAccountAdmin", "roles/iam.serviceAccountKeyAdmin", "roles/iam.serviceAccountTokenCreator",
	"roles/iam.serviceAccountUser", "roles/iam.workloadIdentityPoolAdmin", "roles/iam.workloadIdentityUser",
	"roles/resourcemanager.projectIamAdmin", "roles/resourcemanager.folderAdmin", "roles/resourcemanager.folderIamAdmin",
	"roles/resourcemanager.organizationAdmin",
}

// Validate returns every mistake, each a [target.FieldError].
func (r Rights) Validate() error {
	var errs []error
	switch {
	case r.PerLease == (r.ServiceAccount != ""):
		errs = append(errs, target.Wrong("service_account", "want one of service_account and per_lease"))
	case r.PerLease:
		errs = append(errs, r.validateBindings()...)
	case !accountForm.MatchString(r.ServiceAccount):
		errs = append(errs, &target.FieldError{Path: "service_account", Text: "it is not the address of a service account", Help: "write NAME@PROJECT.iam.gserviceaccount.com"})
	case len(r.Bindings) > 0:
		errs = append(errs, target.Wrong("bindings", "they are for an account per lease"))
	}
	if len(r.Scopes) > maxScopes {
		errs = append(errs, target.Wrong("scopes", "there are more than %d", maxScopes))
	}
	for i, s := range r.Scopes {
		if !scopeForm.MatchString(s) {
			errs = append(errs, &target.FieldError{Path: fmt.Sprintf("scopes[%d]", i), Text: "it is not a scope of Google's", Help: "such as " + cloudPlatform})
		}
	}
	return errors.Join(errs...)
}

func (r Rights) validateBindings() (errs []error) {
	if len(r.Bindings) == 0 || len(r.Bindings) > maxBindings {
		errs = append(errs, target.Wrong("bindings", "want 1 to %d", maxBindings))
	}
	var on []string
	for i, b := range r.Bindings {
		path := fmt.Sprintf("bindings[%d]", i)
		if !resourceForm.MatchString(b.On) {
			errs = append(errs, target.Wrong(path+".on", "it is not projects/ID or buckets/NAME"))
		}
		if slices.Contains(on, b.On) {
			errs = append(errs, target.Wrong(path+".on", "is listed twice"))
		}
		on = append(on, b.On)
		if len(b.Roles) == 0 || len(b.Roles) > maxRoles {
			errs = append(errs, target.Wrong(path+".roles", "want 1 to %d", maxRoles))
		}
		for j, role := range b.Roles {
			if !roleForm.MatchString(role) || slices.Contains(b.Roles[:j], role) {
				errs = append(errs, target.Wrong(fmt.Sprintf("%s.roles[%d]", path, j), "it is not a role, or stands there twice"))
			}
			if slices.Contains(basic, role) {
				errs = append(errs, &target.FieldError{Path: fmt.Sprintf("%s.roles[%d]", path, j), Text: "a basic role cannot have a condition that ends it", Help: "use narrower roles"})
			}
			if slices.Contains(granting, role) {
				errs = append(errs, &target.FieldError{Path: fmt.Sprintf("%s.roles[%d]", path, j), Text: "the role may change who may do what, or become others, which would outlive the lease", Help: "use a narrower role"})
			}
		}
	}
	return errs
}
