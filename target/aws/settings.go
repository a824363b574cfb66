package aws

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"time"

	"github.com/daypass/daypass/api"

	"github.com/daypass/daypass/target"
)

// Settings is the `aws:` section of a target.
type Settings struct {
	// Region is where sessions are asked for and what workloads are told, such as eu-central-1.
	Region string `yaml:"region" json:"region"`
	// Audience is `aud` of our tokens, as the provider at AWS lists it; sts.amazonaws.com unless given.
	Audience string `yaml:"audience" json:"audience,omitempty"`
	// STS and IAM are URLs to ask instead of those of the region: an endpoint of a VPC, or another service that speaks the
	// same. They are https, or http on the loopback.
	STS string `yaml:"sts" json:"sts,omitempty"`
	IAM string `yaml:"iam" json:"iam,omitempty"`
	// Manage is the role that Daypass itself takes, by web identity, to end sessions early or to make users and roles.
	Manage *Manage `yaml:"manage" json:"manage,omitempty"`
	// TokenLife says that the service ends a session when the token that it was asked for with ends, as MinIO does and AWS
	// does not. Sessions are then as long as the lease; AWS gives none that is shorter than 15 minutes.
	TokenLife bool `yaml:"token_life" json:"token_life,omitempty"`
	// Leeway is how long after its end a session may still be taken, because clocks differ; 1m unless given, 10m at most.
	Leeway *api.Duration `yaml:"leeway" json:"leeway,omitempty"`
}

// Manage is the `manage:` part of the settings.
type Manage struct {
	// RoleARN is the role. Its trust policy names our issuer and the subject daypass:target:NAME.
	RoleARN string `yaml:"role_arn" json:"role_arn"`
	// PerLease says that the roles of this target make an IAM user or role per lease. Without it they assume a role that
	// exists, and the managing role only writes and deletes denies.
	PerLease bool `yaml:"per_lease" json:"per_lease,omitempty"`
	// Settle is how long Revoke waits, after AWS has answered, until the change is known in all of its places; 10s unless
	// given, 20s at most. AWS promises no time.
	Settle *api.Duration `yaml:"settle" json:"settle,omitempty"`
}

// Client is the `client:` section of a target: what workloads are told.
type Client struct {
	// Endpoint is the URL of the services, where they are not AWS's own; AWS_ENDPOINT_URL of `daypass run`.
	Endpoint string `yaml:"endpoint" json:"endpoint,omitempty"`
}

const (
	usualAudience = "sts.amazonaws.com"
	usualLeeway   = time.Minute
	maxLeeway     = 10 * time.Minute
	usualSettle   = 10 * time.Second
	maxSettle     = 20 * time.Second // one revocation has 30 s
)

var (
	regionForm  = regexp.MustCompile(`^[a-z]{2,8}(-[a-z]+)*-[0-9]{1,2}$`)
	roleForm    = regexp.MustCompile(`^arn:[a-z][a-z0-9-]*:iam::([0-9]{12})?:role/[\w+=,.@/-]{1,512}$`)
	managerForm = regexp.MustCompile(`^arn:([a-z][a-z0-9-]*):iam::([0-9]{12}):role/[\w+=,.@/-]{1,512}$`)
	policyForm  = regexp.MustCompile(`^arn:[a-z][a-z0-9-]*:iam::([0-9]{12}|aws):policy/[\w+=,.@/-]{1,512}$`)
)

// Validate returns every mistake, each a [target.FieldError].
func (s Settings) Validate() error {
	var errs []error
	if !regionForm.MatchString(s.Region) {
		errs = append(errs, &target.FieldError{Path: "region", Text: fmt.Sprintf("%q is not a region", s.Region), Help: "such as eu-central-1"})
	}
	if len(s.Audience) > 255 {
		errs = append(errs, target.Wrong("audience", "AWS takes at most 255 bytes"))
	}
	errs = append(errs, checkEndpoint("sts", s.STS), checkEndpoint("iam", s.IAM))
	if s.leeway() > maxLeeway {
		errs = append(errs, target.Wrong("leeway", "clocks that differ by %s are not to be waited for: at most %s", s.leeway(), maxLeeway))
	}
	if m := s.Manage; m != nil {
		if !managerForm.MatchString(m.RoleARN) {
			errs = append(errs, &target.FieldError{Path: "manage.role_arn", Text: fmt.Sprintf("%q is not the ARN of a role", m.RoleARN), Help: "such as arn:aws:iam::123456789012:role/daypass"})
		}
		if s.settle() > maxSettle {
			errs = append(errs, target.Wrong("manage.settle", "want %s at most", maxSettle))
		}
		if s.TokenLife {
			errs = append(errs, target.Wrong("token_life", "a service that has it has no IAM to manage: remove one of the two"))
		}
	}
	return errors.Join(errs...)
}

// Validate returns every mistake, each a [target.FieldError].
func (c Client) Validate() error { return checkEndpoint("endpoint", c.Endpoint) }

// checkEndpoint takes an https URL of a host and nothing behind it, or an http one on the loopback.
func checkEndpoint(field, text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return target.Wrong(field, "%q is not the URL of a server", text)
	}
	ip, err := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		return target.Wrong(field, "%q is not https", text)
	}
	return nil
}

// Aud returns the audience of our tokens.
func (s Settings) Aud() string {
	if s.Audience == "" {
		return usualAudience
	}
	return s.Audience
}

func (s Settings) leeway() time.Duration {
	if s.Leeway == nil {
		return usualLeeway
	}
	return time.Duration(*s.Leeway)
}

func (s Settings) settle() time.Duration {
	if s.Manage == nil || s.Manage.Settle == nil {
		return usualSettle
	}
	return time.Duration(*s.Manage.Settle)
}
