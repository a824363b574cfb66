package azure

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/daypass/daypass/target"
)

// Rights is the `azure:` section of a role: either client_id, an application that exists, or per_lease, an application that is
// made for each lease.
type Rights struct {
	// ClientID is the application or managed identity whose federated credential trusts the role's subject. Its rights
	// are the role's.
	ClientID string `yaml:"client_id" json:"client_id,omitempty"`
	// PerLease makes an application with a service principal for each lease, which are deleted with it. The target needs
	// manage.
	PerLease bool `yaml:"per_lease" json:"per_lease,omitempty"`
	// Assignments are what the service principal of a lease may do.
	Assignments []Assignment `yaml:"assignments" json:"assignments,omitempty"`
	// Scope is whom the token is for, with /.default at its end; https://management.azure.com/.default unless given.
	Scope string `yaml:"scope" json:"scope,omitempty"`
}

// Assignment is one entry of `assignments:`.
type Assignment struct {
	// On is a scope that the target lists in manage.scopes, or something below one.
	On string `yaml:"on" json:"on"`
	// Roles are role definitions by their IDs, such as acdd72a7-3385-48ef-bd42-f606fba81ae7 for Reader.
	Roles []string `yaml:"roles" json:"roles"`
}

const (
	maxAssignments = 10
	maxRoles       = 10
)

// granting are built-in roles that may assign roles: what they assign would outlive the lease.
var granting = []string{
	"8e3af657-a8ff-443c-a75c-2fe8c4bcb635", // Owner
	"18d7d88d-d35e-4fb5-a5c3-7773c20a72d9", // User Access Administrator
	"f58310d9-a9f6-439a-9e8d-f62e7b41a168", // Role Based Access Control Administrator
	"8b54135c-b56d-4d72-a534-26097cfdc8d8", // Key Vault Data Access Administrator
	"66f75aeb-eabe-4b70-9f1e-c350c4c9ad04", // Virtual Machine Data Access Administrator
}

// Validate returns every mistake, each a [target.FieldError].
func (r Rights) Validate() error {
	var errs []error
	switch {
	case r.PerLease == (r.ClientID != ""):
		errs = append(errs, target.Wrong("client_id", "want one of client_id and per_lease"))
	case r.PerLease:
		errs = append(errs, r.validateAssignments()...)
	case !identifierForm.MatchString(r.ClientID):
		errs = append(errs, &target.FieldError{Path: "client_id", Text: "it is not the ID of an application", Help: "write its application (client) ID, or that of the managed identity"})
	case len(r.Assignments) > 0:
		errs = append(errs, target.Wrong("assignments", "they are for an application per lease"))
	}
	if r.Scope != "" && !resourceForm.MatchString(r.Scope) {
		errs = append(errs, &target.FieldError{Path: "scope", Text: "it is not a resource with /.default", Help: "such as https://storage.azure.com/.default"})
	}
	return errors.Join(errs...)
}

func (r Rights) validateAssignments() (errs []error) {
	if len(r.Assignments) == 0 || len(r.Assignments) > maxAssignments {
		errs = append(errs, target.Wrong("assignments", "want 1 to %d", maxAssignments))
	}
	var on []string
	for i, a := range r.Assignments {
		path := fmt.Sprintf("assignments[%d]", i)
		if !placeForm.MatchString(a.On) || !strings.HasPrefix(a.On, "/subscriptions/") || strings.Contains(a.On, "/.") {
			errs = append(errs, &target.FieldError{Path: path + ".on", Text: "it is not a scope", Help: "such as /subscriptions/ID/resourceGroups/orders"})
		}
		if slices.Contains(on, strings.ToLower(a.On)) {
			errs = append(errs, target.Wrong(path+".on", "is listed twice"))
		}
		on = append(on, strings.ToLower(a.On))
		if len(a.Roles) == 0 || len(a.Roles) > maxRoles {
			errs = append(errs, target.Wrong(path+".roles", "want 1 to %d", maxRoles))
		}
		for j, role := range a.Roles {
			if !identifierForm.MatchString(role) || slices.Contains(a.Roles[:j], role) {
				errs = append(errs, &target.FieldError{Path: fmt.Sprintf("%s.roles[%d]", path, j), Text: "it is not the ID of a role definition, or stands there twice", Help: "az role definition list --name Reader --query [].name"})
			}
			if slices.Contains(granting, strings.ToLower(role)) {
				errs = append(errs, &target.FieldError{Path: fmt.Sprintf("%s.roles[%d]", path, j), Text: "the role may assign roles, which would outlive the lease", Help: "use a narrower role"})
			}
		}
	}
	return errs
}

func (r Rights) resource() string { return cmp.Or(r.Scope, armAddress+"/.default") }
