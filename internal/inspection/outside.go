package inspection

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/kind"
	"github.com/daypass/daypass/internal/source"
	"github.com/daypass/daypass/internal/trust"
	"github.com/daypass/daypass/target/aws"
	"github.com/daypass/daypass/target/azure"
	"github.com/daypass/daypass/target/cloud"
	"github.com/daypass/daypass/target/gcp"
	"github.com/daypass/daypass/target/oidctoken"
)

// FederationOf returns what another side has to know to trust the tokens of a role. What access files leave to the server,
// the caller says: url is our issuer's URL, algorithm what it signs with by itself.
func FederationOf(files map[string]string, role, url, algorithm string) (trust.Federation, error) {
	cfg, err := access.Parse(files, kind.All(kind.Allowed{}).Access())
	if err != nil {
		return trust.Federation{}, err
	}
	r, ok := cfg.Roles[role]
	if !ok {
		return trust.Federation{}, fault.WithHint(fmt.Errorf("there is no role %q", role), source.Suggest(role, "roles", slices.Collect(maps.Keys(cfg.Roles))))
	}
	f, err := federation(cfg, r, url, algorithm)
	if err != nil {
		return f, err
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Roles)) {
		other, err := federation(cfg, cfg.Roles[name], url, algorithm)
		templated := strings.Contains(other.Subject, "${") // what it will be is not known here
		if err == nil && name != role && other.Audience == f.Audience && other.Subject != f.Subject && !templated && !slices.Contains(f.Others, other.Subject) {
			f.Others = append(f.Others, other.Subject)
		}
	}
	return f, nil
}

// federation reads what is of one role alone.
func federation(cfg *access.Config, r access.Role, url, algorithm string) (trust.Federation, error) {
	f := trust.Federation{Role: r.Name, Target: r.Target, Issuer: url, Algorithm: algorithm, Subject: "role:" + r.Name}
	at := cfg.Targets[r.Target]
	switch at.Kind {
	case oidctoken.Kind:
		return f, ofToken(&f, r)
	case aws.Kind:
		return f, ofAWS(&f, r, at, rolesOf(cfg, r.Target))
	case gcp.Kind:
		return f, ofGoogle(&f, r, at, rolesOf(cfg, r.Target))
	case azure.Kind:
		return f, ofAzure(&f, r, at, rolesOf(cfg, r.Target))
	default:
		return f, fault.WithHint(fmt.Errorf("role %q is of a target of kind %s, which needs no trust in our issuer", r.Name, at.Kind), "name a role with a section oidc-token, aws, gcp or azure")
	}
}

// rolesOf are the roles of a target, sorted by name.
func rolesOf(cfg *access.Config, target string) (all []access.Role) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Roles)) {
		if r := cfg.Roles[name]; r.Target == target {
			all = append(all, r)
		}
	}
	return all
}

// grant notes that a manager gives roles on a resource.
func grant(grants map[string][]string, on string, roles []string) {
	all := slices.Concat(grants[on], roles)
	slices.Sort(all)
	grants[on] = slices.Compact(all)
}

// RolesAt are the roles of a target, sorted; of a role's name it is that role alone.
func RolesAt(files map[string]string, name string) ([]string, error) {
	cfg, err := access.Parse(files, kind.All(kind.Allowed{}).Access())
	if err != nil {
		return nil, err
	}
	if _, ok := cfg.Targets[name]; !ok || cfg.Roles[name].Name != "" {
		return []string{name}, nil
	}
	var roles []string
	for _, r := range rolesOf(cfg, name) {
		roles = append(roles, r.Name)
	}
	if roles == nil {
		return nil, fmt.Errorf("target %q has no roles", name)
	}
	return roles, nil
}

// ofGoogle fills in what Google has to trust for a role: the role's own tokens, or where it makes an account per lease, those
// of its target.
func ofGoogle(f *trust.Federation, role access.Role, of access.Target, beside []access.Role) error {
	var settings gcp.Settings
	var rights gcp.Rights
	if err := errors.Join(json.Unmarshal(of.Settings, &settings), json.Unmarshal(role.Rights, &rights)); err != nil {
		return fmt.Errorf("read role %q and its target: %w", role.Name, err)
	}
	f.Algorithm, f.Audience = string(issuer.RS256), settings.Audience()
	if m := settings.Manage; m != nil && rights.PerLease {
		f.Subject = cloud.ManagerSubject(of.Name)
		f.Manager = &trust.Manager{Platform: "gcp", Target: of.Name, Subject: f.Subject, Principal: m.ServiceAccount, Home: m.Project, Grants: map[string][]string{}}
		for _, r := range beside { // the manager is of the target
			var rights gcp.Rights
			if err := json.Unmarshal(r.Rights, &rights); err != nil {
				return fmt.Errorf("read the rights of role %q: %w", r.Name, err)
			}
			for _, b := range rights.Bindings {
				grant(f.Manager.Grants, b.On, b.Roles)
			}
		}
	}
	return nil
}

