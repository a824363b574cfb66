// Package cloudtoken holds the kinds of target whose credential is a short-lived access token of a cloud: gcp and
// azure. The cloud gives it for a token that Daypass signs as an OpenID Connect issuer, so that no key of the cloud is
// held anywhere, by Daypass or by a workload.
//
// It promises that a token is asked for in the name of the role alone (`sub` is role:<name>), so that no claim of a
// workload reaches the cloud's trust policy, and that revocation is told truthfully: nobody can pull such a token, and a
// lease is revoked when the last token that could have been given for it has expired.
//
// It keeps no state and must not import anything internal. It was written by the published wire formats of both
// clouds, and is not verified against the real services: tests speak to a stand-in that verifies our tokens.
package cloudtoken

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// subjectTTL is how long the token lives that we sign for the cloud: it is used at once.
const subjectTTL = 5 * time.Minute

// Order is a token that the cloud is to accept.
type Order struct {
	ID       string // jti
	Subject  string
	Audience string
	TTL      time.Duration
}

// Config is what all kinds need.
type Config struct {
	Instance string // the installation: a part of every jti
	// Sign signs with RS256, which both clouds take.
	Sign func(context.Context, Order) (secret.Text, error)
	// Until tells until when the lease of a token that was handed out lives; the zero time where none was.
	Until func(ctx context.Context, lease string) (time.Time, error)
	Now   func() time.Time
	// Client speaks to the cloud; one that trusts the system's authorities unless given. Redirects are refused.
	Client *http.Client
}

// service is what differs from cloud to cloud.
type service interface {
	kind() string
	// audience is whom our token is for.
	audience() string
	// exchange gives a cloud's token for ours. Nothing lives longer than the expiry that it tells.
	exchange(ctx context.Context, call *caller, ours secret.Text, g target.Grant) (token, error)
	// room is how long after the end of its lease a token may live.
	room() time.Duration
}

// token is what a cloud gave.
type token struct {
	text       secret.Text
	expires    time.Time
	attributes map[string]any
}

// Target gives tokens of one cloud.
type Target struct {
	cfg     Config
	service service
	call    *caller
}

var _ target.Target = (*Target)(nil)

func newTarget(cfg Config, s service) *Target {
	return &Target{cfg, s, newCaller(cfg.Client, cfg.Now)}
}

// Grant has the cloud give a token. A token whose answer is lost is in nobody's hands, and expires.
func (t *Target) Grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	credential, err := t.grant(ctx, g)
	if err != nil {
		// Nothing that anybody could use was made, whatever became of our request.
		return target.Credential{}, fmt.Errorf("get a token of %s for lease %q: %w: %w", t.service.kind(), g.Lease, target.ErrNotDone, err)
	}
	return credential, nil
}

func (t *Target) grant(ctx context.Context, g target.Grant) (c target.Credential, err error) {
	if err := target.CheckLease(g.Lease); err != nil {
		return c, err
	}
	if err := ctx.Err(); err != nil {
		return c, err
	}
	ours, err := t.cfg.Sign(ctx, Order{
		ID: "dp_" + t.cfg.Instance + "_" + g.Lease, Subject: "role:" + g.Role, Audience: t.service.audience(), TTL: subjectTTL,
	})
	if err != nil {
		return c, err
	}
	given, err := t.service.exchange(ctx, t.call, ours, g)
	if err != nil {
		return c, err
	}
	if most := t.cfg.Now().Add(g.TTL + t.service.room()); given.expires.After(most) {
		return c, &target.RefusalError{Text: fmt.Sprintf("the cloud gave a token that outlives the lease by more than %s", t.service.room())}
	}
	c = target.Credential{
		Type:       t.service.kind(),
		Attributes: given.attributes,
		Secrets:    map[string]secret.Text{"access_token": given.text},
		Revocation: target.Bounded,
	}
	c.Attributes["expires_at"] = given.expires.UTC().Truncate(time.Second).Format(time.RFC3339)
	return c, nil
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
	if dead := until.Add(t.service.room()); t.cfg.Now().Before(dead) {
		return &target.UnexpiredError{Until: dead}
	}
	return nil
}

// readRights reads a role's section back from the form in which the configuration keeps it.
func readRights[R interface{ Validate() error }](text json.RawMessage) (rights R, err error) {
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&rights); err != nil || decoder.More() {
		return rights, errors.New("the rights are not those of such a token")
	}
	return rights, rights.Validate()
}
