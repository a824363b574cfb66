package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/daypass/daypass/target"
)

// A deny is an inline policy of the role, of its own for each session and called as the session is: two of them never meet
// in one document, so that no revocation can undo another, whichever servers write at once. AWS has room for 10,240
// bytes of inline policies on a role, which is about sixty denies. Each says when its session is dead anyway, and
// [Sessions.Clean] then takes it away.

// sidForm is how the statement of a deny says until when it is needed: an Sid holds letters and digits alone.
const sidForm = "until20060102T150405Z"

// denial is the document of a deny. A session's aws:userid is the role's ID, a colon and the session's name, which has no
// colon in it.
func (a *account) denial(lease string, until time.Time) (string, error) {
	return document(map[string]any{
		"Version": "2012-10-17",
		"Statement": map[string]any{
			"Sid": until.UTC().Format(sidForm), "Effect": "Deny", "Action": "*", "Resource": "*",
			"Condition": map[string]any{"StringLike": map[string]any{"aws:userid": "*:" + a.name(lease)}},
		},
	})
}

// deny ends a session, reads back that it has, and waits until AWS knows.
func (s *Sessions) deny(ctx context.Context, role, lease string, dead time.Time) error {
	on, err := roleName(role)
	if err != nil {
		return err
	}
	text, err := s.denial(lease, dead)
	if err != nil {
		return err
	}
	in := &iam.PutRolePolicyInput{RoleName: &on, PolicyName: sdk.String(s.name(lease)), PolicyDocument: &text}
	_, err = s.iam.PutRolePolicy(ctx, in)
	if said(err) == "LimitExceeded" {
		if _, err = s.prune(ctx, on); err == nil {
			_, err = s.iam.PutRolePolicy(ctx, in)
		}
	}
	switch {
	case said(err) == "LimitExceeded":
		s.log.WarnContext(ctx, "a role has no room for another deny: its session is left to its end", "lease", lease, "role", role)
		return &target.UnexpiredError{Until: dead}
	case isAbsent(err): // the role is gone, and its sessions with it
		return nil
	case err != nil:
		return fmt.Errorf("put a deny on role %s: %w", on, told(err))
	}
	if err := s.denied(ctx, on, lease, text); err != nil {
		return err
	}
	if err := pause(ctx, s.cfg.Settings.settle()); err != nil {
		return fmt.Errorf("wait until AWS knows of the deny: %w", err)
	}
	return nil
}

// denied makes sure that a deny is there. IAM may take a while to tell what it was told.
func (s *Sessions) denied(ctx context.Context, role, lease, want string) error {
	return s.eventually(ctx, func() (bool, error) {
		answer, err := s.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &role, PolicyName: sdk.String(s.name(lease))})
		if isAbsent(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read the deny on role %s: %w", role, told(err))
		}
		text, err := url.QueryUnescape(sdk.ToString(answer.PolicyDocument))
		return text == want, err
	})
}

// eventually asks until the answer is yes, or as long as ctx allows.
func (a *account) eventually(ctx context.Context, ask func() (bool, error)) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		if yes, err := ask(); yes || err != nil {
			return err
		}
		if err := pause(ctx, wait); err != nil {
			return fmt.Errorf("AWS does not show the change yet: %w", err)
		}
	}
}

// Clean takes away the denies of sessions that are dead anyway, on the roles that were told of last.
func (s *Sessions) Clean(ctx context.Context) (target.Residue, error) {
	var left target.Residue
	if s.iam == nil || s.cfg.Roles == nil {
		return left, nil
	}
	roles, err := s.cfg.Roles(ctx)
	if err != nil {
		return left, fmt.Errorf("clean %s: %w", s.title(), err)
	}
	var errs []error
	for _, role := range arns(roles) {
		name, err := roleName(role)
		if err == nil {
			_, err = s.prune(ctx, name)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return left, fmt.Errorf("clean %s: %w", s.title(), err)
	}
	return left, nil
}

// arns are the roles at AWS, each once.
func arns(roles map[string]string) []string {
	return slices.Compact(slices.Sorted(maps.Values(roles)))
}

// prune deletes the denies on a role whose time is over, and counts those that stay.
func (s *Sessions) prune(ctx context.Context, role string) (kept int, err error) {
	pages := iam.NewListRolePoliciesPaginator(s.iam, &iam.ListRolePoliciesInput{RoleName: &role})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return kept, absent(err)
		}
		for _, name := range page.PolicyNames {
			if _, ours := s.lease(name); !ours {
				continue
			}
			over, err := s.isOver(ctx, role, name)
			if err == nil && over {
				_, err = s.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &role, PolicyName: &name})
			}
			if err := absent(err); err != nil {
				return kept, fmt.Errorf("delete deny %s on role %s: %w", name, role, err)
			}
			if !over {
				kept++
			}
		}
	}
	return kept, nil
}

// isOver reports whether the session that a deny is about is dead anyway. What cannot be read stays.
func (s *Sessions) isOver(ctx context.Context, role, name string) (bool, error) {
	answer, err := s.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &role, PolicyName: &name})
	if err != nil {
		return false, err
	}
	text, err := url.QueryUnescape(sdk.ToString(answer.PolicyDocument))
	if err != nil {
		return false, err
	}
	var policy struct{ Statement struct{ Sid string } }
	if err := json.Unmarshal([]byte(text), &policy); err != nil {
		return false, nil
	}
	until, err := time.Parse(sidForm, policy.Statement.Sid)
	return err == nil && s.cfg.Now().After(until), nil
}

// roleName is the last part of a role's ARN: what IAM asks for, without the path.
func roleName(arn string) (string, error) {
	if !roleForm.MatchString(arn) {
		return "", fmt.Errorf("%q is not the ARN of a role", arn)
	}
	return arn[strings.LastIndexByte(arn, '/')+1:], nil
}
