package policy

import (
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// The strict validator takes `context.now > 5`: it asks each side of <, <=, > and >= to be comparable, and not
// that both are of one type. Evaluation then fails, and a forbid that fails does not forbid. This file closes
// that hole with the validator's own types: it does ask that all elements of a set are of one type. So each
// comparison `l < r` is replaced by `[l, r].isEmpty() && l < r`, and that policy is validated too. It is never
// evaluated.

// comparer rewrites comparisons.
type comparer struct {
	count int // comparisons seen, in the order of the text
	only  int // the one to rewrite; -1 for all
}

// policy returns p with its comparisons rewritten.
func (c *comparer) policy(p *ast.Policy) *ast.Policy {
	rewritten := *p
	rewritten.Conditions = make([]ast.ConditionType, len(p.Conditions))
	for i, condition := range p.Conditions {
		rewritten.Conditions[i] = ast.ConditionType{Condition: condition.Condition, Body: c.node(condition.Body)}
	}
	return &rewritten
}

// comparison returns the node itself or its stricter form. Left and right have been counted around it.
func (c *comparer) comparison(n ast.BinaryNode, make func(ast.BinaryNode) ast.IsNode) ast.IsNode {
	left := c.node(n.Left)
	strict := c.only < 0 || c.only == c.count
	c.count++
	both := ast.BinaryNode{Left: left, Right: c.node(n.Right)}
	if !strict {
		return make(both)
	}
	set := ast.NodeTypeSet{Elements: []ast.IsNode{both.Left, both.Right}}
	return ast.NodeTypeAnd{BinaryNode: ast.BinaryNode{
		Left: ast.NodeTypeIsEmpty{UnaryNode: ast.UnaryNode{Arg: set}}, Right: make(both),
	}}
}

func (c *comparer) binary(n ast.BinaryNode) ast.BinaryNode {
	left := c.node(n.Left)
	return ast.BinaryNode{Left: left, Right: c.node(n.Right)}
}

func (c *comparer) unary(n ast.UnaryNode) ast.UnaryNode { return ast.UnaryNode{Arg: c.node(n.Arg)} }

func (c *comparer) nodes(list []ast.IsNode) []ast.IsNode {
	rewritten := make([]ast.IsNode, len(list))
	for i, n := range list {
		rewritten[i] = c.node(n)
	}
	return rewritten
}

// node returns a copy of n with its comparisons rewritten.
func (c *comparer) node(node ast.IsNode) ast.IsNode {
	switch n := node.(type) {
	case ast.NodeTypeLessThan:
		return c.comparison(n.BinaryNode, func(b ast.BinaryNode) ast.IsNode { return ast.NodeTypeLessThan{BinaryNode: b} })
	case ast.NodeTypeLessThanOrEqual:
		return c.comparison(n.BinaryNode, func(b ast.BinaryNode) ast.IsNode { return ast.NodeTypeLessThanOrEqual{BinaryNode: b} })
	case ast.NodeTypeGreaterThan:
		return c.comparison(n.BinaryNode, func(b ast.BinaryNode) ast.IsNode { return ast.NodeTypeGreaterThan{BinaryNode: b} })
	case ast.NodeTypeGreaterThanOrEqual:
		return c.comparison(n.BinaryNode, func(b ast.BinaryNode) ast.IsNode { return ast.NodeTypeGreaterThanOrEqual{BinaryNode: b} })
	case ast.NodeTypeIfThenElse:
		condition := c.node(n.If)
		then := c.node(n.Then)
		return ast.NodeTypeIfThenElse{If: condition, Then: then, Else: c.node(n.Else)}
	case ast.NodeTypeOr:
		return ast.NodeTypeOr{BinaryNode: c.binary(n.BinaryNode)}
	case ast.NodeTypeAnd:
		return ast.NodeTypeAnd{BinaryNode: c.binary(n.BinaryNode)}
	case ast.NodeTypeNot:
		return ast.NodeTypeNot{UnaryNode: c.unary(n.UnaryNode)}
	case ast.NodeTypeNegate:
		return ast.NodeTypeNegate{UnaryNode: c.unary(n.UnaryNode)}
	case ast.NodeTypeIsEmpty:
		return ast.NodeTypeIsEmpty{UnaryNode: c.unary(n.UnaryNode)}
	case ast.NodeTypeExtensionCall:
		return ast.NodeTypeExtensionCall{Name: n.Name, Args: c.nodes(n.Args)}
	case ast.NodeTypeSet:
		return ast.NodeTypeSet{Elements: c.nodes(n.Elements)}
	case ast.NodeTypeRecord:
		rewritten := ast.NodeTypeRecord{Elements: make([]ast.RecordElementNode, len(n.Elements))}
		for i, element := range n.Elements {
			rewritten.Elements[i] = ast.RecordElementNode{Key: element.Key, Value: c.node(element.Value)}
		}
		return rewritten
	}
	return c.relation(node)
}

// relation goes on with the nodes that relate values without comparing them.
func (c *comparer) relation(node ast.IsNode) ast.IsNode {
	switch n := node.(type) {
	case ast.NodeTypeEquals:
		return ast.NodeTypeEquals{BinaryNode: c.binary(n.BinaryNode)}
	case ast.NodeTypeNotEquals:
		return ast.NodeTypeNotEquals{BinaryNode: c.binary(n.BinaryNode)}
	case ast.NodeTypeIn:
		return ast.NodeTypeIn{BinaryNode: c.binary(n.BinaryNode)}
	case ast.NodeTypeAdd:
		return ast.NodeTypeAdd{BinaryNode: c.binary(n.BinaryNode)}
	case ast.NodeTypeSub:
		return ast.NodeTypeSub{BinaryNode: c.binary(n.BinaryNode)}
	case ast.NodeTypeMult:
		return ast.NodeTypeMult{BinaryNode: c.binary(n.BinaryNode)}
	case ast.NodeTypeContains:
		return ast.NodeTypeContains{BinaryNode: c.binary(n.BinaryNode)}
	case ast.NodeTypeContainsAll:
		return ast.NodeTypeContainsAll{BinaryNode: c.binary(n.BinaryNode)}
	case ast.NodeTypeContainsAny:
		return ast.NodeTypeContainsAny{BinaryNode: c.binary(n.BinaryNode)}
	case ast.NodeTypeHasTag:
		return ast.NodeTypeHasTag{BinaryNode: c.binary(n.BinaryNode)}
	case ast.NodeTypeGetTag:
		return ast.NodeTypeGetTag{BinaryNode: c.binary(n.BinaryNode)}
	case ast.NodeTypeHas:
		return ast.NodeTypeHas{StrOpNode: ast.StrOpNode{Arg: c.node(n.Arg), Value: n.Value}}
	case ast.NodeTypeAccess:
		return ast.NodeTypeAccess{StrOpNode: ast.StrOpNode{Arg: c.node(n.Arg), Value: n.Value}}
	case ast.NodeTypeLike:
		return ast.NodeTypeLike{Arg: c.node(n.Arg), Value: n.Value}
	case ast.NodeTypeIs:
		return ast.NodeTypeIs{Left: c.node(n.Left), EntityType: n.EntityType}
	case ast.NodeTypeIsIn:
		left := c.node(n.Left)
		return ast.NodeTypeIsIn{NodeTypeIs: ast.NodeTypeIs{Left: left, EntityType: n.EntityType}, Entity: c.node(n.Entity)}
	}
	return node // values and variables hold no expressions
}
