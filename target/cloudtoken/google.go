package cloudtoken

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"time"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// KindGoogle is how access files call Google Cloud.
const KindGoogle = "gcp"

// GoogleSettings is the `gcp:` section of a target.
type GoogleSettings struct {
	// Provider is the workload identity pool provider that trusts our issuer:
	// //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER.
	Provider string `yaml:"provider" json:"provider"`
	// STS is where tokens are exchanged; https://sts.googleapis.com unless given.
	STS string `yaml:"sts" json:"sts,omitempty"`
	// IAMCredentials is where service accounts are impersonated; https://iamcredentials.googleapis.com unless given.
	IAMCredentials string `yaml:"iam_credentials" json:"iam_credentials,omitempty"`
}

// Validate returns every mistake, each a [target.FieldError].
func (s GoogleSettings) Validate() error {
	var errs []error
	if !regexp.MustCompile(provider).MatchString(s.Provider) {
		errs = append(errs, &target.FieldError{Path: "provider", Text: "it is not the name of a workload identity pool provider",
			Help: "write //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"})
	}
	return errors.Join(append(errs, checkEndpoint("sts", s.STS), checkEndpoint("iam_credentials", s.IAMCredentials))...)
}

// Audience is `aud` of the tokens that a provider takes which names no audience of its own.
func (s GoogleSettings) Audience() string { return "https:" + s.Provider }

const (
	provider = `^//iam\.googleapis\.com/projects/[0-9]{1,20}/locations/global/workloadIdentityPools/[a-z0-9-]{4,32}/providers/[a-z0-9-]{4,32}$`
	account  = `^[a-z]([a-z0-9-]{4,28}[a-z0-9])@[a-z0-9-]{6,30}(\.[a-z0-9.-]{1,60})?\.iam\.gserviceaccount\.com$|^[0-9]{6,20}-compute@developer\.gserviceaccount\.com$`
	scope    = `^https://www\.googleapis\.com/auth/[a-z0-9._/-]{1,100}$|^(openid|email)$`

	cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"
	maxScopes     = 20
	googleMost    = time.Hour // of an impersonated account's token, without a policy of the organisation
)

// GoogleRights is the `gcp:` section of a role.
type GoogleRights struct {
	// ServiceAccount is the account whose token workloads get, by its address. Its rights are the role's, and its token
	// ends with the lease: that is why there is always one.
	ServiceAccount string `yaml:"service_account" json:"service_account"`
	// Scopes narrow the token; cloud-platform unless given, which leaves all to the account's rights.
	Scopes []string `yaml:"scopes" json:"scopes,omitempty"`
}

// Validate returns every mistake, each a [target.FieldError].
func (r GoogleRights) Validate() error {
	var errs []error
	if !regexp.MustCompile(account).MatchString(r.ServiceAccount) {
		errs = append(errs, &target.FieldError{Path: "service_account", Text: "it is not the address of a service account", Help: "write NAME@PROJECT.iam.gserviceaccount.com"})
	}
	if len(r.Scopes) > maxScopes {
		errs = append(errs, &target.FieldError{Path: "scopes", Text: fmt.Sprintf("there are more than %d", maxScopes)})
	}
	for i, s := range r.Scopes {
		if !regexp.MustCompile(scope).MatchString(s) {
			errs = append(errs, &target.FieldError{Path: fmt.Sprintf("scopes[%d]", i), Text: "it is not a scope of Google's", Help: "such as " + cloudPlatform})
		}
	}
	return errors.Join(errs...)
}

// google exchanges by RFC 8693 at Google's Security Token Service, and then impersonates a service account:
// cloud.google.com/iam/docs/reference/sts/rest and .../reference/credentials/rest.
type google struct{ settings GoogleSettings }

// NewGoogle returns a target of Google Cloud. It connects to nothing.
func NewGoogle(cfg Config, settings GoogleSettings) (*Target, error) {
	if err := settings.Validate(); err != nil {
		return nil, err
	}
	return newTarget(cfg, google{settings}), nil
}

func (google) kind() string { return KindGoogle }

func (g google) audience() string { return g.settings.Audience() }

// room is none: the token's life is asked for. What Google counts on another clock is a matter of moments.
func (google) room() time.Duration { return time.Minute }

func (g google) exchange(ctx context.Context, call *caller, ours secret.Text, grant target.Grant) (token, error) {
	rights, err := readRights[GoogleRights](grant.Rights)
	if err != nil {
		return token{}, err
	}
	if grant.TTL > googleMost {
		return token{}, &target.RefusalError{Text: "Google gives tokens of a service account for an hour at most: ask for less, or lower ttl.max of the role"}
	}
	federated, err := g.federate(ctx, call, ours)
	if err != nil {
		return token{}, err
	}
	return g.impersonate(ctx, call, federated, rights, grant.TTL)
}

// federate gives the token that stands for our subject at Google. It goes no further than to impersonate.
func (g google) federate(ctx context.Context, call *caller, ours secret.Text) (secret.Text, error) {
	var answer struct {
		Token string `json:"access_token"`
	}
	err := call.postForm(ctx, cmp.Or(g.settings.STS, "https://sts.googleapis.com")+"/v1/token", url.Values{
		"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"audience":             {g.settings.Provider},
		"scope":                {cloudPlatform},
		"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"subject_token_type":   {"urn:ietf:params:oauth:token-type:jwt"},
		"subject_token":        {ours.Reveal()},
	}, &answer)
	if err == nil && answer.Token == "" {
		err = errNoToken
	}
	return secret.New(answer.Token), err
}

func (g google) impersonate(ctx context.Context, call *caller, federated secret.Text, rights GoogleRights, ttl time.Duration) (token, error) {
	scopes := rights.Scopes
	if len(scopes) == 0 {
		scopes = []string{cloudPlatform}
	}
	body, err := json.Marshal(map[string]any{"scope": scopes, "lifetime": fmt.Sprintf("%ds", int(ttl.Seconds()))})
	if err != nil {
		return token{}, fmt.Errorf("encode the request: %w", err)
	}
	where := cmp.Or(g.settings.IAMCredentials, "https://iamcredentials.googleapis.com") +
		"/v1/projects/-/serviceAccounts/" + url.PathEscape(rights.ServiceAccount) + ":generateAccessToken"
	var answer struct {
		Token   string    `json:"accessToken"`
		Expires time.Time `json:"expireTime"`
	}
	if err := call.post(ctx, where, "application/json", string(body), federated, &answer); err != nil {
		return token{}, err
	}
	if answer.Token == "" || answer.Expires.IsZero() {
		return token{}, errNoToken
	}
	return token{secret.New(answer.Token), answer.Expires, map[string]any{"service_account": rights.ServiceAccount}}, nil
}
