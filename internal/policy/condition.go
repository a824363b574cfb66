package policy

import (
	"maps"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/daypass/daypass/internal/source"
)

// Unconditional returns the policies that permit `acquire` to whoever fits their scope, whatever else is so: those
// without a `when` or `unless` that looks at anything. Each is a mistake where conditions are required.
func (e *Engine) Unconditional() source.Errors { return slices.Clone(e.open) }

// What is said of a policy without a condition.
const (
	openMessage = "the policy permits acquire under no condition"
	openHint    = "add a `when` that looks at the principal, the resource or the context"
)

// Unconditional returns what is said of the policy when it is one of [Engine.Unconditional], and nil.
func (p Policy) Unconditional() *source.Error {
	if !isOpen(p.Tree) {
		return nil
	}
	return p.Mistake(openMessage, openHint)
}

// RequireConditions returns each of [Engine.Unconditional] as a mistake, in the words of a server that requires conditions.
func (e *Engine) RequireConditions() error {
	var wrong source.Errors
	for _, open := range e.open {
		required := *open
		required.Message += ", and this server requires one"
		wrong = append(wrong, &required)
	}
	return wrong.Err()
}

// isOpen reports whether a permit speaks of acquire and has no condition that looks at anything: `when { true }` is
// none.
func isOpen(tree *ast.Policy) bool {
	if tree.Effect != ast.EffectPermit || !speaksOf(tree, string(Acquire)) {
		return false
	}
	for _, condition := range tree.Conditions {
		looks := false
		ast.Inspect(ast.NewNode(condition.Body), func(n ast.IsNode) bool {
			_, variable := n.(ast.NodeTypeVariable)
			looks = looks || variable
			return true
		})
		if looks {
			return false
		}
	}
	return true
}

// speaksOf reports whether a policy's scope takes in an action.
func speaksOf(tree *ast.Policy, actions ...string) bool {
	for _, named := range actionsOf(tree.Action) {
		if named == "" || slices.Contains(actions, string(named)) {
			return true
		}
	}
	return false
}

// Timed returns the roles that some policy grants or forbids by what time it is, sorted: their leases may lose what
// permits them although nobody changes anything.
func (e *Engine) Timed() []string { return slices.Sorted(maps.Keys(e.timed)) }

// noteTime notes the roles of a policy that looks at the time.
func (e *Engine) noteTime(tree *ast.Policy) {
	own := usage{attributes: map[types.String]bool{}}
	own.add(tree)
	if !own.wants("now") && !own.wants("local") || !speaksOf(tree, string(Acquire), string(Renew)) {
		return
	}
	if s, ok := tree.Resource.(ast.ScopeTypeEq); ok { // the usual one, without a look at every role
		e.timed[string(s.Entity.ID)] = true
		return
	}
	for name, role := range e.roles {
		if mayBe(tree.Resource, role) {
			e.timed[name] = true
		}
	}
}

// mayBe reports whether a scope that names no single resource takes in a role.
func mayBe(scope ast.IsResourceScopeNode, role cedar.Entity) bool {
	in := func(uid cedar.EntityUID) bool { return uid == role.UID || role.Parents.Contains(uid) }
	switch s := scope.(type) {
	case ast.ScopeTypeIn:
		return in(s.Entity)
	case ast.ScopeTypeIs:
		return s.Type == kindRole
	case ast.ScopeTypeIsIn:
		return s.Type == kindRole && in(s.Entity)
	}
	return true
}

// Wants reports whether some policy asks for an attribute of the context, such as live_leases.
func (e *Engine) Wants(attribute string) bool { return e.usage.wants(types.String(attribute)) }
