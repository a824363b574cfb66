package aws

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// Sessions is a target whose credentials are sessions of roles that exist. Its methods may be called concurrently.
//
// A session whose answer was lost is held by nobody, and neither is one that comes late: what was not handed out needs no
// revocation.
type Sessions struct{ *account }

var (
	_ target.Target  = (*Sessions)(nil)
	_ target.Cleaner = (*Sessions)(nil)
	_ target.Checker = (*Sessions)(nil)
)

// NewSessions makes a target of cfg and connects to nothing.
func NewSessions(cfg Config) (*Sessions, error) {
	a, err := newAccount(cfg)
	if err == nil && cfg.Settings.Manage != nil && cfg.Settings.Manage.PerLease {
		err = target.Wrong("manage.per_lease", "this target has principals per lease")
	}
	if err != nil {
		return nil, err
	}
	return &Sessions{a}, nil
}

// Grant assumes the role.
func (s *Sessions) Grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	c, err := s.grant(ctx, g)
	if err != nil {
		return target.Credential{}, fmt.Errorf("grant lease %.40q on %s: %w", g.Lease, s.title(), err)
	}
	return c, nil
}

func (s *Sessions) grant(ctx context.Context, g target.Grant) (c target.Credential, err error) {
	rights, err := begin(ctx, g)
	if err == nil && rights.RoleARN == "" {
		err = target.NotDone(errors.New("the role makes something per lease, for which the target needs manage: {per_lease: true}"))
	}
	if err != nil {
		return c, err
	}
	order := s.order(rights.RoleARN, g.Lease, s.sessionTime(g.TTL))
	if rights.SessionPolicy != nil {
		text, err := document(rights.SessionPolicy)
		if err != nil {
			return c, target.NotDone(err)
		}
		order.Policy = &text
	}
	for _, arn := range rights.PolicyARNs {
		order.PolicyArns = append(order.PolicyArns, types.PolicyDescriptorType{Arn: &arn})
	}
	token := Token{ID: s.name(g.Lease), Subject: "role:" + g.Role, Audience: s.cfg.Settings.Aud(), TTL: tokenTTL, Claims: s.claims(g)}
	if s.cfg.Settings.TokenLife {
		token.TTL = g.TTL
	}
	answer, err := s.assume(ctx, token, order)
	if err != nil {
		return c, fmt.Errorf("assume %s: %w", rights.RoleARN, err)
	}
	class := target.Bounded
	if s.cfg.Settings.Manage != nil {
		class = target.Assisted
	}
	return s.credential(answer, class)
}

// sessionTime is how long the session of a lease lives; zero where its token says it.
func (a *account) sessionTime(ttl time.Duration) time.Duration {
	if a.cfg.Settings.TokenLife {
		return 0
	}
	return max(ttl, shortest)
}

// order asks for a session of a role.
func (a *account) order(role, lease string, life time.Duration) *sts.AssumeRoleWithWebIdentityInput {
	in := &sts.AssumeRoleWithWebIdentityInput{RoleArn: &role, RoleSessionName: sdk.String(a.name(lease))}
	if life > 0 {
		in.DurationSeconds = sdk.Int32(int32(math.Ceil(life.Seconds())))
	}
	return in
}

// assume shows AWS a token. Nothing is done when the answer is a refusal.
func (a *account) assume(ctx context.Context, t Token, order *sts.AssumeRoleWithWebIdentityInput) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	token, err := a.cfg.Sign(ctx, t)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, target.NotDone(fmt.Errorf("sign a token: %w", err))
	}
	order.WebIdentityToken = sdk.String(token.Reveal())
	answer, err := a.sts.AssumeRoleWithWebIdentity(ctx, order)
	if err != nil {
		return nil, refused(err)
	}
	c := answer.Credentials
	if c == nil || c.AccessKeyId == nil || c.SecretAccessKey == nil || c.SessionToken == nil || c.Expiration == nil {
		return nil, errors.New("the answer has no credentials")
	}
	return answer, nil
}

// credential is what a workload gets of a session.
func (a *account) credential(answer *sts.AssumeRoleWithWebIdentityOutput, class target.Revocation) (target.Credential, error) {
	c := answer.Credentials
	principal := ""
	if answer.AssumedRoleUser != nil {
		principal = sdk.ToString(answer.AssumedRoleUser.Arn)
	}
	return a.handOver(sdk.Credentials{AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey, SessionToken: *c.SessionToken}, principal, *c.Expiration, class), nil
}

func (a *account) handOver(keys sdk.Credentials, principal string, until time.Time, class target.Revocation) target.Credential {
	c := target.Credential{
		Type: Kind,
		Attributes: map[string]any{
			"access_key_id": keys.AccessKeyID, "region": a.cfg.Settings.Region, "principal": principal,
			"expires_at": until.UTC().Format(time.RFC3339),
		},
		Secrets:    map[string]secret.Text{"secret_access_key": secret.New(keys.SecretAccessKey)},
		Revocation: class,
	}
	if keys.SessionToken != "" {
		c.Secrets["session_token"] = secret.New(keys.SessionToken)
	}
	if a.cfg.Client.Endpoint != "" {
		c.Attributes["endpoint"] = a.cfg.Client.Endpoint
	}
	return c
}

// Revoke ends the session of a lease by a deny, where the target manages its roles, and otherwise says until when it
// lives. So it does where AWS has no room for another deny.
func (s *Sessions) Revoke(ctx context.Context, lease string) error {
	if err := s.revoke(ctx, lease); err != nil {
		return fmt.Errorf("revoke lease %.40q on %s: %w", lease, s.title(), err)
	}
	return nil
}

func (s *Sessions) revoke(ctx context.Context, lease string) error {
	if err := target.CheckLease(lease); err != nil {
		return err
	}
	held, err := s.cfg.Lease(ctx, lease)
	if err != nil {
		return fmt.Errorf("what was granted: %w", err)
	}
	if !held.HandedOut {
		return nil
	}
	if rights, err := readRights(held.Rights); err == nil && rights.PerLease != "" {
		return fmt.Errorf("it has a %s of its own: the target needs manage.per_lease, as when it was granted", rights.PerLease)
	}
	dead := s.dead(held)
	if !s.cfg.Now().Before(dead) {
		return nil
	}
	if s.cfg.Settings.Manage == nil {
		return &target.UnexpiredError{Until: dead}
	}
	rights, err := readRights(held.Rights)
	if err != nil {
		return err
	}
	return s.deny(ctx, rights.RoleARN, lease, dead)
}

// dead is when the session of a lease has ended by itself, whatever the clocks. AWS began to count after the lease was
// made, and before it was handed out.
func (s *Sessions) dead(h Held) time.Time {
	const patience = 30 * time.Second // of a broker with a grant
	if s.cfg.Settings.TokenLife {
		return h.Until.Add(s.cfg.Settings.leeway())
	}
	return h.Made.Add(s.sessionTime(h.Until.Sub(h.Made)) + patience + s.cfg.Settings.leeway())
}
