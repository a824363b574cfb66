// Package azure makes and ends credentials of Azure: access tokens of Entra, for an assertion that Daypass signs as an OpenID
// Connect issuer. No key of Azure's is held anywhere, and no client secret is made.
//
// It owns both kinds of role there: [NewTokens] gives tokens of applications that exist, [NewPrincipals] makes an application
// with a service principal per lease, assigns it roles at the scopes that the role says, and takes all of it away, out of the
// directory's deleted items too. What it makes is called dp_<instance>_<lease>.
//
// It promises what [cloud.Tokens] and [cloud.Principals] do. It was written by Microsoft's reference of Entra, Graph and the
// Resource Manager, and is not verified against the real ones: tests speak to the stand-in of azuretest. It must not import
// anything internal.
package azure

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
)

// Kind is the type of the credentials, and the name of this kind of target in access files.
const Kind = "azure"

// Audience is `aud` of the tokens that Entra takes.
const Audience = "api://AzureADTokenExchange"

const (
	graphAddress = "https://graph.microsoft.com"
	armAddress   = "https://management.azure.com"
)

// entra is Azure as we reach it.
type entra struct {
	cfg      cloud.Config
	settings Settings
	call     *cloud.Caller
	graph    *cloud.Borrowed // tokens of the manager, for Graph and
	arm      *cloud.Borrowed // for the Resource Manager
}

func open(cfg cloud.Config, settings Settings) (*entra, error) {
	if err := settings.Validate(); err != nil {
		return nil, err
	}
	e := &entra{cfg: cfg, settings: settings, call: cloud.NewCaller(cfg.Client, cfg.Now)}
	e.graph = cloud.Borrow(e.borrow(graphAddress+"/.default"), cfg.Now)
	e.arm = cloud.Borrow(e.borrow(armAddress+"/.default"), cfg.Now)
	return e, nil
}

// NewTokens returns a target that gives tokens of applications that exist. It connects to nothing.
func NewTokens(cfg cloud.Config, settings Settings) (*cloud.Tokens, error) {
	e, err := open(cfg, settings)
	if err == nil && settings.Manage != nil {
		err = target.Wrong("manage", "it is for applications per lease")
	}
	if err != nil {
		return nil, err
	}
	return cloud.NewTokens(cfg, tokens{e}), nil
}

// NewPrincipals returns a target that makes an application with a service principal per lease. It connects to nothing.
func NewPrincipals(cfg cloud.Config, settings Settings) (*cloud.Principals, error) {
	e, err := open(cfg, settings)
	if err == nil && settings.Manage == nil {
		err = target.Wrong("manage", "it takes an application that may make applications")
	}
	if err != nil {
		return nil, err
	}
	return cloud.NewPrincipals(cfg, principals{e}, cloud.Terms{
		Longest: longest, Room: settings.life(), Settle: settings.settle(), Keep: settings.life() + 5*time.Minute, Class: target.Assisted,
	})
}

// assert gives a token of an application for a client assertion of ours:
// learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, "federated credential".
func (e *entra) assert(ctx context.Context, ours secret.Text, clientID, scope string) (cloud.Token, error) {
	var answer struct {
		Token string `json:"access_token"`
		Life  int64  `json:"expires_in"` // seconds
	}
	begun := e.call.Now()
	_, err := e.call.Do(ctx, cloud.Request{
		URL: cmp.Or(e.settings.Authority, "https://login.microsoftonline.com") + "/" + e.settings.Tenant + "/oauth2/v2.0/token", Form: url.Values{
			"grant_type":            {"client_credentials"},
			"client_id":             {clientID},
			"scope":                 {scope},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			"client_assertion":      {ours.Reveal()},
		},
	}, &answer)
	switch {
	case err != nil:
		return cloud.Token{}, err
	case answer.Token == "" || answer.Life <= 0 || answer.Life > int64(longest/time.Second):
		return cloud.Token{}, cloud.ErrNoToken
	case time.Duration(answer.Life)*time.Second > e.settings.life():
		return cloud.Token{}, &target.RefusalError{Text: "the tenant gives tokens that live longer than token_lifetime of the target says"}
	}
	// It is counted from before the request: the token lives no longer than this by a clock like ours, but for the road.
	expires := begun.Add(time.Duration(answer.Life) * time.Second)
	return cloud.Token{Text: secret.New(answer.Token), Expires: expires, Attributes: map[string]any{"tenant": e.settings.Tenant, "client_id": clientID}}, nil
}

// borrow gives tokens of the application that manages.
func (e *entra) borrow(scope string) func(context.Context) (cloud.Token, error) {
	return func(ctx context.Context) (cloud.Token, error) {
		ours, err := e.cfg.SignManager(ctx, Audience)
		if err != nil {
			return cloud.Token{}, fmt.Errorf("sign a token for ourselves: %w", err)
		}
		t, err := e.assert(ctx, ours, e.settings.Manage.ClientID, scope)
		if err != nil {
			return t, fmt.Errorf("become the application that manages: %w", err)
		}
		return t, nil
	}
}

// tokens are those of applications that exist.
type tokens struct{ *entra }

func (tokens) Kind() string          { return Kind }
func (tokens) Audience() string      { return Audience }
func (t tokens) Room() time.Duration { return t.settings.life() }

func (t tokens) Exchange(ctx context.Context, ours secret.Text, grant target.Grant) (cloud.Token, error) {
	rights, err := cloud.ReadRights[Rights](grant.Rights)
	if err != nil {
		return cloud.Token{}, err
	}
	if rights.PerLease {
		return cloud.Token{}, errNoManage()
	}
	return t.assert(ctx, ours, rights.ClientID, rights.resource())
}

func errNoManage() error {
	return &target.RefusalError{Text: "the role makes an application per lease, for which its target needs manage"}
}

// name is what everything of a lease is called.
func (e *entra) name(lease string) string { return e.prefix() + lease }

func (e *entra) prefix() string { return "dp_" + e.cfg.Instance + "_" }

// lease is the inverse of name.
func (e *entra) lease(name string) (string, bool) {
	lease, ours := strings.CutPrefix(name, e.prefix())
	return lease, ours && target.CheckLease(lease) == nil
}

// assignment is the name of a role assignment: a GUID that is a function of the lease and what is assigned, so that a second
// request for it is the same one, and whoever knows the role can delete it unseen.
func (e *entra) assignment(lease, on, role string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", e.name(lease), strings.ToLower(on), strings.ToLower(role)))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // RFC 9562: a version of one's own
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
