package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/source"
)

// The entity types that every vocabulary has.
const (
	kindIssuer = "Issuer"
	kindTarget = "Target"
	kindRole   = "Role"
	kindLease  = "Lease"
	kindSystem = "System"
	systemID   = "daypass"

	kindPosture = "Posture"
)

// appliesTo is the table of actions: what each may be asked of.
func appliesTo() []struct {
	action    Action
	resources []string
} {
	return []struct {
		action    Action
		resources []string
	}{
		{Acquire, []string{kindRole}},
		{Renew, []string{kindRole}},
		{Read, []string{kindLease, kindSystem}},
		{Revoke, []string{kindLease}},
		{Lock, []string{kindSystem}},
		{Configure, []string{kindSystem}},
		{Approve, []string{kindSystem}},
		{Report, []string{kindPosture}},
	}
}

// Actions returns all actions.
func Actions() []Action {
	var all []Action
	for _, row := range appliesTo() {
		all = append(all, row.action)
	}
	return all
}

// vocabulary is what policies may speak of, drawn from an access configuration.
type vocabulary struct {
	config     *access.Config
	zones      []*time.Location
	principals map[string]map[string]access.ClaimType // Cedar type of principals, to its claims
	labels     []string                               // of all roles
}

// newVocabulary draws the vocabulary from cfg. Issuers without a preset share one type of principal, whose claims
// are those of all of them: a claim that two of them declare as different types is a mistake, and one that not
// each of them declares, or that one declares as optional, is optional.
func newVocabulary(cfg *access.Config, zones []*time.Location) (*vocabulary, error) {
	v := &vocabulary{config: cfg, zones: zones, principals: map[string]map[string]access.ClaimType{}}
	var wrong source.Errors
	users := map[string][]access.Issuer{}
	for _, issuer := range slices.SortedFunc(maps.Values(cfg.Issuers), func(a, b access.Issuer) int { return cmp.Compare(a.Name, b.Name) }) {
		users[issuer.Type] = append(users[issuer.Type], issuer)
	}
	if len(users) == 0 {
		users[access.GenericType] = nil
	}
	for principal, issuers := range users {
		claims, err := union(issuers)
		wrong.Add("", err)
		v.principals[principal] = claims
	}
	seen := map[string]bool{}
	for _, role := range cfg.Roles {
		for name := range role.Labels {
			seen[name] = true
		}
	}
	v.labels = slices.Sorted(maps.Keys(seen))
	return v, wrong.Err()
}

// union returns the claims that principals of one type have.
func union(issuers []access.Issuer) (map[string]access.ClaimType, error) {
	claims, declared := map[string]access.ClaimType{}, map[string][]access.Issuer{}
	var wrong source.Errors
	for _, issuer := range issuers {
		for _, name := range slices.Sorted(maps.Keys(issuer.Claims)) {
			claim := issuer.Claims[name]
			known, again := claims[name]
			if again && known.Kind != claim.Kind {
				first := declared[name][0]
				wrong = append(wrong, &source.Error{File: issuer.Place.File, Line: issuer.Place.Line, Column: issuer.Place.Column,
					Message: fmt.Sprintf("claim %q is %s here and %s at issuer %q", name, claim.Kind, known.Kind, first.Name),
					Hint:    fmt.Sprintf("issuers without a preset share their claims, and %q is at %s: declare one type", first.Name, first.Place)})
				continue
			}
			claim.Optional = claim.Optional || known.Optional
			claims[name] = claim
			declared[name] = append(declared[name], issuer)
		}
	}
	for name, by := range declared {
		if len(by) < len(issuers) {
			claims[name] = access.ClaimType{Kind: claims[name].Kind, Optional: true}
		}
	}
	return claims, wrong.Err()
}

// types returns the types of principals, sorted.
func (v *vocabulary) types() []string { return slices.Sorted(maps.Keys(v.principals)) }

