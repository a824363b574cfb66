package policy

import (
	"iter"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// index finds the policies whose scope can match a request, without looking at the others. Each policy stands in
// one shelf per action, under the rarest entity that its scope names; a request looks at the shelves of its
// principal, its resource and everything that is a parent of either. The scope itself is still evaluated: the
// index may only leave out what cannot match.
type index struct {
	shelves map[shelf][]indexed
}

// shelf is where a policy stands. A wildcard is the zero value of its field.
type shelf struct {
	action    types.String
	entity    types.EntityUID  // of the principal or the resource, or one of their parents
	principal types.EntityType // where the scope asks for a type
}

type indexed struct {
	id     cedar.PolicyID
	policy *cedar.Policy
}

func newIndex() *index { return &index{shelves: map[shelf][]indexed{}} }

// add puts a policy on its shelves.
func (x *index) add(id cedar.PolicyID, p *cedar.Policy) {
	tree := (*ast.Policy)(p.AST())
	at := shelf{principal: principalType(tree.Principal), entity: rarest(tree)}
	for _, action := range actionsOf(tree.Action) {
		at.action = action
		x.shelves[at] = append(x.shelves[at], indexed{id, p})
	}
}

// principalType returns the type that a scope asks of the principal, empty where it takes any.
func principalType(scope ast.IsPrincipalScopeNode) types.EntityType {
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		return s.Entity.Type
	case ast.ScopeTypeIs:
		return s.Type
	case ast.ScopeTypeIsIn:
		return s.Type
	}
	return ""
}

// rarest returns the entity that the fewest requests have among those that the scope names: the principal
// itself, then the resource or its parent, then the principal's issuer; zero where it names none.
func rarest(tree *ast.Policy) types.EntityUID {
	if s, ok := tree.Principal.(ast.ScopeTypeEq); ok {
		return s.Entity
	}
	switch s := tree.Resource.(type) {
	case ast.ScopeTypeEq:
		return s.Entity
	case ast.ScopeTypeIn:
		return s.Entity
	case ast.ScopeTypeIsIn:
		return s.Entity
	}
	switch s := tree.Principal.(type) {
	case ast.ScopeTypeIn:
		return s.Entity
	case ast.ScopeTypeIsIn:
		return s.Entity
	}
	return types.EntityUID{}
}

// actionsOf returns the actions of a scope. Actions have no groups, so `in` names them one by one.
func actionsOf(scope ast.IsActionScopeNode) []types.String {
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		return []types.String{s.Entity.ID}
	case ast.ScopeTypeIn:
		return []types.String{s.Entity.ID}
	case ast.ScopeTypeInSet:
		var all []types.String
		seen := map[types.String]bool{}
		for _, uid := range s.Entities {
			if !seen[uid.ID] {
				seen[uid.ID] = true
				all = append(all, uid.ID)
			}
		}
		return all
	}
	return []types.String{""}
}

// candidates are the policies that one request has to look at.
type candidates struct {
	index    *index
	action   types.String
	entities []types.EntityUID // principal, resource and all their parents
	kind     types.EntityType  // of the principal
}

// All yields the candidates, each once: a policy stands on one shelf per action, and the shelves differ.
func (c candidates) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, action := range [2]types.String{c.action, ""} {
			for _, kind := range [2]types.EntityType{c.kind, ""} {
				for _, entity := range c.entities {
					for _, found := range c.index.shelves[shelf{action, entity, kind}] {
						if !yield(found.id, found.policy) {
							return
						}
					}
				}
			}
		}
	}
}
