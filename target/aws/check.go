package aws

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/daypass/daypass/target"
)

// howto says what to apply.
const howto = "docs/howto/aws-target.md has the policies to apply"

// Check takes each role by a token as workloads have it, for a session that may do nothing, and tries what ending sessions
// takes. It changes nothing: it deletes a deny that does not exist.
func (s *Sessions) Check(ctx context.Context) ([]target.Finding, error) {
	found, err := s.check(ctx)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", s.title(), err)
	}
	return found, nil
}

func (s *Sessions) check(ctx context.Context) (found []target.Finding, err error) {
	var roles map[string]string
	if s.cfg.Roles != nil {
		if roles, err = s.cfg.Roles(ctx); err != nil {
			return nil, err
		}
	}
	for _, role := range slices.Sorted(maps.Keys(roles)) {
		refused, err := s.try(ctx, role, roles[role])
		if err != nil {
			return nil, err
		}
		found = append(found, refused...)
	}
	if s.iam == nil {
		return append(found, target.Finding{
			Severity: target.Note, Message: "sessions cannot be ended early: they are waited out, 15 minutes at least",
			Fix: "give the target manage: {role_arn: …}; " + howto,
		}), nil
	}
	ending, err := s.checkEnding(ctx, arns(roles))
	return append(found, ending...), err
}

// checkEnding tries what ending the sessions of roles takes.
func (s *Sessions) checkEnding(ctx context.Context, roles []string) (found []target.Finding, err error) {
	for _, arn := range roles {
		name, err := roleName(arn)
		if err == nil {
			_, err = s.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &name, PolicyName: sdk.String(s.prefix() + "check")})
		}
		if err = absent(err); said(err) == "" && err != nil {
			return nil, err
		}
		if err != nil {
			found = append(found, target.Finding{Severity: target.Problem, Message: "sessions of " + arn + " cannot be ended early: " + err.Error(), Fix: howto})
			continue
		}
		wide, err := s.trustsWidely(ctx, name)
		if err == nil && wide {
			found = append(found, target.Finding{Severity: target.Warning, Message: arn + " can be taken by others than our tokens, which may call their sessions as they like", Fix: "let its trust policy name our issuer alone: daypass trust render aws ROLE"})
		}
	}
	return found, nil
}

// trustsWidely reports whether a role's trust policy lets in whoever it does not name. It may not be readable.
func (s *Sessions) trustsWidely(ctx context.Context, name string) (bool, error) {
	answer, err := s.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if err != nil || answer.Role == nil {
		return false, err
	}
	text, err := url.QueryUnescape(sdk.ToString(answer.Role.AssumeRolePolicyDocument))
	return err == nil && anyPrincipal(text), err
}

// Check looks for what users and roles per lease take, and changes nothing: it deletes what does not exist.
func (p *Principals) Check(ctx context.Context) ([]target.Finding, error) {
	var found []target.Finding
	nobody := p.prefix() + "check"
	tries := []struct {
		what string
		try  func() error
	}{
		{"list users", func() error {
			_, err := p.iam.ListUsers(ctx, &iam.ListUsersInput{PathPrefix: sdk.String(p.livePath()), MaxItems: sdk.Int32(1)})
			return err
		}},
		{"list roles", func() error {
			_, err := p.iam.ListRoles(ctx, &iam.ListRolesInput{PathPrefix: sdk.String(p.livePath()), MaxItems: sdk.Int32(1)})
			return err
		}},
		{"delete keys of users", func() error { return users{p.account}.disarm(ctx, nobody) }},
		{"delete users", func() error {
			_, err := p.iam.DeleteUser(ctx, &iam.DeleteUserInput{UserName: &nobody})
			return err
		}},
		{"delete roles", func() error {
			_, err := p.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &nobody})
			return err
		}},
	}
	for _, t := range tries {
		err := absent(t.try())
		if err != nil && said(err) == "" {
			return nil, fmt.Errorf("check %s: %s: %w", p.title(), t.what, err)
		}
		if err != nil {
			found = append(found, target.Finding{Severity: target.Problem, Message: "the role that manages may not " + t.what + ": " + err.Error(), Fix: howto})
		}
	}
	// A name outside our own: what may be deleted there is more than we need.
	if _, err := p.iam.DeleteUser(ctx, &iam.DeleteUserInput{UserName: sdk.String("daypass-has-no-such-user")}); isAbsent(err) {
		found = append(found, target.Finding{Severity: target.Warning, Message: "the role that manages may delete users that are not of Daypass", Fix: "give it /daypass/" + p.cfg.Instance + "/* alone; " + howto})
	}
	return found, nil
}

// anyPrincipal reports whether a trust policy allows something to everybody of AWS without a condition.
func anyPrincipal(text string) bool {
	var policy struct{ Statement json.RawMessage }
	if json.Unmarshal([]byte(text), &policy) != nil {
		return false
	}
	type statement struct {
		Effect    string
		Principal any
		Condition map[string]any
	}
	var all []statement
	if json.Unmarshal(policy.Statement, &all) != nil {
		var one statement
		if json.Unmarshal(policy.Statement, &one) != nil {
			return false
		}
		all = []statement{one}
	}
	return slices.ContainsFunc(all, func(s statement) bool {
		named, _ := s.Principal.(map[string]any)
		return s.Effect == "Allow" && len(s.Condition) == 0 && (s.Principal == "*" || named["AWS"] == "*")
	})
}