// schema returns the vocabulary in Cedar's schema language, with the given types of principals.
func (v *vocabulary) schema(types []string) string {
	var text strings.Builder
	text.WriteString("// What Daypass policies may speak of, drawn from the access configuration.\n")
	if len(types) > 1 && slices.Contains(types, access.GenericType) {
		text.WriteString("// Cedar's own tools want it once without Workload and once without the namespaces: they let no type of a\n")
		text.WriteString("// namespace share its last name with one outside.\n")
	}
	text.WriteString("\n")
	for _, name := range types {
		v.principal(&text, name)
	}
	text.WriteString("// An issuer of identity tokens: the parent of its principals.\nentity Issuer;\n\n")
	text.WriteString("// A system where credentials are made: the parent of its roles.\nentity Target;\n\n")
	text.WriteString("// A named set of rights at one target.\nentity Role in [Target] {\n  labels: {\n")
	for _, name := range v.labels {
		fmt.Fprintf(&text, "    %s?: String,\n", quote(name))
	}
	text.WriteString("  },\n};\n\n")
	text.WriteString("// A record that a credential may exist until a time.\n")
	text.WriteString("entity Lease in [Role, Target] {\n  holder: { issuer: String, subject: String },\n};\n\n")
	text.WriteString("// The installation itself: System::\"daypass\".\nentity System;\n\n")
	text.WriteString("// A source of records about the health of devices, clusters or principals.\nentity Posture;\n\n")
	v.context(&text)
	for _, row := range appliesTo() {
		fmt.Fprintf(&text, "action %s appliesTo {\n  principal: [%s],\n  resource: [%s],\n  context: Context,\n};\n\n",
			quote(string(row.action)), strings.Join(types, ", "), strings.Join(row.resources, ", "))
	}
	return text.String()
}

// principal writes one type of principal.
func (v *vocabulary) principal(text *strings.Builder, name string) {
	namespace, short, spaced := strings.Cut(name, "::")
	if !spaced {
		short = name
	} else {
		fmt.Fprintf(text, "namespace %s {\n", namespace)
	}
	fmt.Fprintf(text, "// A workload whose evidence was verified.\nentity %s in [Issuer] {\n", short)
	text.WriteString("  issuer: String,   // the issuer's name\n  subject: String,  // sub\n  claims: {\n")
	claims, meanings := v.principals[name], access.Meanings(name)
	for _, claim := range slices.Sorted(maps.Keys(claims)) {
		mark, meaning := "", meanings[claim]
		if claims[claim].Optional {
			mark = "?"
		}
		if meaning != "" {
			meaning = "  // " + meaning
		}
		fmt.Fprintf(text, "    %s%s: %s,%s\n", quote(claim), mark, cedarType(claims[claim].Kind), meaning)
	}
	text.WriteString("  },\n};\n")
	if spaced {
		text.WriteString("}\n")
	}
	text.WriteString("\n")
}

// context writes the type of the context.
func (v *vocabulary) context(text *strings.Builder) {
	text.WriteString("type Context = {\n  now: datetime,\n  source_ip: ipaddr,\n  ttl: duration,  // asked for\n")
	text.WriteString("  country?: String,  // ISO 3166-1 alpha-2\n  subdivision?: String,  // ISO 3166-2\n")
	text.WriteString("  token_age?: duration,  // since the evidence was issued\n  live_leases: Long,  // other leases of the principal\n  local: {\n")
	for _, zone := range v.zones {
		fmt.Fprintf(text, "    %s: { hour: Long, minute: Long, weekday: Long, date: String },  // Monday is 1, Sunday 7; 2026-12-31\n", quote(zone.String()))
	}
	text.WriteString("  },\n")
	v.posture(text)
	text.WriteString("};\n\n")
}

func cedarType(kind access.ClaimKind) string {
	switch kind {
	case access.Bool:
		return "Bool"
	case access.Long:
		return "Long"
	case access.StringSet:
		return "Set<String>"
	}
	return "String"
}

// quote writes text as a string of Cedar.
func quote(text string) string { return string(cedar.String(text).MarshalCedar()) }

// uid returns the entity of a resource.
func (r Resource) uid() cedar.EntityUID {
	return cedar.NewEntityUID(cedar.EntityType(r.kind), cedar.String(r.id))
}

// principalUID returns the entity of a principal: `type::"issuer:subject"`. Names of issuers hold no colon, so
// the first colon ends the name and no two principals share an entity.
func principalUID(principal, issuer, subject string) cedar.EntityUID {
	return cedar.NewEntityUID(cedar.EntityType(principal), cedar.String(issuer+":"+subject))
}

// wallClock is what the clocks and calendars of a zone show.
type wallClock struct {
	hour, minute, weekday int
	there                 time.Time
}

// date is the date that the calendar shows, such as 2026-12-31.
func (w wallClock) date() string { return w.there.Format(time.DateOnly) }

// localTime returns the wall clock of a zone, as policies see it.
func localTime(now time.Time, zone *time.Location) wallClock {
	there := now.In(zone)
	weekday := int(there.Weekday())
	if weekday == 0 {
		weekday = 7
	}
	return wallClock{there.Hour(), there.Minute(), weekday, there}
}

// lineOf returns `file:line`.
func lineOf(p source.Place) string { return p.File + ":" + strconv.Itoa(p.Line) }
