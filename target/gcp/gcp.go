// Package gcp makes and ends credentials of Google Cloud: short-lived access tokens, for a token that Daypass signs as an
// OpenID Connect issuer. No key of Google's is held anywhere.
//
// It owns both kinds of role there: [NewTokens] gives tokens of service accounts that exist, [NewPrincipals] makes a service
// account per lease, binds it where the role says, and takes all of it away. The accounts per lease are those of one project
// whose names begin with dp-<instance>-.
//
// It promises what [cloud.Tokens] and [cloud.Principals] do. It was written by Google's reference of its REST services, and is
// not verified against the real ones: tests speak to the stand-in of gcptest. It must not import anything internal.
package gcp

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
)

// Kind is the type of the credentials, and the name of this kind of target in access files.
const Kind = "gcp"

const (
	cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"
	longest       = time.Hour        // of an impersonated account's token, without a policy of the organisation
	managing      = 10 * time.Minute // how long the manager's own token lives
)

// google is Google Cloud as we reach it.
type google struct {
	cfg      cloud.Config
	settings Settings
	call     *cloud.Caller
	manager  *cloud.Borrowed
}

func open(cfg cloud.Config, settings Settings) (*google, error) {
	if err := settings.Validate(); err != nil {
		return nil, err
	}
	g := &google{cfg: cfg, settings: settings, call: cloud.NewCaller(cfg.Client, cfg.Now)}
	g.manager = cloud.Borrow(g.borrow, cfg.Now)
	return g, nil
}

// NewTokens returns a target that gives tokens of service accounts that exist. It connects to nothing.
func NewTokens(cfg cloud.Config, settings Settings) (*cloud.Tokens, error) {
	g, err := open(cfg, settings)
	if err == nil && settings.Manage != nil {
		err = target.Wrong("manage", "it is for accounts per lease")
	}
	if err != nil {
		return nil, err
	}
	return cloud.NewTokens(cfg, tokens{g}), nil
}

// NewPrincipals returns a target that makes a service account per lease. It connects to nothing.
func NewPrincipals(cfg cloud.Config, settings Settings) (*cloud.Principals, error) {
	g, err := open(cfg, settings)
	if err == nil && settings.Manage == nil {
		err = target.Wrong("manage", "it takes an account that may make accounts")
	}
	if err != nil {
		return nil, err
	}
	return cloud.NewPrincipals(cfg, accounts{google: g, policies: newPolicies(g)}, cloud.Terms{
		Longest: longest, Room: room, Settle: settings.settle(), Keep: managing + 5*time.Minute, Class: target.Assisted,
	})
}

// room is how long after its lease a token may live. Its life is asked for; what Google counts on another clock is a matter
// of moments.
const room = time.Minute

// federate gives the token that stands for our subject at Google, by RFC 8693: cloud.google.com/iam/docs/reference/sts/rest.
// It goes no further than to impersonate.
func (g *google) federate(ctx context.Context, ours secret.Text) (secret.Text, error) {
	var answer struct {
		Token string `json:"access_token"`
	}
	_, err := g.call.Do(ctx, cloud.Request{URL: cmp.Or(g.settings.STS, "https://sts.googleapis.com") + "/v1/token", Form: url.Values{
		"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"audience":             {g.settings.Provider},
		"scope":                {cloudPlatform},
		"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"subject_token_type":   {"urn:ietf:params:oauth:token-type:jwt"},
		"subject_token":        {ours.Reveal()},
	}}, &answer)
	if err == nil && answer.Token == "" {
		err = cloud.ErrNoToken
	}
	return secret.New(answer.Token), err
}

// impersonate gives a token of a service account: cloud.google.com/iam/docs/reference/credentials/rest.
func (g *google) impersonate(ctx context.Context, as cloud.Bearer, account string, scopes []string, ttl time.Duration) (t cloud.Token, err error) {
	if len(scopes) == 0 {
		scopes = []string{cloudPlatform}
	}
	var answer struct {
		Token   string    `json:"accessToken"`
		Expires time.Time `json:"expireTime"`
	}
	_, err = g.call.Do(ctx, cloud.Request{
		URL: cmp.Or(g.settings.IAMCredentials, "https://iamcredentials.googleapis.com") +
			"/v1/projects/-/serviceAccounts/" + url.PathEscape(account) + ":generateAccessToken",
		Bearer: as, Body: map[string]any{"scope": scopes, "lifetime": fmt.Sprintf("%ds", int(ttl.Seconds()))},
	}, &answer)
	if err == nil && (answer.Token == "" || answer.Expires.IsZero()) {
		err = cloud.ErrNoToken
	}
	return cloud.Token{Text: secret.New(answer.Token), Expires: answer.Expires, Attributes: map[string]any{"service_account": account}}, err
}

// borrow gives a token of the account that manages.
func (g *google) borrow(ctx context.Context) (cloud.Token, error) {
	ours, err := g.cfg.SignManager(ctx, g.settings.Audience())
	if err != nil {
		return cloud.Token{}, fmt.Errorf("sign a token for ourselves: %w", err)
	}
	t, err := g.enter(ctx, ours, g.settings.Manage.ServiceAccount, nil, managing)
	if err != nil {
		return t, fmt.Errorf("become %s: %w", g.settings.Manage.ServiceAccount, err)
	}
	return t, nil
}

// enter impersonates an account for a token of ours.
func (g *google) enter(ctx context.Context, ours secret.Text, account string, scopes []string, ttl time.Duration) (cloud.Token, error) {
	federated, err := g.federate(ctx, ours)
	if err != nil {
		return cloud.Token{}, err
	}
	return g.impersonate(ctx, cloud.Given{Token: federated}, account, scopes, ttl)
}

// tokens are those of accounts that exist.
type tokens struct{ *google }

func (tokens) Kind() string        { return Kind }
func (t tokens) Audience() string  { return t.settings.Audience() }
func (tokens) Room() time.Duration { return room }

func (t tokens) Exchange(ctx context.Context, ours secret.Text, grant target.Grant) (cloud.Token, error) {
	rights, err := cloud.ReadRights[Rights](grant.Rights)
	if err != nil {
		return cloud.Token{}, err
	}
	if rights.PerLease {
		return cloud.Token{}, errNoManage()
	}
	if grant.TTL > longest {
		return cloud.Token{}, &target.RefusalError{Text: "Google gives tokens of a service account for an hour at most: ask for less, or lower ttl.max of the role"}
	}
	return t.enter(ctx, ours, rights.ServiceAccount, rights.Scopes, grant.TTL)
}

func errNoManage() error {
	return &target.RefusalError{Text: "the role makes an account per lease, for which its target needs manage"}
}

// name is the ID of a lease's account: 30 characters at most, all that Google takes.
func (g *google) name(lease string) string { return g.prefix() + lease }

func (g *google) prefix() string { return "dp-" + g.cfg.Instance + "-" }

// lease is the inverse of name.
func (g *google) lease(name string) (string, bool) {
	lease, ours := strings.CutPrefix(name, g.prefix())
	return lease, ours && target.CheckLease(lease) == nil
}

// email is the address of an account of the project where accounts are made.
func (g *google) email(name string) string {
	project, domain := g.settings.Manage.Project, ".iam.gserviceaccount.com"
	if owner, rest, scoped := strings.Cut(project, ":"); scoped { // of a domain, example.com:project
		project = rest + "." + owner
	}
	return name + "@" + project + domain
}
