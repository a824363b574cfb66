// Package policy is the policy decision point: policies and a request in, a decision with reasons out.
//
// It promises to deny by default, and whenever anything is not as it should be: an unknown principal, a claim of
// another type than declared, a policy that fails. A permit that fails does not permit; a forbid that fails
// forbids, although Cedar itself would skip it. Every policy is checked at load against a schema that the access
// configuration gives. A decision costs the same with ten policies and with ten thousand, as long as their scopes
// tell them apart.
//
// It is pure: it does no I/O and reads no clock, and must not import anything that does. Who holds a lease is not
// its business: the broker sees to that.
package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/source"
)

// Engine decides by the policies of one access configuration. It is immutable and may be used concurrently.
type Engine struct {
	vocabulary *vocabulary
	index      *index
	usage      usage
	names      map[cedar.PolicyID]string // as reasons show them
	effects    map[cedar.PolicyID]cedar.Effect
	roles      map[string]cedar.Entity
	issuers    map[string]compiledIssuer
	zones      []zone
	postures   map[string]*compiledPosture
	timed      map[string]bool // roles
	dates      bool            // some policy can see a date
	open       source.Errors   // permits without a condition
}

// compiledIssuer is what a decision needs to know of an issuer.
type compiledIssuer struct {
	name      string
	principal cedar.EntityType
	parents   cedar.EntityUIDSet
	claims    []claim
}

type claim struct {
	name string
	key  cedar.String
	kind access.ClaimKind
	used bool // some policy can see it

	optional bool
}

type zone struct {
	key      cedar.String
	location *time.Location
}

// Compile checks cfg's policies against the vocabulary that cfg itself gives, and returns an engine, or every
// mistake as [source.Errors]. Zones are the time zones that policies may ask for, under their own names.
func Compile(cfg *access.Config, zones []*time.Location) (*Engine, error) {
	words, err := newVocabulary(cfg, zones)
	if err != nil {
		return nil, err
	}
	check, err := newChecker(words)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		vocabulary: words, index: newIndex(), names: map[cedar.PolicyID]string{}, effects: map[cedar.PolicyID]cedar.Effect{},
		roles: compileRoles(cfg), issuers: map[string]compiledIssuer{}, usage: usage{attributes: map[cedar.String]bool{}},
		timed: map[string]bool{},
	}
	for _, location := range zones {
		e.zones = append(e.zones, zone{cedar.String(location.String()), location})
	}
	var wrong source.Errors
	ids := map[string]source.Place{}
	for _, file := range slices.SortedFunc(slices.Values(cfg.Policies), func(a, b access.PolicyFile) int { return cmp.Compare(a.Path, b.Path) }) {
		wrong.Add(file.Path, e.compileFile(check, file, ids))
	}
	if err := wrong.Err(); err != nil {
		return nil, err
	}
	for name, issuer := range cfg.Issuers {
		e.issuers[name] = compileIssuer(issuer, &e.usage)
	}
	e.postures, e.dates = compilePostures(cfg), e.usage.wantsDates()
	return e, nil
}

// Schema returns the vocabulary in Cedar's schema language.
func (e *Engine) Schema() string { return e.vocabulary.schema(e.vocabulary.types()) }

// SchemaOf is the schema where all issuers are of one preset.
func SchemaOf(p access.Preset) (string, error) {
	v, err := newVocabulary(&access.Config{Issuers: map[string]access.Issuer{p.Name: {Name: p.Name, Type: p.Type, Claims: p.Claims}}}, nil)
	if err != nil {
		return "", fmt.Errorf("draw the schema of preset %q: %w", p.Name, err)
	}
	return v.schema(v.types()), nil
}

func (e *Engine) compileFile(check *checker, file access.PolicyFile, ids map[string]source.Place) error {
	text, err := source.NewFile(file.Path, file.Text)
	if err != nil {
		return err
	}
	var wrong source.Errors
	policies, err := cut(text)
	wrong.Add(file.Path, err)
	for _, one := range policies {
		p, err := parse(one)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		wrong = append(wrong, check.policy(one, p)...)
		place := text.PlaceOf(one.head())
		id := cedar.PolicyID(place.String())
		name := lineOf(place)
		if annotation, ok := p.Annotations()["id"]; ok {
			name = string(annotation)
			if err := checkID(one, name, place, ids); err != nil {
				wrong = append(wrong, err)
			}
		}
		e.names[id], e.effects[id] = name, p.Effect()
		e.index.add(id, p)
		tree := (*ast.Policy)(p.AST())
		e.usage.add(tree)
		e.noteTime(tree)
		if isOpen(tree) {
			e.open = append(e.open, one.errorAt(one.head(), openMessage, openHint))
		}
	}
	return wrong.Err()
}

// checkID refuses names of policies that could not be told apart in a decision.
func checkID(p policyText, name string, place source.Place, ids map[string]source.Place) *source.Error {
	at := max(p.find(name, 0, len(p.tokens)), p.start())
	if name == "" || len(name) > 200 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) {
		return p.errorAt(at, "the @id of a policy has 1 to 200 bytes without control characters", "")
	}
	if first, again := ids[name]; again {
		return p.errorAt(at, fmt.Sprintf("two policies have the @id %q", name), fmt.Sprintf("the other one is at %s: rename one", first))
	}
	ids[name] = place
	return nil
}

// compileRoles returns the roles of cfg as entities.
func compileRoles(cfg *access.Config) map[string]cedar.Entity {
	roles := map[string]cedar.Entity{}
	for name, role := range cfg.Roles {
		labels := cedar.RecordMap{}
		for key, value := range role.Labels {
			labels[cedar.String(key)] = cedar.String(value)
		}
		roles[name] = cedar.Entity{
			UID:        OnRole(name).uid(),
			Parents:    cedar.NewEntityUIDSet(targetUID(role.Target)),
			Attributes: cedar.NewRecord(cedar.RecordMap{"labels": cedar.NewRecord(labels)}),
		}
	}
	return roles
}

func compileIssuer(issuer access.Issuer, used *usage) compiledIssuer {
	compiled := compiledIssuer{
		name: issuer.Name, principal: cedar.EntityType(issuer.Type),
		parents: cedar.NewEntityUIDSet(issuerUID(issuer.Name)),
	}
	for _, name := range slices.Sorted(maps.Keys(issuer.Claims)) {
		compiled.claims = append(compiled.claims, claim{
			name: name, key: cedar.String(name), kind: issuer.Claims[name].Kind, used: used.wantsClaim(cedar.String(name)),
		})
	}
	return compiled
}

func issuerUID(name string) cedar.EntityUID {
	return cedar.NewEntityUID(kindIssuer, cedar.String(name))
}

func targetUID(name string) cedar.EntityUID {
	return cedar.NewEntityUID(kindTarget, cedar.String(name))
}

func actionUID(a Action) cedar.EntityUID { return cedar.NewEntityUID("Action", cedar.String(a)) }