// ofAzure fills in what Entra has to trust for a role: the role's own tokens, or where it makes an application per lease, those
// of its target.
func ofAzure(f *trust.Federation, role access.Role, of access.Target, beside []access.Role) error {
	var settings azure.Settings
	var rights azure.Rights
	if err := errors.Join(json.Unmarshal(of.Settings, &settings), json.Unmarshal(role.Rights, &rights)); err != nil {
		return fmt.Errorf("read role %q and its target: %w", role.Name, err)
	}
	f.Algorithm, f.Audience = string(issuer.RS256), azure.Audience
	if m := settings.Manage; m != nil && rights.PerLease {
		f.Subject = cloud.ManagerSubject(of.Name)
		f.Manager = &trust.Manager{Platform: "azure", Target: of.Name, Subject: f.Subject, Principal: m.ClientID, Grants: map[string][]string{}}
		for _, r := range beside { // the manager is of the target
			var rights azure.Rights
			if err := json.Unmarshal(r.Rights, &rights); err != nil {
				return fmt.Errorf("read the rights of role %q: %w", r.Name, err)
			}
			for _, a := range rights.Assignments {
				grant(f.Manager.Grants, a.On, a.Roles)
			}
		}
	}
	return nil
}

// ofToken fills in what the section oidc-token of a role says.
func ofToken(f *trust.Federation, role access.Role) error {
	var rights oidctoken.Rights
	if err := json.Unmarshal(role.Rights, &rights); err != nil {
		return fmt.Errorf("read the rights of role %q: %w", role.Name, err)
	}
	f.Audience = rights.Audience
	if rights.Algorithm != "" {
		f.Algorithm = rights.Algorithm
	}
	if rights.Subject != "" {
		f.Subject = strings.ReplaceAll(rights.Subject, "${role}", role.Name)
	}
	if tags, ok := rights.Claims["https://aws.amazon.com/tags"].(map[string]any); ok {
		names, _ := tags["principal_tags"].(map[string]any)
		f.Tags = slices.Sorted(maps.Keys(names))
	}
	_, f.SourceIdentity = rights.Claims["https://aws.amazon.com/source_identity"]
	return nil
}

// ofAWS fills in what AWS has to trust for a role: the role's own tokens, or where it makes something per lease, those of
// its target.
func ofAWS(f *trust.Federation, role access.Role, of access.Target, beside []access.Role) error {
	var settings aws.Settings
	if err := json.Unmarshal(of.Settings, &settings); err != nil {
		return fmt.Errorf("read the settings of target %q: %w", of.Name, err)
	}
	var rights aws.Rights
	if err := json.Unmarshal(role.Rights, &rights); err != nil {
		return fmt.Errorf("read the rights of role %q: %w", role.Name, err)
	}
	f.Audience = settings.Aud()
	if m := settings.Manage; m != nil {
		f.Manager = &trust.Manager{Platform: "aws", Target: of.Name, Subject: aws.ManagerSubject(of.Name), Principal: m.RoleARN}
		if err := manages(f.Manager, beside); err != nil {
			return err
		}
	}
	if rights.PerLease != "" {
		f.Subject = aws.ManagerSubject(of.Name)
		return nil
	}
	f.Tags, f.SourceIdentity = aws.Tags(), true
	return nil
}

// manages fills in what a manager at AWS does for the roles of its target.
func manages(m *trust.Manager, roles []access.Role) error {
	making, unbounded := trust.Making{}, false
	for _, r := range roles {
		var rights aws.Rights
		if err := json.Unmarshal(r.Rights, &rights); err != nil {
			return fmt.Errorf("read the rights of role %q: %w", r.Name, err)
		}
		if rights.PerLease == "" {
			m.Sessions = append(m.Sessions, rights.RoleARN)
			continue
		}
		making.Kinds, making.Policies = append(making.Kinds, rights.PerLease), append(making.Policies, rights.PolicyARNs...)
		making.Boundaries = append(making.Boundaries, rights.PermissionsBoundary)
		unbounded = unbounded || rights.PermissionsBoundary == ""
	}
	for _, all := range []*[]string{&m.Sessions, &making.Kinds, &making.Policies, &making.Boundaries} {
		slices.Sort(*all)
		*all = slices.Compact(*all)
	}
	if unbounded {
		making.Boundaries = nil
	}
	if making.Kinds != nil {
		m.Making = &making
	}
	return nil
}

// maxDocument bounds what is read of a document, in bytes. Verifiers of clouds read less.
const maxDocument = 1 << 20

// LookFromOutside reads the two documents of an issuer as verifiers do: from its URL, over https, following nothing.
func LookFromOutside(ctx context.Context, client *http.Client, url string) (trust.Published, error) {
	var p trust.Published
	if !strings.HasPrefix(url, "https://") {
		return p, fmt.Errorf("%q is not https: nobody outside fetches keys from there", url)
	}
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error {
		return errors.New("it redirects, which verifiers do not follow")
	}
	own.Timeout = 20 * time.Second
	var err error
	if p.Configuration, p.Date, err = document(ctx, &own, url+issuer.ConfigurationPath); err != nil {
		return p, err
	}
	keys, err := trust.KeysURL(p.Configuration, url)
	if err != nil {
		return p, err
	}
	p.Keys, _, err = document(ctx, &own, keys)
	return p, err
}

// document reads one, with the clock of who gave it, if he told.
func document(ctx context.Context, client *http.Client, url string) (body []byte, date time.Time, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, date, fmt.Errorf("read %q: %w", url, err)
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, date, fmt.Errorf("read %q: %w", url, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, date, fmt.Errorf("%s answers %d", url, answer.StatusCode)
	}
	date, _ = http.ParseTime(answer.Header.Get("Date")) // zero where it says none
	body, err = io.ReadAll(io.LimitReader(answer.Body, maxDocument+1))
	if err == nil && len(body) > maxDocument {
		err = fmt.Errorf("more than %d bytes", maxDocument)
	}
	if err != nil {
		return nil, date, fmt.Errorf("read %q: %w", url, err)
	}
	return body, date, nil
}
