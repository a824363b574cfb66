package trust

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// What a fact is about, beside claims.
const (
	aboutSubject   = "subject"   // principal.subject
	aboutIssuer    = "issuer"    // principal.issuer, or principal in Issuer::"…"
	aboutType      = "type"      // principal is T
	aboutPrincipal = "principal" // principal == T::"issuer:subject"
)

// fact is what a literal says of the principal.
type fact struct {
	about  string   // one of the above; empty for a claim
	claim  string   // its name
	values []string // it is one of these, or none of them; nil for a pattern
	like   []string // the literal parts of a pattern, with a wildcard between each two
	not    bool
}

// byRole stands for a value that the role's labels say: whoever writes the configuration chose it.
const byRole = "\x00role"

// reading is what can be made of the literals of one alternative.
type reading struct {
	facts  []fact
	unread int // literals that say something that cannot be read
}

// read returns the facts of one alternative.
func read(literals []literal) reading {
	var r reading
	for _, l := range literals {
		switch f, known := factOf(l.node); {
		case !known:
			r.unread++
		case f != nil:
			f.not = l.not
			r.facts = append(r.facts, *f)
		}
	}
	return r
}

// factOf reads a literal. Circumstances, and whether a claim is there, are known and are no facts of the principal.
func factOf(node ast.IsNode) (*fact, bool) {
	switch n := node.(type) {
	case ast.NodeTypeEquals:
		return equality(n.Left, n.Right)
	case ast.NodeTypeLike:
		if f := subjectOf(n.Arg); f != nil {
			f.like = parts(n.Value)
			return f, true
		}
	case ast.NodeTypeContains:
		if f := subjectOf(n.Right); f != nil {
			if f.values = setOf(n.Left); f.values != nil {
				return f, true
			}
		}
		if f := subjectOf(n.Left); f != nil { // a claim that is a set
			if value, ok := valueOf(n.Right); ok {
				f.values = []string{value}
				return f, true
			}
		}
	case ast.NodeTypeIn:
		if uid, ok := entityOf(n.Right); ok && isVariable(n.Left, "principal") && uid.Type == "Issuer" {
			return &fact{about: aboutIssuer, values: []string{string(uid.ID)}}, true
		}
	case ast.NodeTypeIs:
		if isVariable(n.Left, "principal") {
			return &fact{about: aboutType, values: []string{string(n.EntityType)}}, true
		}
	case ast.NodeTypeAccess: // a claim that is true or false
		if f := subjectOf(n); f != nil && f.claim != "" {
			f.values = []string{"true"}
			return f, true
		}
	case ast.NodeTypeHas:
		return nil, true
	}
	return nil, !mentions(node, "principal")
}

// equality reads a comparison of a claim, the subject or the principal with something that does not depend on it.
func equality(left, right ast.IsNode) (*fact, bool) {
	for _, sides := range [][2]ast.IsNode{{left, right}, {right, left}} {
		f := subjectOf(sides[0])
		if f == nil {
			continue
		}
		if value, ok := valueOf(sides[1]); ok {
			f.values = []string{value}
			return f, true
		}
		if !mentions(sides[1], "principal") && !mentions(sides[1], "context") && mentions(sides[1], "resource") {
			f.values = []string{byRole}
			return f, true
		}
	}
	return nil, !mentions(left, "principal") && !mentions(right, "principal")
}

// subjectOf returns a fact about what a node names: a claim, the subject, the issuer's name or the principal.
func subjectOf(node ast.IsNode) *fact {
	if isVariable(node, "principal") {
		return &fact{about: aboutPrincipal}
	}
	outer, ok := node.(ast.NodeTypeAccess)
	if !ok {
		return nil
	}
	if isVariable(outer.Arg, "principal") {
		switch outer.Value {
		case "subject":
			return &fact{about: aboutSubject}
		case "issuer":
			return &fact{about: aboutIssuer}
		}
		return nil
	}
	if inner, ok := outer.Arg.(ast.NodeTypeAccess); ok && inner.Value == "claims" && isVariable(inner.Arg, "principal") {
		return &fact{claim: string(outer.Value)}
	}
	return nil
}

func isVariable(node ast.IsNode, name types.String) bool {
	v, ok := node.(ast.NodeTypeVariable)
	return ok && v.Name == name
}

// mentions reports whether a variable stands somewhere in a node.
func mentions(node ast.IsNode, name types.String) bool {
	found := false
	ast.Inspect(ast.NewNode(node), func(n ast.IsNode) bool {
		found = found || isVariable(n, name)
		return !found
	})
	return found
}

func entityOf(node ast.IsNode) (types.EntityUID, bool) {
	value, ok := node.(ast.NodeValue)
	if !ok {
		return types.EntityUID{}, false
	}
	uid, ok := value.Value.(types.EntityUID)
	return uid, ok
}

// valueOf returns a constant as text.
func valueOf(node ast.IsNode) (string, bool) {
	value, ok := node.(ast.NodeValue)
	if !ok {
		return "", false
	}
	switch v := value.Value.(type) {
	case types.String:
		return string(v), true
	case types.Long, types.Boolean:
		return v.String(), true
	case types.EntityUID:
		return string(v.Type) + "::" + string(v.ID), true
	}
	return "", false
}

// setOf returns the constants of a set, and nil where something else is in it or it is empty.
func setOf(node ast.IsNode) []string {
	set, ok := node.(ast.NodeTypeSet)
	if !ok {
		return nil
	}
	var values []string
	for _, element := range set.Elements {
		value, ok := valueOf(element)
		if !ok {
			return nil
		}
		values = append(values, value)
	}
	return values
}

// parts returns the literal parts of a pattern, one more than it has wildcards.
func parts(pattern types.Pattern) []string {
	text, err := pattern.MarshalJSON()
	var components []any
	if err != nil || json.Unmarshal(text, &components) != nil {
		return []string{"", ""} // anything
	}
	all := []string{""}
	for _, c := range components {
		if object, ok := c.(map[string]any); ok {
			literal, _ := object["Literal"].(string)
			all[len(all)-1] += literal
			continue
		}
		all = append(all, "")
	}
	return all
}

// exact returns the values that the fact leaves, and nil where it is a pattern with wildcards or excludes values.
func (f fact) exact() []string {
	switch {
	case f.not:
		return nil
	case f.values != nil:
		return f.values
	case len(f.like) == 1:
		return f.like
	}
	return nil
}

// words are what to look for to find the fact in the text.
func (f fact) words() []string {
	words := slices.Clone(f.values)
	if f.like != nil {
		words = append(words, strings.Join(f.like, "*"))
	}
	return append(words, f.claim, f.about)
}
