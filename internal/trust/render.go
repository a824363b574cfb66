package trust

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"unicode"

	"github.com/daypass/daypass/internal/access"
)

//go:embed templates/*.tmpl
var templates embed.FS

// Federation is what another side has to know to trust the tokens of one role. All of it goes into files of other
// languages: [Render] writes it in each so that it stays a text there.
type Federation struct {
	Role      string
	Target    string // of ours, that the role belongs to
	Issuer    string // our URL, `iss` of the tokens
	Audience  string // `aud`
	Subject   string // `sub`, the whole of it
	Algorithm string // RS256 or ES256

	// Others are the subjects of our other roles whose tokens have this audience. Where a side has one condition for the
	// whole issuer, it names them too: what is rendered for one role must not lock out another.
	Others []string

	// For AWS alone: names of the session tags that the tokens carry, and whether they carry a source identity.
	Tags           []string
	SourceIdentity bool

	// Where Daypass changes something there itself: who does. Where the role makes a principal per lease, the subject is
	// the manager's.
	Manager *Manager
}

// Manager is the principal by which Daypass makes others, or at AWS ends sessions. It is of a target, and what it has to be
// able to do is for all roles of that target.
type Manager struct {
	Platform  string // one of [Platforms]
	Target    string
	Subject   string              // of its tokens, which no role can have
	Principal string              // its address, ID or ARN
	Home      string              // the project where it makes accounts; empty elsewhere
	Grants    map[string][]string // the roles that it has to be able to grant, by the resource or scope; none at AWS

	// For AWS alone: what it makes per lease; nil where it ends sessions, and then the roles at AWS that these are of.
	Making   *Making
	Sessions []string
}

// Place is where a [Manager] has to be able to grant roles.
type Place struct {
	On    string // as the role says it
	Kind  string // projects, buckets or, at Azure, empty
	Name  string // what follows the kind
	Roles []string
}

// Places are those of the manager's grants, in order.
func (m Manager) Places() (all []Place) {
	for _, on := range slices.Sorted(maps.Keys(m.Grants)) {
		kind, name, _ := strings.Cut(on, "/")
		all = append(all, Place{On: on, Kind: kind, Name: name, Roles: m.Grants[on]})
	}
	return all
}

// Only is the condition by which the manager may give and take these roles and no others: of Google's language, in one of
// its own terms.
func (p Place) Only() string {
	quoted := make([]string, len(p.Roles))
	for i, r := range p.Roles {
		quoted[i] = celString(r)
	}
	return "api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly([" + strings.Join(quoted, ", ") + "])"
}

// Condition is the same at Azure, where making and deleting an assignment are asked about apart.
func (p Place) Condition() string {
	one := func(action, source string) string {
		return fmt.Sprintf("((!(ActionMatches{'Microsoft.Authorization/roleAssignments/%[1]s'})) OR "+
			"(@%[2]s[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {%[3]s} AND "+
			"@%[2]s[Microsoft.Authorization/roleAssignments:PrincipalType] ForAnyOfAnyValues:StringEqualsIgnoreCase {'ServicePrincipal'}))",
			action, source, strings.Join(p.Roles, ", "))
	}
	return one("write", "Request") + " AND " + one("delete", "Resource")
}

// Platforms returns the other sides that [Render] knows.
func Platforms() []string { return []string{"aws", "azure", "gcp", "kubernetes", "vault"} }

// Formats returns the forms that it knows.
func Formats() []string { return []string{"terraform", "cli"} }

// side is what the templates read: what several roles share stands there once.
type side struct {
	Issuer    string
	Names     string       // of the roles, as prose
	Roles     []Federation // that have tokens of their own there
	Manager   *Manager     // nil where there is none
	Audiences []string
	Subjects  []string // that a condition for the whole issuer lets in
}

// Render returns what makes a platform trust the tokens of these roles and of no others: as Terraform, or as commands. What
// only the other side knows, such as an account, is a variable. It refuses what the platform would refuse or read
// differently.
func Render(platform, format string, roles ...Federation) (string, error) {
	if !slices.Contains(Platforms(), platform) || !slices.Contains(Formats(), format) {
		return "", fmt.Errorf("there is no %s for %q", format, platform)
	}
	s, err := together(platform, roles)
	if err != nil {
		return "", err
	}
	t, err := template.New("").Funcs(template.FuncMap{
		"hcl": hclString, "json": jsonString, "sh": shellString, "cel": celString, "id": identifier,
		"hcls": list(hclString), "jsons": list(jsonString), "cels": list(celString),
		"provider": func() string { return strings.TrimPrefix(s.Issuer, "https://") },
	}).ParseFS(templates, "templates/*.tmpl")
	if err != nil {
		return "", fmt.Errorf("templates of trust: %w", err)
	}
	var text strings.Builder
	if err := t.ExecuteTemplate(&text, platform+"-"+format+".tmpl", s); err != nil {
		return "", fmt.Errorf("render trust for %s: %w", platform, err)
	}
	return text.String(), nil
}

