package aws_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/aws"
	"github.com/daypass/daypass/target/targettest"
)

// fakeAccount is an account of moto, where IAM is enforced, with a role that manages and a role app that reads.
type fakeAccount struct {
	*rig
	moto *testbed.Moto
	iam  *iam.Client // may do everything
	sts  *sts.Client
}

func newAccount(t testing.TB) *fakeAccount {
	t.Helper()
	a := &fakeAccount{rig: newRig(t), moto: testbed.OwnMoto(t)}
	base := sdk.Config{Region: "us-east-1", BaseEndpoint: &a.moto.URL, Credentials: sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) {
		return sdk.Credentials{AccessKeyID: "setup", SecretAccessKey: "setup"}, nil
	})}
	a.iam, a.sts = iam.NewFromConfig(base), sts.NewFromConfig(base)
	everything := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
	for _, role := range []string{"daypass", "app"} {
		a.must(t, func(ctx context.Context) error {
			_, err := a.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: &role, AssumeRolePolicyDocument: &everything})
			return err
		})
	}
	manage := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:*","Resource":"*"}}`
	a.must(t, func(ctx context.Context) error {
		_, err := a.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: sdk.String("daypass"), PolicyName: sdk.String("manage"), PolicyDocument: &manage})
		return err
	})
	// The owner's key is one that moto enforces like any other.
	a.must(t, func(ctx context.Context) error {
		if _, err := a.iam.CreateUser(ctx, &iam.CreateUserInput{UserName: sdk.String("owner")}); err != nil {
			return err
		}
		if _, err := a.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: sdk.String("owner"), PolicyName: sdk.String("all"), PolicyDocument: &everything}); err != nil {
			return err
		}
		made, err := a.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: sdk.String("owner")})
		if err == nil {
			base.Credentials = sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) {
				return sdk.Credentials{AccessKeyID: *made.AccessKey.AccessKeyId, SecretAccessKey: *made.AccessKey.SecretAccessKey}, nil
			})
			a.iam, a.sts = iam.NewFromConfig(base), sts.NewFromConfig(base)
		}
		return err
	})
	a.moto.Enforce(t, true)
	return a
}

// again is the same account for another instance of Daypass.
func (a *fakeAccount) again() *fakeAccount {
	other := *a
	other.rig = &rig{issuer: a.issuer, book: &book{leases: map[string]aws.Held{}}, log: &testbed.Log{}, instance: targettest.Lease()[:6]}
	return &other
}

func (a *fakeAccount) must(t testing.TB, do func(context.Context) error) {
	t.Helper()
	if err := do(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func (a *fakeAccount) arn(role string) string {
	return "arn:aws:iam::" + a.moto.Account + ":role/" + role
}

func (a *fakeAccount) settings(address string, perLease bool) aws.Settings {
	return aws.Settings{
		STS: "http://" + address, IAM: "http://" + address,
		Manage: &aws.Manage{RoleARN: a.arn("daypass"), PerLease: perLease, Settle: short(0)},
	}
}

func (a *fakeAccount) open(t testing.TB, address string) principals {
	t.Helper()
	p, err := aws.NewPrincipals(a.config(a.settings(address, true)))
	if err != nil {
		t.Fatal(err)
	}
	return principals{p, a.book}
}

// lister are rights to list the users of the account.
func lister(kind string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"per_lease":%q,"policy":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:ListUsers","Resource":"*"}]}}`, kind))
}

// act does something at IAM with a credential.
func (a *fakeAccount) act(ctx context.Context, c target.Credential, action string) error {
	form := url.Values{"Action": {action}, "Version": {"2010-05-08"}}
	_, err := ask(ctx, keysOf(c), "iam", http.MethodPost, a.moto.URL, form.Encode())
	return err
}

// alive looks at what opens anything as the user or role of a lease: a key or a trust that no deny of everything holds.
func (a *fakeAccount) alive(ctx context.Context, lease string) (bool, error) {
	name := "dp_" + a.instance + "_" + lease
	keys, err := a.iam.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: &name})
	if err == nil && len(keys.AccessKeyMetadata) > 0 {
		_, denied := a.iam.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: &name, PolicyName: sdk.String("nothing")})
		return denied != nil, nil
	}
	role, err := a.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if err == nil {
		return strings.Contains(*role.Role.Path, "/live/"), nil
	}
	if strings.Contains(err.Error(), "NoSuchEntity") {
		return false, nil
	}
	return false, err
}

// TestPrincipalsConform runs on moto, which verifies signatures and enforces identity policies.
func TestPrincipalsConform(t *testing.T) {
	t.Parallel()
	all := newAccount(t)
	for _, kind := range []string{"user", "role"} {
		t.Run("a "+kind+" per lease", func(t *testing.T) {
			t.Parallel()
			targettest.RunTogether(t, func(t *testing.T) targettest.Fixture { return principalFixture(t, all.again(), kind) })
		})
	}
}

func principalFixture(t *testing.T, a *fakeAccount, kind string) targettest.Fixture {
	return targettest.Fixture{
		Target: a.open(t, a.moto.Address()),
		Rights: lister(kind),
		Mark:   target.Mark{Instance: a.instance, Target: "account-a", Boot: 1},
		Try:    func(ctx context.Context, c target.Credential) error { return a.act(ctx, c, "ListUsers") },
		Exceed: func(ctx context.Context, c target.Credential) error { return a.act(ctx, c, "ListRoles") },
		Alive:  a.alive,
		Name:   func(c target.Credential) string { return c.Attributes["principal"].(string) },
		Logs:   a.log.String,
		Faulty: func() targettest.Faulty {
			proxy := testbed.StartProxy(t, a.moto.Address())
			return targettest.Faulty{
				Target:      a.open(t, proxy.Address()),
				LoseAnswers: func() { proxy.Set(testbed.DropAnswers) },
				Hold:        func() { proxy.Set(testbed.Hold) },
				Heal: func() {
					proxy.Heal()
					// What was held has arrived when moto is done with it; a moment is enough on a loopback.
					<-time.After(500 * time.Millisecond)
				},
				Successor: func() target.Target { return a.open(t, a.moto.Address()) },
			}
		},
		Skips: map[targettest.Capability]string{
			targettest.Sessions:  "AWS checks each request by itself: there is nothing that stays open",
			targettest.Renewal:   "the time of a session and of a role's sessions is set at their beginning: acquire another",
			targettest.Narrowing: "a session keeps the policy that it was asked for with",
			targettest.Clocks:    "AWS says no time but in what it signs",
		},
	}
}
