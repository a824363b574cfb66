package cloudtoken

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"regexp"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// KindAzure is how access files call Azure.
const KindAzure = "azure"

// AzureAudience is `aud` of the tokens that Entra takes.
const AzureAudience = "api://AzureADTokenExchange"

// AzureSettings is the `azure:` section of a target.
type AzureSettings struct {
	// Tenant is the directory, by its ID.
	Tenant string `yaml:"tenant" json:"tenant"`
	// Authority is where tokens are given; https://login.microsoftonline.com unless given.
	Authority string `yaml:"authority" json:"authority,omitempty"`
	// TokenLifetime is how long the tokens live that the tenant gives; 90m unless given, which is the most that Entra
	// gives where no policy says otherwise. It is not ours to choose: a token that lives longer is refused, and a lease
	// is called revoked when this time has passed after its end.
	TokenLifetime *api.Duration `yaml:"token_lifetime" json:"token_lifetime,omitempty"`
}

const (
	identifier = `^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`
	azureScope = `^(https|api)://[A-Za-z0-9._/-]{1,200}/\.default$|^[0-9a-fA-F-]{36}/\.default$`

	azureLife = 90 * time.Minute
	azureMost = 24 * time.Hour
)

// Validate returns every mistake, each a [target.FieldError].
func (s AzureSettings) Validate() error {
	var errs []error
	if !regexp.MustCompile(identifier).MatchString(s.Tenant) {
		errs = append(errs, &target.FieldError{Path: "tenant", Text: "it is not the ID of a tenant", Help: "write the directory (tenant) ID that the portal shows"})
	}
	if life := s.life(); life < time.Minute || life > azureMost {
		errs = append(errs, &target.FieldError{Path: "token_lifetime", Text: "it is not between 1m and 24h"})
	}
	return errors.Join(append(errs, checkEndpoint("authority", s.Authority))...)
}

func (s AzureSettings) life() time.Duration {
	if s.TokenLifetime == nil {
		return azureLife
	}
	return time.Duration(*s.TokenLifetime)
}

// AzureRights is the `azure:` section of a role.
type AzureRights struct {
	// ClientID is the application or managed identity whose federated credential trusts the role's subject. Its rights
	// are the role's.
	ClientID string `yaml:"client_id" json:"client_id"`
	// Scope is whom the token is for, with /.default at its end; https://management.azure.com/.default unless given.
	Scope string `yaml:"scope" json:"scope,omitempty"`
}

// Validate returns every mistake, each a [target.FieldError].
func (r AzureRights) Validate() error {
	var errs []error
	if !regexp.MustCompile(identifier).MatchString(r.ClientID) {
		errs = append(errs, &target.FieldError{Path: "client_id", Text: "it is not the ID of an application", Help: "write its application (client) ID, or that of the managed identity"})
	}
	if r.Scope != "" && !regexp.MustCompile(azureScope).MatchString(r.Scope) {
		errs = append(errs, &target.FieldError{Path: "scope", Text: "it is not a resource with /.default", Help: "such as https://storage.azure.com/.default"})
	}
	return errors.Join(errs...)
}

// entra gives tokens for a client assertion of ours:
// learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, "federated credential".
type entra struct{ settings AzureSettings }

// NewAzure returns a target of Azure. It connects to nothing.
func NewAzure(cfg Config, settings AzureSettings) (*Target, error) {
	if err := settings.Validate(); err != nil {
		return nil, err
	}
	return newTarget(cfg, entra{settings}), nil
}

func (entra) kind() string          { return KindAzure }
func (entra) audience() string      { return AzureAudience }
func (e entra) room() time.Duration { return e.settings.life() }

func (e entra) exchange(ctx context.Context, call *caller, ours secret.Text, grant target.Grant) (token, error) {
	rights, err := readRights[AzureRights](grant.Rights)
	if err != nil {
		return token{}, err
	}
	var answer struct {
		Token string `json:"access_token"`
		Life  int64  `json:"expires_in"` // seconds
	}
	begun := call.now()
	err = call.postForm(ctx, cmp.Or(e.settings.Authority, "https://login.microsoftonline.com")+"/"+e.settings.Tenant+"/oauth2/v2.0/token", url.Values{
		"grant_type":            {"client_credentials"},
		"client_id":             {rights.ClientID},
		"scope":                 {cmp.Or(rights.Scope, "https://management.azure.com/.default")},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {ours.Reveal()},
	}, &answer)
	switch {
	case err != nil:
		return token{}, err
	case answer.Token == "" || answer.Life <= 0:
		return token{}, errNoToken
	case time.Duration(answer.Life)*time.Second > e.settings.life():
		return token{}, &target.RefusalError{Text: "the tenant gives tokens that live longer than token_lifetime of the target says"}
	}
	// It is counted from before the request: the token lives no longer than this by a clock like ours, but for the road.
	expires := begun.Add(time.Duration(answer.Life) * time.Second)
	return token{secret.New(answer.Token), expires, map[string]any{"tenant": e.settings.Tenant, "client_id": rights.ClientID}}, nil
}