// together joins what roles share.
func together(platform string, roles []Federation) (s side, err error) {
	if len(roles) == 0 {
		return s, errors.New("no role is named")
	}
	s.Issuer = roles[0].Issuer
	var names []string
	for _, f := range roles {
		if err := f.check(platform); err != nil {
			return s, fmt.Errorf("role %q: %w", f.Role, err)
		}
		m := f.Manager
		switch {
		case f.Issuer != s.Issuer:
			return s, fmt.Errorf("roles %q and %q have tokens of two issuers", names[0], f.Role)
		case slices.Contains(names, f.Role):
			return s, fmt.Errorf("role %q is named twice", f.Role)
		case m != nil && m.Platform != platform:
			return s, fmt.Errorf("target %q of role %q is at %s, not %s", f.Target, f.Role, m.Platform, platform)
		case m != nil && s.Manager != nil && m.Target != s.Manager.Target:
			return s, fmt.Errorf("targets %q and %q each have a manager: render the roles of one target at a time", s.Manager.Target, m.Target)
		}
		if m != nil && platform == "aws" && !managerRole.MatchString(m.Principal) {
			return s, fmt.Errorf("%q is not the ARN of a role", m.Principal)
		}
		names = append(names, f.Role)
		if m != nil {
			s.Manager = m
			s.Subjects = append(s.Subjects, m.Subject)
		}
		if m == nil || f.Subject != m.Subject {
			s.Roles = append(s.Roles, f)
		}
		s.Audiences, s.Subjects = append(s.Audiences, f.Audience), append(append(s.Subjects, f.Subject), f.Others...)
	}
	s.Names = strings.Join(names, ", ")
	s.Audiences, s.Subjects = once(s.Audiences), once(s.Subjects)
	if condition := "assertion.sub in [" + list(celString)(s.Subjects) + "]"; platform == "gcp" && len(condition) > maxCondition {
		return s, fmt.Errorf("the condition on %d subjects has %d bytes, and Google takes %d: give some of the roles a target with a provider of its own", len(s.Subjects), len(condition), maxCondition)
	}
	return s, nil
}

// maxCondition is how long an attribute condition may be at Google, in bytes.
const maxCondition = 4096

// managerRole is the ARN of a role, in letters that mean nothing in any of the languages.
var managerRole = regexp.MustCompile(`^arn:[a-z][a-z0-9-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+$`)

// once sorts texts and leaves out what is there again.
func once(all []string) []string {
	slices.Sort(all)
	return slices.Compact(all)
}

// list writes texts of a language with commas between them.
func list(quote func(string) string) func([]string) string {
	return func(all []string) string {
		quoted := make([]string, len(all))
		for i, one := range all {
			quoted[i] = quote(one)
		}
		return strings.Join(quoted, ", ")
	}
}

// check refuses what the platform would refuse, or would not compare byte by byte.
func (f Federation) check(platform string) error {
	issuer, err := url.Parse(f.Issuer)
	switch {
	case err != nil || issuer.Scheme != "https" || issuer.Host == "" || strings.HasSuffix(f.Issuer, "/") || issuer.RawQuery != "" || issuer.Fragment != "" || issuer.User != nil:
		return fmt.Errorf("%q is no issuer that others can trust: it has to be an https URL without a slash at its end", f.Issuer)
	case f.Audience == "" || f.Subject == "":
		return errors.New("the audience or the subject is missing")
	case !access.ValidName(f.Role):
		return fmt.Errorf("%q cannot be the name of a role", f.Role)
	}
	for _, text := range append([]string{f.Issuer, f.Audience, f.Subject, f.Role}, f.Others...) {
		if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || !unicode.IsPrint(r) }) {
			return fmt.Errorf("%+q has characters that do not show", text)
		}
	}
	switch {
	case platform == "azure" && f.Algorithm != "RS256":
		return fmt.Errorf("role %q signs %s, and Entra takes RS256 alone", f.Role, f.Algorithm)
	case platform == "gcp" && len(f.Subject) > 127:
		return fmt.Errorf("the subject has %d bytes, and Google takes 127", len(f.Subject))
	case (platform == "gcp" || platform == "vault") && (strings.Contains(f.Audience, ",") || strings.HasPrefix(f.Audience, "@") || strings.HasPrefix(f.Subject, "@")):
		return errors.New("the audience has a comma, or a text begins with @: the command lines there read them as lists and files")
	case platform == "aws" && strings.ContainsAny(f.Subject+f.Audience, "*?$"):
		// StringEquals compares them as they are, but a policy variable (${…}) is filled in before.
		return errors.New("the subject or the audience has *, ? or $, which AWS can read as something else")
	}
	return nil
}

// TrustPolicy is the trust policy of an AWS role, with provider as the provider's ARN.
func (f Federation) TrustPolicy(provider string) (string, error) {
	host := strings.TrimPrefix(f.Issuer, "https://")
	condition := map[string]any{"StringEquals": map[string]string{host + ":aud": f.Audience, host + ":sub": f.Subject}}
	if len(f.Tags) > 0 {
		condition["ForAllValues:StringEquals"] = map[string][]string{"aws:TagKeys": f.Tags}
	}
	statement := map[string]any{
		"Effect": "Allow", "Principal": map[string]string{"Federated": provider}, "Action": f.Actions(), "Condition": condition,
	}
	text, err := json.MarshalIndent(map[string]any{"Version": "2012-10-17", "Statement": []any{statement}}, "", "  ")
	return string(text), err
}

// Actions are what a token of the role does at AWS: it needs each of them in the trust policy.
func (f Federation) Actions() []string {
	actions := []string{"sts:AssumeRoleWithWebIdentity"}
	if len(f.Tags) > 0 {
		actions = append(actions, "sts:TagSession")
	}
	if f.SourceIdentity {
		actions = append(actions, "sts:SetSourceIdentity")
	}
	return actions
}

// identifier is a name in languages without dashes in names.
func identifier(name string) string { return strings.ReplaceAll(name, "-", "_") }

// hclString writes a string of Terraform's language: ${ and %{ begin templates there.
func hclString(text string) string {
	return strings.NewReplacer("${", "$${", "%{", "%%{").Replace(jsonString(text))
}

func jsonString(text string) string {
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a string always has a form
	return strings.TrimSuffix(out.String(), "\n")
}

// shellString writes a word of a POSIX shell.
func shellString(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// celString writes a string of the Common Expression Language, in single quotes.
func celString(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}
