package azure

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
)

// Settings is the `azure:` section of a target.
type Settings struct {
	// Tenant is the directory, by its ID.
	Tenant string `yaml:"tenant" json:"tenant"`
	// Manage lets roles make an application with a service principal per lease. Without it they name applications that
	// exist.
	Manage *Manage `yaml:"manage" json:"manage,omitempty"`
	// TokenLifetime is how long the tokens live that the tenant gives; 90m unless given, which is the most that Entra
	// gives where no policy says otherwise. It is not ours to choose: a token that lives longer is refused, and without
	// manage a lease is called revoked when this time has passed after its end.
	TokenLifetime *api.Duration `yaml:"token_lifetime" json:"token_lifetime,omitempty"`
	// Authority is where tokens are given; https://login.microsoftonline.com unless given.
	Authority string `yaml:"authority" json:"authority,omitempty"`
	// Graph is where applications are made; https://graph.microsoft.com unless given.
	Graph string `yaml:"graph" json:"graph,omitempty"`
	// ResourceManager is where roles are assigned; https://management.azure.com unless given.
	ResourceManager string `yaml:"resource_manager" json:"resource_manager,omitempty"`
}

// Manage is the `manage:` part of the settings.
type Manage struct {
	// ClientID is the application or managed identity that Daypass itself becomes, as the subject daypass:target:NAME, to make
	// applications.
	ClientID string `yaml:"client_id" json:"client_id"`
	// Scopes are all that roles of this target may assign at, and what is below them: /subscriptions/ID or
	// /subscriptions/ID/resourceGroups/NAME.
	Scopes []string `yaml:"scopes" json:"scopes"`
	// Settle is how long a lease stays revoking after its role assignments and its service principal are gone; 10m unless
	// given, 1h at most. Microsoft says that such changes take up to 10 minutes to count.
	Settle *api.Duration `yaml:"settle" json:"settle,omitempty"`
}

const (
	usualLife   = 90 * time.Minute
	longest     = 24 * time.Hour
	usualSettle = 10 * time.Minute
	maxSettle   = time.Hour
	maxScopes   = 20
)

var (
	identifierForm = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
	resourceForm   = regexp.MustCompile(`^(https|api)://[A-Za-z0-9._/-]{1,200}/\.default$|^[0-9a-fA-F-]{36}/\.default$`)
	scopeForm      = regexp.MustCompile(`^/subscriptions/[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}(/resourceGroups/[A-Za-z0-9._()-]{0,89}[A-Za-z0-9_()-])?$`)
	assignmentForm = regexp.MustCompile(`(?i)^(/[a-z0-9._()-]+){0,20}/providers/Microsoft\.Authorization/roleAssignments/[0-9a-f-]{36}$`)
	placeForm      = regexp.MustCompile(`^(/[A-Za-z0-9._()-]+){2,20}$`)
)

// Validate returns every mistake, each a [target.FieldError].
func (s Settings) Validate() error {
	var errs []error
	if !identifierForm.MatchString(s.Tenant) {
		errs = append(errs, &target.FieldError{Path: "tenant", Text: "it is not the ID of a tenant", Help: "write the directory (tenant) ID that the portal shows"})
	}
	if life := s.life(); life < time.Minute || life > longest {
		errs = append(errs, &target.FieldError{Path: "token_lifetime", Text: "it is not between 1m and 24h"})
	}
	if s.Manage != nil {
		errs = append(errs, s.Manage.validate()...)
	}
	return errors.Join(append(errs, cloud.CheckEndpoint("authority", s.Authority), cloud.CheckEndpoint("graph", s.Graph),
		cloud.CheckEndpoint("resource_manager", s.ResourceManager))...)
}

func (m Manage) validate() (errs []error) {
	if !identifierForm.MatchString(m.ClientID) {
		errs = append(errs, &target.FieldError{Path: "manage.client_id", Text: "it is not the ID of an application", Help: "write its application (client) ID, or that of the managed identity"})
	}
	if len(m.Scopes) == 0 || len(m.Scopes) > maxScopes {
		errs = append(errs, target.Wrong("manage.scopes", "want 1 to %d scopes that roles may assign at", maxScopes))
	}
	for i, scope := range m.Scopes {
		path := fmt.Sprintf("manage.scopes[%d]", i)
		if !scopeForm.MatchString(scope) {
			errs = append(errs, &target.FieldError{Path: path, Text: "it is not a subscription or a resource group", Help: "such as /subscriptions/ID/resourceGroups/orders"})
		}
		if slices.ContainsFunc(m.Scopes[:i], func(s string) bool { return strings.EqualFold(s, scope) }) {
			errs = append(errs, target.Wrong(path, "is listed twice"))
		}
	}
	if m.Settle != nil && time.Duration(*m.Settle) > maxSettle {
		errs = append(errs, target.Wrong("manage.settle", "want %s at most", maxSettle))
	}
	return errs
}

// covers reports whether roles may assign at a place.
func (m Manage) covers(on string) bool {
	return slices.ContainsFunc(m.Scopes, func(scope string) bool {
		return strings.EqualFold(on, scope) || len(on) > len(scope) && on[len(scope)] == '/' && strings.EqualFold(on[:len(scope)], scope)
	})
}

func (s Settings) life() time.Duration {
	if s.TokenLifetime == nil {
		return usualLife
	}
	return time.Duration(*s.TokenLifetime)
}

func (s Settings) settle() time.Duration {
	if s.Manage == nil || s.Manage.Settle == nil {
		return usualSettle
	}
	return time.Duration(*s.Manage.Settle)
}
