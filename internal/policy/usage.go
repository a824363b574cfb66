package policy

import (
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// usage is what the policies of a configuration ever ask for. Records are dear to make, so decisions leave out
// claims and circumstances that no policy can see.
type usage struct {
	attributes map[types.String]bool // every name behind a dot, in brackets or behind has
	claims     bool                  // some policy takes all claims as one value
	context    bool                  // some policy takes the context as one value
	records    bool                  // some policy writes a record, perhaps to compare a part of the context with it
}

// add notes what a policy asks for.
func (u *usage) add(tree *ast.Policy) {
	claims, context := 0, 0 // seen as one value: all minus those that are asked for one of their parts
	part := func(argument ast.IsNode, name types.String) {
		u.attributes[name] = true
		if isClaims(argument) {
			claims--
		}
		if isContext(argument) {
			context--
		}
	}
	for _, condition := range tree.Conditions {
		ast.Inspect(ast.NewNode(condition.Body), func(node ast.IsNode) bool {
			if isClaims(node) {
				claims++
			}
			if isContext(node) {
				context++
			}
			switch n := node.(type) {
			case ast.NodeTypeAccess:
				part(n.Arg, n.Value)
			case ast.NodeTypeHas:
				part(n.Arg, n.Value)
			case ast.NodeTypeRecord:
				u.records = true
			case ast.NodeValue:
				_, is := n.Value.(types.Record)
				u.records = u.records || is
			}
			return true
		})
	}
	u.claims = u.claims || claims != 0
	u.context = u.context || context != 0
}

func isClaims(node ast.IsNode) bool {
	access, ok := node.(ast.NodeTypeAccess)
	return ok && access.Value == "claims"
}

func isContext(node ast.IsNode) bool {
	variable, ok := node.(ast.NodeTypeVariable)
	return ok && variable.Name == "context"
}

// wantsClaim reports whether some policy can see the claim.
func (u *usage) wantsClaim(name types.String) bool { return u.claims || u.attributes[name] }

// wants reports whether some policy can see an attribute of the context.
func (u *usage) wants(name types.String) bool { return u.context || u.attributes[name] }

// wantsDates reports whether some policy can see the dates of the context's zones.
func (u *usage) wantsDates() bool { return u.records || u.wants("date") }
