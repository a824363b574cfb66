package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/source"
)

// How records become `context.posture`. Each source that the configuration declares is an optional attribute of it.
// It is there only while everything is as it should be: the principal's issuer is one that the source speaks of, there
// is a record of the principal, it is not older than the source's max_age, and all its fields are as declared.
// Otherwise it is not there, so that a policy which needs it denies.

// compiledPosture is what a decision needs to know of a source of posture.
type compiledPosture struct {
	key    cedar.String
	of     map[string]string // issuer, to the claim that names the record
	fields []claim
	maxAge time.Duration
}

// reportedAt is the attribute that every record has.
const reportedAt = "reported_at"

func compilePostures(cfg *access.Config) map[string]*compiledPosture {
	all := map[string]*compiledPosture{}
	for name, posture := range cfg.Postures {
		compiled := &compiledPosture{key: cedar.String(name), of: posture.Of, maxAge: posture.MaxAge}
		for _, field := range slices.Sorted(maps.Keys(posture.Fields)) {
			declared := posture.Fields[field]
			compiled.fields = append(compiled.fields, claim{name: field, key: cedar.String(field), kind: declared.Kind, optional: declared.Optional})
		}
		all[name] = compiled
	}
	return all
}

// PostureKey names one record of a source.
type PostureKey struct{ Source, ID string }

// PostureOf returns the records that speak of a principal, sorted by their sources, whether or not there are such
// records and any policy asks for them.
func (e *Engine) PostureOf(p identity.Principal) []PostureKey {
	var keys []PostureKey
	for name, posture := range e.postures {
		claim, ok := posture.of[p.Issuer]
		if !ok {
			continue
		}
		id := p.Subject
		if claim != access.SubjectKey {
			id, _ = p.Claims[claim].(string)
		}
		if ValidPostureID(id) {
			keys = append(keys, PostureKey{name, id})
		}
	}
	slices.SortFunc(keys, func(a, b PostureKey) int { return strings.Compare(a.Source, b.Source) })
	return keys
}

// ValidPostureID reports whether a text can name a record.
func ValidPostureID(id string) bool { return validSubject(id) }

// CheckPosture says why fields are no record of a source. It never says a value.
func (e *Engine) CheckPosture(name string, fields map[string]any) error {
	posture := e.postures[name]
	if posture == nil {
		return fmt.Errorf("there is no source of posture %q", name)
	}
	return posture.check(fields)
}

// PostureAge returns for how long a source's records are believed, and false where there is no such source.
func (e *Engine) PostureAge(name string) (time.Duration, bool) {
	posture := e.postures[name]
	if posture == nil {
		return 0, false
	}
	return posture.maxAge, true
}

func (c *compiledPosture) check(fields map[string]any) error {
	known := 0
	for _, f := range c.fields {
		value, ok := fields[f.name]
		if ok {
			known++
		}
		switch {
		case (!ok || value == nil) && !f.optional:
			return fmt.Errorf("field %q is missing: %s", f.name, f.kind)
		case !ok || value == nil:
		case !fits(value, f.kind):
			return fmt.Errorf("field %q is %s, and declared as %s", f.name, typeOf(value), f.kind)
		}
	}
	if known < len(fields) {
		return fmt.Errorf("there are %d fields that are not declared", len(fields)-known)
	}
	return nil
}

// posture returns the records about the principal that are believed now. Fields that a stored record has beyond those
// that are declared by now are left out: an earlier configuration took them.
func (e *Engine) posture(r Request) cedar.Record {
	all := cedar.RecordMap{}
	for _, key := range e.PostureOf(r.Principal) {
		record, ok := r.Posture[key.Source]
		posture := e.postures[key.Source]
		if !ok || record.ID != key.ID || !posture.believes(record.ReportedAt, r.Now) {
			continue
		}
		if attributes, ok := posture.attributes(record); ok {
			all[posture.key] = attributes
		}
	}
	return cedar.NewRecord(all)
}

// believes reports whether a record of a time still counts. One from the future counts as little as one of long ago.
func (c *compiledPosture) believes(reported, now time.Time) bool {
	age := now.Sub(reported)
	return age <= c.maxAge && age >= -maxSkew
}

// Believes reports whether a policy would see a record of a source now, and until when at most it will.
func (e *Engine) Believes(name string, record Posture, now time.Time) (until time.Time, ok bool) {
	posture := e.postures[name]
	if posture == nil {
		return until, false
	}
	_, ok = posture.attributes(record)
	return record.ReportedAt.Add(posture.maxAge), ok && posture.believes(record.ReportedAt, now)
}

// maxSkew is how far ahead of ours the clock of whoever dates a record may be.
const maxSkew = time.Minute

func (c *compiledPosture) attributes(record Posture) (cedar.Record, bool) {
	attributes := cedar.RecordMap{reportedAt: cedar.NewDatetime(record.ReportedAt)}
	for _, f := range c.fields {
		value, ok := record.Fields[f.name]
		switch {
		case !ok || value == nil:
			if !f.optional {
				return cedar.Record{}, false
			}
		case !fits(value, f.kind):
			return cedar.Record{}, false
		default:
			attributes[f.key] = convert(value)
		}
	}
	return cedar.NewRecord(attributes), true
}

// sources checks that the sources of posture that a policy asks for exist. The validator takes `has` of anything, and a
// forbid with a misspelt one would forbid nothing.
func (c *checker) sources(text policyText, tree *ast.Policy) source.Errors {
	var wrong source.Errors
	for _, condition := range tree.Conditions {
		ast.Inspect(ast.NewNode(condition.Body), func(n ast.IsNode) bool {
			asked, ok := n.(ast.NodeTypeHas)
			if !ok || !isPosture(asked.Arg) {
				return true
			}
			name := string(asked.Value)
			if message, hint := absent("posture", name, c.vocabulary.config.Postures); message != "" {
				offset := text.head()
				if found := text.find(name, 0, len(text.tokens)); found >= 0 {
					offset = found
				}
				wrong = append(wrong, text.errorAt(offset, message, hint))
			}
			return true
		})
	}
	return wrong
}

func isPosture(node ast.IsNode) bool {
	access, ok := node.(ast.NodeTypeAccess)
	return ok && access.Value == "posture" && isContext(access.Arg)
}

// posture writes the type of `context.posture`.
func (v *vocabulary) posture(text *strings.Builder) {
	text.WriteString("  posture: {  // what is neither missing nor stale\n")
	for _, name := range slices.Sorted(maps.Keys(v.config.Postures)) {
		fmt.Fprintf(text, "    %s?: {\n      %s: datetime,\n", quote(name), reportedAt)
		fields := v.config.Postures[name].Fields
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			mark := ""
			if fields[field].Optional {
				mark = "?"
			}
			fmt.Fprintf(text, "      %s%s: %s,\n", quote(field), mark, cedarType(fields[field].Kind))
		}
		text.WriteString("    },\n")
	}
	text.WriteString("  },\n")
}

// circumstances are the attributes of the context, for hints.
func (v *vocabulary) circumstances() []string {
	known := []string{"now", "source_ip", "ttl", "country", "subdivision", "token_age", "live_leases", "local", "posture"}
	for name, posture := range v.config.Postures {
		known = append(known, "posture."+name, "posture."+name+"."+reportedAt)
		for field := range posture.Fields {
			known = append(known, "posture."+name+"."+field)
		}
	}
	return known
}
