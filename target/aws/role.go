package aws

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/daypass/daypass/target"
)

// roles are IAM roles, one per lease, that only our token for that lease can take.
type roles struct{ *account }

func (roles) what() string { return "role" }

func (r roles) make(ctx context.Context, f fresh) error {
	trust, err := r.trust(f)
	if err != nil {
		return err
	}
	most := int32(math.Ceil(max(f.longest, time.Hour).Seconds())) // AWS takes no less than an hour
	in := &iam.CreateRoleInput{RoleName: &f.name, Path: &f.path, Tags: f.tags, AssumeRolePolicyDocument: &trust, MaxSessionDuration: &most}
	if f.boundary != "" {
		in.PermissionsBoundary = &f.boundary
	}
	_, err = r.iam.CreateRole(ctx, in)
	return err
}

// trust is the trust policy of a lease's role: our issuer, and the subject that is this lease's alone. A tomb trusts nobody.
func (r roles) trust(f fresh) (string, error) {
	part := managerForm.FindStringSubmatch(r.cfg.Settings.Manage.RoleARN)
	host := strings.TrimPrefix(r.cfg.Issuer, "https://")
	statement := map[string]any{
		"Effect":    "Allow",
		"Principal": map[string]any{"Federated": "arn:" + part[1] + ":iam::" + part[2] + ":oidc-provider/" + host},
		"Action":    []string{"sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"},
		"Condition": map[string]any{"StringEquals": map[string]any{host + ":aud": r.cfg.Settings.Aud(), host + ":sub": leaseSubject(f.lease)}},
	}
	if f.tomb {
		statement = map[string]any{"Effect": "Deny", "Principal": "*", "Action": "sts:*"}
	}
	return document(map[string]any{"Version": "2012-10-17", "Statement": statement})
}

func (r roles) path(ctx context.Context, name string) (string, error) {
	answer, err := r.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if err != nil {
		return "", absent(err)
	}
	if answer.Role == nil {
		return "", errors.New("the answer has no role")
	}
	return sdk.ToString(answer.Role.Path), nil
}

func (r roles) allow(ctx context.Context, name, policy, document string) error {
	_, err := r.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &name, PolicyName: &policy, PolicyDocument: &document})
	return err
}

func (r roles) attach(ctx context.Context, name, arn string) error {
	_, err := r.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: &name, PolicyArn: &arn})
	return err
}

func (r roles) document(ctx context.Context, name, policy string) (string, error) {
	answer, err := r.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &name, PolicyName: &policy})
	if err != nil {
		return "", absent(err)
	}
	return url.QueryUnescape(sdk.ToString(answer.PolicyDocument))
}

// enter takes the role of a lease. AWS refuses a role that is new until it is known everywhere.
func (p *Principals) enter(ctx context.Context, g target.Grant, until time.Time) (c target.Credential, err error) {
	account := managerForm.FindStringSubmatch(p.cfg.Settings.Manage.RoleARN)
	arn := "arn:" + account[1] + ":iam::" + account[2] + ":role" + p.livePath() + p.name(g.Lease)
	token := Token{ID: p.name(g.Lease), Subject: leaseSubject(g.Lease), Audience: p.cfg.Settings.Aud(), TTL: tokenTTL, Claims: p.claims(g)}
	settled, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	var answer *sts.AssumeRoleWithWebIdentityOutput
	var refusal error
	err = p.eventually(settled, func() (bool, error) {
		answer, refusal = p.assume(settled, token, p.order(arn, g.Lease, p.sessionTime(g.TTL)))
		if code := said(refusal); refusal != nil && code != "AccessDenied" && code != "InvalidIdentityToken" {
			return false, refusal
		}
		return refusal == nil, nil
	})
	if err != nil {
		// Not a refusal, even where AWS refused: the role is there.
		return c, fmt.Errorf("assume %s: %s", arn, errors.Join(err, refusal).Error())
	}
	c, err = p.credential(answer, target.Instant)
	if err == nil {
		c.Attributes["expires_at"] = until.Format(time.RFC3339) // the role's own policy ends it then
	}
	return c, err
}

// disarm has nothing to take: sessions of a role end with its rights.
func (r roles) disarm(context.Context, string) error { return nil }

// destroy takes everything of a role away, rights first, and the role last.
func (r roles) destroy(ctx context.Context, name string) error {
	for _, step := range []struct {
		what string
		do   func(context.Context, string) error
	}{{"inline policies", r.dropInline}, {"attached policies", r.dropAttached}, {"instance profiles", r.leaveProfiles}} {
		if err := step.do(ctx, name); err != nil {
			return fmt.Errorf("take its %s away: %w", step.what, err)
		}
	}
	_, err := r.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &name})
	return absent(err)
}

func (r roles) dropInline(ctx context.Context, name string) error {
	pages := iam.NewListRolePoliciesPaginator(r.iam, &iam.ListRolePoliciesInput{RoleName: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return absent(err)
		}
		for _, policy := range page.PolicyNames {
			if _, err := r.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &name, PolicyName: &policy}); absent(err) != nil {
				return told(err)
			}
		}
	}
	return nil
}

func (r roles) dropAttached(ctx context.Context, name string) error {
	pages := iam.NewListAttachedRolePoliciesPaginator(r.iam, &iam.ListAttachedRolePoliciesInput{RoleName: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return absent(err)
		}
		for _, policy := range page.AttachedPolicies {
			if _, err := r.iam.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: &name, PolicyArn: policy.PolicyArn}); absent(err) != nil {
				return told(err)
			}
		}
	}
	return nil
}

func (r roles) leaveProfiles(ctx context.Context, name string) error {
	pages := iam.NewListInstanceProfilesForRolePaginator(r.iam, &iam.ListInstanceProfilesForRoleInput{RoleName: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return absent(err)
		}
		for _, profile := range page.InstanceProfiles {
			in := &iam.RemoveRoleFromInstanceProfileInput{RoleName: &name, InstanceProfileName: profile.InstanceProfileName}
			if _, err := r.iam.RemoveRoleFromInstanceProfile(ctx, in); absent(err) != nil {
				return told(err)
			}
		}
	}
	return nil
}

func (r roles) list(ctx context.Context, path string, do func(string, string, time.Time) error) error {
	pages := iam.NewListRolesPaginator(r.iam, &iam.ListRolesInput{PathPrefix: &path})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return told(err)
		}
		for _, one := range page.Roles {
			if err := do(sdk.ToString(one.RoleName), sdk.ToString(one.Path), sdk.ToTime(one.CreateDate)); err != nil {
				return err
			}
		}
	}
	return nil
}
