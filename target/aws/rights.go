package aws

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/daypass/daypass/target"
)

// Rights is the `aws:` section of a role: either role_arn, a role that exists and that a lease takes, or per_lease, what
// is made for each lease.
type Rights struct {
	// RoleARN is the role to take. Its trust policy names our issuer and the subject role:NAME, as `daypass trust render
	// aws` prints it.
	RoleARN string `yaml:"role_arn" json:"role_arn,omitempty"`
	// SessionPolicy narrows what the role gives: a policy document, as a mapping. Both have to allow what is done.
	SessionPolicy map[string]any `yaml:"session_policy" json:"session_policy,omitempty"`
	// PerLease is "user" (a user with an access key) or "role" (a role that only this lease can take). The target needs
	// manage: {per_lease: true}.
	PerLease string `yaml:"per_lease" json:"per_lease,omitempty"`
	// Policy is what the user or role of a lease may do: a policy document, as a mapping.
	Policy map[string]any `yaml:"policy" json:"policy,omitempty"`
	// PolicyARNs are managed policies: beside session_policy they narrow the role as well, beside policy they give.
	PolicyARNs []string `yaml:"policy_arns" json:"policy_arns,omitempty"`
	// PermissionsBoundary is the managed policy beyond which no policy of the user or role gives anything.
	PermissionsBoundary string `yaml:"permissions_boundary" json:"permissions_boundary,omitempty"`
}

// What AWS allows, in bytes and by number. Spaces count in session policies.
const (
	maxSessionPolicy = 2048
	maxUserPolicy    = 2048 - 300 // of all inline policies of a user; ours that ends it needs the rest
	maxRolePolicy    = 10240 - 300
	maxPolicyARNs    = 10
)

// What a lease can have of its own.
const (
	perUser = "user"
	perRole = "role"
)

// Validate returns every mistake, each a [target.FieldError].
func (r Rights) Validate() error {
	var errs []error
	switch {
	case (r.RoleARN == "") == (r.PerLease == ""):
		errs = append(errs, target.Wrong("role_arn", "want one of role_arn and per_lease"))
	case r.RoleARN != "":
		errs = append(errs, r.validateSession()...)
	default:
		errs = append(errs, r.validatePerLease()...)
	}
	if len(r.PolicyARNs) > maxPolicyARNs {
		errs = append(errs, target.Wrong("policy_arns", "AWS takes %d at most", maxPolicyARNs))
	}
	for i, arn := range r.PolicyARNs {
		path := fmt.Sprintf("policy_arns[%d]", i)
		if !policyForm.MatchString(arn) {
			errs = append(errs, target.Wrong(path, "%q is not the ARN of a managed policy", arn))
		}
		if slices.Contains(r.PolicyARNs[:i], arn) {
			errs = append(errs, target.Wrong(path, "is listed twice"))
		}
	}
	return errors.Join(errs...)
}

func (r Rights) validateSession() []error {
	errs := []error{checkPolicy("session_policy", r.SessionPolicy, maxSessionPolicy)}
	if !roleForm.MatchString(r.RoleARN) {
		errs = append(errs, &target.FieldError{Path: "role_arn", Text: fmt.Sprintf("%q is not the ARN of a role", r.RoleARN), Help: "such as arn:aws:iam::123456789012:role/deploy"})
	}
	if r.Policy != nil || r.PermissionsBoundary != "" {
		errs = append(errs, &target.FieldError{Path: "policy", Text: "it is for what is made per lease", Help: "session_policy narrows a role that exists"})
	}
	return errs
}

func (r Rights) validatePerLease() []error {
	most := maxUserPolicy
	var errs []error
	switch r.PerLease {
	case perUser:
	case perRole:
		most = maxRolePolicy
	default:
		errs = append(errs, target.Wrong("per_lease", "%q is not user or role", r.PerLease))
	}
	errs = append(errs, checkPolicy("policy", r.Policy, most))
	if r.SessionPolicy != nil {
		errs = append(errs, &target.FieldError{Path: "session_policy", Text: "it narrows a role that exists", Help: "policy is what the user or role of a lease may do"})
	}
	if r.Policy == nil && len(r.PolicyARNs) == 0 {
		errs = append(errs, target.Wrong("policy", "want policy or policy_arns: without them it may do nothing"))
	}
	if r.PermissionsBoundary != "" && !policyForm.MatchString(r.PermissionsBoundary) {
		errs = append(errs, target.Wrong("permissions_boundary", "%q is not the ARN of a managed policy", r.PermissionsBoundary))
	}
	return errs
}

// checkPolicy refuses what is no policy document, as far as that can be told without AWS.
func checkPolicy(field string, policy map[string]any, most int) error {
	if policy == nil {
		return nil
	}
	if policy["Version"] != "2012-10-17" {
		return &target.FieldError{Path: field + ".Version", Text: "want \"2012-10-17\"", Help: "in quotes: without them YAML reads a date"}
	}
	switch policy["Statement"].(type) {
	case map[string]any, []any:
	default:
		return target.Wrong(field+".Statement", "want statements")
	}
	if text, err := json.Marshal(policy); err != nil || len(text) > most {
		return target.Wrong(field, "it is more than %d bytes", most)
	}
	return nil
}

// document is a policy as AWS takes it.
func document(policy map[string]any) (string, error) {
	text, err := json.Marshal(policy)
	return string(text), err
}

// readRights reads rights as the configuration keeps them, strictly.
func readRights(text json.RawMessage) (r Rights, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	dec.UseNumber()
	if err = dec.Decode(&r); err != nil {
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
