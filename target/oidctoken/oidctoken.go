// Package oidctoken is the kind of target that is no server at all: a role of it is a token, signed by Daypass as an
// OpenID Connect issuer, for a service that trusts that issuer.
//
// It promises that no two holders have one subject unless the role says so, whatever is in their claims
// (template.go), and it tells the truth about revocation: nobody can pull a token, so that a lease is revoked when its
// token has expired and those who verify it, with clocks of their own, have had time to notice.
//
// It keeps no state: what signs and what remembers until when a token lives are given to it. It must not import
// anything internal.
package oidctoken

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// Kind is how access files call a target of this kind, and what a credential of it is called.
const Kind = "oidc-token"

// MaxTTL is how long a token lives at most.
const MaxTTL = 24 * time.Hour

// Settings is the `oidc-token:` section of a target.
type Settings struct {
	// Leeway is how long those who verify the tokens may go on accepting one that has expired, because their clocks are
	// late; 1m unless given, 10m at most. A lease is called revoked when it has passed.
	Leeway *api.Duration `yaml:"leeway" json:"leeway,omitempty"`
}

const (
	usualLeeway = time.Minute
	maxLeeway   = 10 * time.Minute
)

// Validate returns every mistake, each a [target.FieldError].
func (s Settings) Validate() error {
	if leeway := s.leeway(); leeway > maxLeeway {
		return target.Wrong("leeway", "verifiers that go on for %s are not to be waited for: at most %s", leeway, api.Duration(maxLeeway))
	}
	return nil
}

func (s Settings) leeway() time.Duration {
	if s.Leeway == nil {
		return usualLeeway
	}
	return time.Duration(*s.Leeway)
}

// Order is a token to be signed.
type Order struct {
	ID        string // jti
	Algorithm string // empty: the issuer's own
	Subject   string
	Audience  string
	TTL       time.Duration
	Claims    map[string]any
}

// Config is everything that [New] needs.
type Config struct {
	Instance string // the installation: a part of every jti
	Issuer   string // URL of the issuer that signs
	Settings Settings
	Sign     func(context.Context, Order) (secret.Text, error)
	// Until tells until when a token that was handed out for a lease lives; the zero time where none was.
	Until func(ctx context.Context, lease string) (time.Time, error)
	Now   func() time.Time
}

// Target signs tokens.
type Target struct{ cfg Config }

var (
	_ target.Target  = (*Target)(nil)
	_ target.Offline = (*Target)(nil)
)

// New returns a target. It connects to nothing.
func New(cfg Config) (*Target, error) {
	if err := cfg.Settings.Validate(); err != nil {
		return nil, err
	}
	return &Target{cfg}, nil
}

// Offline reports that nobody is asked for a token and nobody learns of one.
func (t *Target) Offline() bool { return true }

// Grant signs a token. It changes nothing anywhere: a token that reaches nobody never was.
func (t *Target) Grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	credential, err := t.grant(ctx, g)
	if err != nil {
		return target.Credential{}, fmt.Errorf("sign a token for lease %q: %w: %w", g.Lease, target.ErrNotDone, err)
	}
	return credential, nil
}

func (t *Target) grant(ctx context.Context, g target.Grant) (c target.Credential, err error) {
	if err := ctx.Err(); err != nil {
		return c, err
	}
	if err := target.CheckLease(g.Lease); err != nil {
		return c, err
	}
	rights, err := readRights(g.Rights)
	if err != nil {
		return c, err
	}
	if g.TTL > MaxTTL {
		return c, &target.RefusalError{Text: fmt.Sprintf("a token lives for %s at most: ask for less, or lower ttl.max of the role", api.Duration(MaxTTL))}
	}
	if rights.Audience == t.cfg.Issuer {
		// Who got such a token could come back with it as somebody else.
		return c, errors.New("a token for our own issuer is not given out")
	}
	order, err := rights.fill(g)
	if err != nil {
		return c, err
	}
	order.ID = "dp_" + t.cfg.Instance + "_" + g.Lease
	expires := t.cfg.Now().Add(g.TTL)
	token, err := t.cfg.Sign(ctx, order)
	if err == nil {
		err = ctx.Err() // it came too late
	}
	if err != nil {
		return c, err
	}
	return target.Credential{
		Type: Kind,
		Attributes: map[string]any{
			"audience":   order.Audience,
			"subject":    order.Subject,
			"issuer":     t.cfg.Issuer,
			"expires_at": expires.UTC().Truncate(time.Second).Format(time.RFC3339),
		},
		Secrets:    map[string]secret.Text{"token": token},
		Revocation: target.Bounded,
	}, nil
}

// Revoke returns nil when no token of the lease can be good any more.
func (t *Target) Revoke(ctx context.Context, lease string) error {
	if err := target.CheckLease(lease); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	until, err := t.cfg.Until(ctx, lease)
	if err != nil {
		return fmt.Errorf("revoke lease %s: until when does its token live: %w", lease, err)
	}
	if until.IsZero() {
		return nil
	}
	if dead := until.Add(t.cfg.Settings.leeway()); t.cfg.Now().Before(dead) {
		return &target.UnexpiredError{Until: dead}
	}
	return nil
}
