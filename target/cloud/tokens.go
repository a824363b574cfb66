package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// Service is what differs from cloud to cloud in [Tokens].
type Service interface {
	// Kind is what access files call the cloud.
	Kind() string
	// Audience is whom our token is for.
	Audience() string
	// Exchange gives a cloud's token for ours. Nothing lives longer than the expiry that it tells.
	Exchange(ctx context.Context, ours secret.Text, g target.Grant) (Token, error)
	// Try has the cloud take our token as far as can do no harm, and drops what it gives. It returns what the token was to become.
	Try(ctx context.Context, ours secret.Text, rights json.RawMessage) (becomes string, err error)
	// Answers are how the cloud refuses.
	Answers() Answers
	// Room is how long after the end of its lease a token may live.
	Room() time.Duration
}

// Tokens gives tokens of principals that exist. Its methods may be called concurrently.
type Tokens struct {
	cfg     Config
	service Service
}

var (
	_ target.Target  = (*Tokens)(nil)
	_ target.Checker = (*Tokens)(nil)
)

// NewTokens makes a target of one cloud. It connects to nothing.
func NewTokens(cfg Config, s Service) *Tokens { return &Tokens{cfg, s} }

// Grant has the cloud give a token. A token whose answer is lost is in nobody's hands, and expires.
func (t *Tokens) Grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	credential, err := t.grant(ctx, g)
	if err != nil {
		// Nothing that anybody could use was made, whatever became of our request.
		return target.Credential{}, fmt.Errorf("get a token of %s for lease %.40q: %w: %w", t.service.Kind(), g.Lease, target.ErrNotDone, err)
	}
	return credential, nil
}

func (t *Tokens) grant(ctx context.Context, g target.Grant) (c target.Credential, err error) {
	if err := target.CheckLease(g.Lease); err != nil {
		return c, err
	}
	if err := ctx.Err(); err != nil {
		return c, err
	}
	ours, err := t.cfg.sign(ctx, g.Lease, "role:"+g.Role, t.service.Audience())
	if err != nil {
		return c, err
	}
	given, err := t.service.Exchange(ctx, ours, g)
	if err != nil {
		return c, err
	}
	return handOver(t.cfg, t.service.Kind(), given, g.TTL+t.service.Room(), target.Bounded)
}

// handOver makes a credential of a token that lives no longer than most from now.
func handOver(cfg Config, kind string, given Token, most time.Duration, class target.Revocation) (target.Credential, error) {
	if given.Expires.After(cfg.Now().Add(most)) {
		return target.Credential{}, &target.RefusalError{Text: "the cloud gave a token that outlives the lease by more than its target says"}
	}
	c := target.Credential{
		Type:       kind,
		Attributes: given.Attributes,
		Secrets:    map[string]secret.Text{"access_token": given.Text},
		Revocation: class,
	}
	c.Attributes["expires_at"] = given.Expires.UTC().Truncate(time.Second).Format(time.RFC3339)
	return c, nil
}

// Revoke returns nil when no token of the lease can be good any more.
func (t *Tokens) Revoke(ctx context.Context, lease string) error {
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
	held, err := t.cfg.Lease(ctx, lease)
	if err != nil {
		return fmt.Errorf("revoke lease %s: what was granted: %w", lease, err)
	}
	var own struct {
		PerLease bool `json:"per_lease"`
	}
	if json.Unmarshal(held.Rights, &own) == nil && own.PerLease {
		return fmt.Errorf("revoke lease %s on %s: it has a principal of its own: the target needs manage, as when it was granted", lease, t.service.Kind())
	}
	if dead := until.Add(t.service.Room()); t.cfg.Now().Before(dead) {
		return &target.UnexpiredError{Until: dead}
	}
	return nil
}
