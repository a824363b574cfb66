package trust

import (
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// maxAlternatives bounds the normal form of one policy's conditions.
const maxAlternatives = 512

// literal is one part of a condition that no `&&`, `||`, `!` or `if` joins.
type literal struct {
	node ast.IsNode
	not  bool
}

// normal returns a condition as alternatives, each of them literals that all hold: its disjunctive normal form. It
// reports false where there are too many.
func normal(node ast.IsNode, not bool) ([][]literal, bool) {
	switch n := node.(type) {
	case ast.NodeTypeNot:
		return normal(n.Arg, !not)
	case ast.NodeTypeNotEquals:
		return [][]literal{{{ast.NodeTypeEquals(n), !not}}}, true
	case ast.NodeTypeAnd:
		return join(n.Left, n.Right, not, !not)
	case ast.NodeTypeOr:
		return join(n.Left, n.Right, not, not)
	case ast.NodeTypeIfThenElse:
		whenSo, ok := conditional(n.If, false, n.Then, not)
		otherwise, also := conditional(n.If, true, n.Else, not)
		return append(whenSo, otherwise...), ok && also && len(whenSo)+len(otherwise) <= maxAlternatives
	case ast.NodeValue:
		if holds, ok := n.Value.(types.Boolean); ok {
			if bool(holds) != not {
				return [][]literal{nil}, true
			}
			return nil, true // never
		}
	}
	return [][]literal{{{node, not}}}, true
}

// join returns left and right, both turned round where not is set, as both or either.
func join(left, right ast.IsNode, not, both bool) ([][]literal, bool) {
	a, ok := normal(left, not)
	b, also := normal(right, not)
	if !ok || !also {
		return nil, false
	}
	if both {
		return product(a, b)
	}
	return append(a, b...), len(a)+len(b) <= maxAlternatives
}

func conditional(condition ast.IsNode, negated bool, branch ast.IsNode, not bool) ([][]literal, bool) {
	a, ok := normal(condition, negated)
	b, also := normal(branch, not)
	if !ok || !also {
		return nil, false
	}
	return product(a, b)
}

// product returns the alternatives in which one of a and one of b hold.
func product(a, b [][]literal) ([][]literal, bool) {
	if len(a)*len(b) > maxAlternatives {
		return nil, false
	}
	var all [][]literal
	for _, left := range a {
		for _, right := range b {
			both := make([]literal, 0, len(left)+len(right))
			all = append(all, append(append(both, left...), right...))
		}
	}
	return all, true
}

// alternatives returns the conditions of a policy in normal form: all of `when`, none of `unless`.
func alternatives(tree *ast.Policy) ([][]literal, bool) {
	all := [][]literal{nil}
	for _, condition := range tree.Conditions {
		one, ok := normal(condition.Body, condition.Condition == ast.ConditionUnless)
		if ok {
			all, ok = product(all, one)
		}
		if !ok {
			return nil, false
		}
	}
	return all, true
}

// refusals returns what must hold where a forbid does not forbid: its conditions, turned round.
func refusals(tree *ast.Policy) ([][]literal, bool) {
	var all [][]literal
	for _, condition := range tree.Conditions {
		one, ok := normal(condition.Body, condition.Condition == ast.ConditionWhen)
		if !ok {
			return nil, false
		}
		all = append(all, one...)
	}
	return all, len(all) <= maxAlternatives
}
