package gcp

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
)

// Settings is the `gcp:` section of a target.
type Settings struct {
	// Provider is the workload identity pool provider that trusts our issuer:
	// //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER.
	Provider string `yaml:"provider" json:"provider"`
	// Manage lets roles make a service account per lease. Without it they name accounts that exist.
	Manage *Manage `yaml:"manage" json:"manage,omitempty"`
	// STS is where tokens are exchanged; https://sts.googleapis.com unless given.
	STS string `yaml:"sts" json:"sts,omitempty"`
	// IAMCredentials is where service accounts are impersonated; https://iamcredentials.googleapis.com unless given.
	IAMCredentials string `yaml:"iam_credentials" json:"iam_credentials,omitempty"`
	// IAM is where service accounts are made; https://iam.googleapis.com unless given.
	IAM string `yaml:"iam" json:"iam,omitempty"`
	// ResourceManager is where policies of projects are written; https://cloudresourcemanager.googleapis.com unless given.
	ResourceManager string `yaml:"resource_manager" json:"resource_manager,omitempty"`
	// Storage is where policies of buckets are written; https://storage.googleapis.com unless given.
	Storage string `yaml:"storage" json:"storage,omitempty"`
}

// Manage is the `manage:` part of the settings.
type Manage struct {
	// ServiceAccount is the account that Daypass itself impersonates, as the subject daypass:target:NAME, to make accounts.
	ServiceAccount string `yaml:"service_account" json:"service_account"`
	// Project is where accounts are made, by its ID: best one that has nothing else. It takes 100 accounts unless Google
	// gives more.
	Project string `yaml:"project" json:"project"`
	// Resources are all that roles of this target may bind accounts on: projects/ID and buckets/NAME.
	Resources []string `yaml:"resources" json:"resources"`
	// Settle is how long a lease stays revoking after its account is disabled and its bindings are gone; 7m unless given, 1h
	// at most. Google says that tokens of a disabled account are rejected, and that changes of policies are known in 2
	// minutes as a rule and in 7 or more at times.
	Settle *api.Duration `yaml:"settle" json:"settle,omitempty"`
}

const (
	usualSettle  = 7 * time.Minute
	maxSettle    = time.Hour
	maxResources = 50
)

var (
	providerForm = regexp.MustCompile(`^//iam\.googleapis\.com/projects/[0-9]{1,20}/locations/global/workloadIdentityPools/[a-z0-9-]{4,32}/providers/[a-z0-9-]{4,32}$`)
	accountForm  = regexp.MustCompile(`^[a-z]([a-z0-9-]{4,28}[a-z0-9])@[a-z0-9-]{6,30}(\.[a-z0-9.-]{1,60})?\.iam\.gserviceaccount\.com$|^[0-9]{6,20}-compute@developer\.gserviceaccount\.com$`)
	projectForm  = regexp.MustCompile(`^([a-z0-9.-]{1,60}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
	resourceForm = regexp.MustCompile(`^projects/([a-z0-9.-]{1,60}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$|^buckets/[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$`)
	roleForm     = regexp.MustCompile(`^(roles|(projects|organizations)/[a-z0-9.:-]{1,90}/roles)/[A-Za-z0-9_.]{3,64}$`)
	scopeForm    = regexp.MustCompile(`^https://www\.googleapis\.com/auth/[a-z0-9._/-]{1,100}$|^(openid|email)$`)
)

// Validate returns every mistake, each a [target.FieldError].
func (s Settings) Validate() error {
	var errs []error
	if !providerForm.MatchString(s.Provider) {
		errs = append(errs, &target.FieldError{Path: "provider", Text: "it is not the name of a workload identity pool provider",
			Help: "write //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"})
	}
	if s.Manage != nil {
		errs = append(errs, s.Manage.validate()...)
	}
	return errors.Join(append(errs, cloud.CheckEndpoint("sts", s.STS), cloud.CheckEndpoint("iam_credentials", s.IAMCredentials),
		cloud.CheckEndpoint("iam", s.IAM), cloud.CheckEndpoint("resource_manager", s.ResourceManager), cloud.CheckEndpoint("storage", s.Storage))...)
}

func (m Manage) validate() (errs []error) {
	if !accountForm.MatchString(m.ServiceAccount) {
		errs = append(errs, &target.FieldError{Path: "manage.service_account", Text: "it is not the address of a service account", Help: "write NAME@PROJECT.iam.gserviceaccount.com"})
	}
	if !projectForm.MatchString(m.Project) {
		errs = append(errs, &target.FieldError{Path: "manage.project", Text: "it is not the ID of a project", Help: "the ID, not the number or the name"})
	}
	if len(m.Resources) == 0 || len(m.Resources) > maxResources {
		errs = append(errs, &target.FieldError{Path: "manage.resources", Text: fmt.Sprintf("want 1 to %d resources that roles may bind accounts on", maxResources), Help: "such as projects/acme-prod or buckets/acme-artifacts"})
	}
	for i, r := range m.Resources {
		path := fmt.Sprintf("manage.resources[%d]", i)
		if !resourceForm.MatchString(r) {
			errs = append(errs, &target.FieldError{Path: path, Text: "it is not projects/ID or buckets/NAME", Help: "such as projects/acme-prod or buckets/acme-artifacts"})
		}
		if slices.Contains(m.Resources[:i], r) {
			errs = append(errs, target.Wrong(path, "is listed twice"))
		}
	}
	if m.Settle != nil && time.Duration(*m.Settle) > maxSettle {
		errs = append(errs, target.Wrong("manage.settle", "want %s at most", maxSettle))
	}
	return errs
}

func (s Settings) settle() time.Duration {
	if s.Manage == nil || s.Manage.Settle == nil {
		return usualSettle
	}
	return time.Duration(*s.Manage.Settle)
}

// Audience is `aud` of the tokens that a provider takes which names no audience of its own.
func (s Settings) Audience() string { return "https:" + s.Provider }
