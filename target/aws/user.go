package aws

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/daypass/daypass/target"
)

// users are IAM users, one per lease.
type users struct{ *account }

func (users) what() string { return "user" }

func (u users) make(ctx context.Context, f fresh) error {
	in := &iam.CreateUserInput{UserName: &f.name, Path: &f.path, Tags: f.tags}
	if f.boundary != "" {
		in.PermissionsBoundary = &f.boundary
	}
	_, err := u.iam.CreateUser(ctx, in)
	return err
}

func (u users) path(ctx context.Context, name string) (string, error) {
	answer, err := u.iam.GetUser(ctx, &iam.GetUserInput{UserName: &name})
	if err != nil {
		return "", absent(err)
	}
	if answer.User == nil {
		return "", errors.New("the answer has no user")
	}
	return sdk.ToString(answer.User.Path), nil
}

func (u users) allow(ctx context.Context, name, policy, document string) error {
	_, err := u.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &name, PolicyName: &policy, PolicyDocument: &document})
	return err
}

func (u users) attach(ctx context.Context, name, arn string) error {
	_, err := u.iam.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: &name, PolicyArn: &arn})
	return err
}

func (u users) document(ctx context.Context, name, policy string) (string, error) {
	answer, err := u.iam.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: &name, PolicyName: &policy})
	if err != nil {
		return "", absent(err)
	}
	return url.QueryUnescape(sdk.ToString(answer.PolicyDocument))
}

// key makes the access key of a user, and waits until AWS knows it.
func (p *Principals) key(ctx context.Context, name string, until time.Time) (c target.Credential, err error) {
	answer, err := p.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &name})
	if err != nil {
		return c, fmt.Errorf("make the key of user %s: %w", name, told(err))
	}
	if k := answer.AccessKey; k == nil || k.AccessKeyId == nil || k.SecretAccessKey == nil {
		return c, errors.New("the answer has no key")
	}
	keys := sdk.Credentials{AccessKeyID: *answer.AccessKey.AccessKeyId, SecretAccessKey: *answer.AccessKey.SecretAccessKey}
	as := sts.New(p.sts.Options(), func(o *sts.Options) {
		o.Credentials = sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) { return keys, nil })
	})
	settled, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	principal := ""
	err = p.eventually(settled, func() (bool, error) {
		who, err := as.GetCallerIdentity(settled, &sts.GetCallerIdentityInput{})
		if err == nil {
			principal = sdk.ToString(who.Arn)
		}
		return err == nil, settled.Err()
	})
	if err != nil {
		p.log.WarnContext(ctx, "a key is handed out before AWS knows it everywhere", "user", name)
	}
	return p.handOver(keys, principal, until, target.Instant), ctx.Err()
}

// disarm deletes the access keys: the one thing that opens anything as a user of ours.
func (u users) disarm(ctx context.Context, name string) error {
	keys, err := u.iam.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: &name}) // a user has two at most
	if err != nil {
		return absent(err)
	}
	for _, key := range keys.AccessKeyMetadata {
		if _, err := u.iam.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: &name, AccessKeyId: key.AccessKeyId}); absent(err) != nil {
			return told(err)
		}
	}
	return nil
}

// destroy takes everything of a user away in the order that AWS asks for: what opens something first, then what gives
// rights, the user last. Whoever had the credential may have given its user more than we did.
func (u users) destroy(ctx context.Context, name string) error {
	for _, step := range []struct {
		what string
		do   func(context.Context, string) error
	}{
		{"access keys", u.disarm}, {"login profile", u.dropLogin}, {"MFA devices", u.dropDevices}, {"SSH keys", u.dropSSHKeys},
		{"service credentials", u.dropServiceCredentials}, {"signing certificates", u.dropCertificates},
		{"inline policies", u.dropInline}, {"attached policies", u.dropAttached}, {"groups", u.leaveGroups},
	} {
		if err := step.do(ctx, name); err != nil {
			return fmt.Errorf("take its %s away: %w", step.what, err)
		}
	}
	_, err := u.iam.DeleteUser(ctx, &iam.DeleteUserInput{UserName: &name})
	return absent(err)
}

func (u users) list(ctx context.Context, path string, do func(string, string, time.Time) error) error {
	pages := iam.NewListUsersPaginator(u.iam, &iam.ListUsersInput{PathPrefix: &path})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return told(err)
		}
		for _, one := range page.Users {
			if err := do(sdk.ToString(one.UserName), sdk.ToString(one.Path), sdk.ToTime(one.CreateDate)); err != nil {
				return err
			}
		}
	}
	return nil
}
