package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/daypass/daypass/internal/source"
)

// explain turns a message of the validator, which has no place, into a mistake at the smallest part of the policy
// that gives it.
func (c *checker) explain(text policyText, tree *ast.Policy, message string) *source.Error {
	from, to := c.narrow(text, tree, message)
	subject := backquoted(message)
	offset := text.tokens[from].offset
	if from == 0 {
		offset = text.head()
	}
	for word := subject; word != ""; word = behind(word) {
		if found := text.find(strings.Trim(word, `"`), from, to); found >= 0 {
			offset = found
			break
		}
	}
	plain, hint := c.plain(message, subject)
	return text.errorAt(offset, plain, hint)
}

// behind returns what follows the first dot or double colon of a name.
func behind(name string) string {
	if i := strings.IndexAny(name, ".:"); i >= 0 {
		return strings.TrimLeft(name[i+1:], ":")
	}
	return ""
}

// narrow returns the tokens of the part of a policy that gives message: a clause, and within it the first part
// of an `&&` with which the message appears.
func (c *checker) narrow(text policyText, tree *ast.Policy, message string) (from, to int) {
	clauses := text.clauses()
	if len(clauses) != len(tree.Conditions) {
		return 0, len(text.tokens)
	}
	gives := func(body ast.IsNode, condition ast.ConditionType) bool {
		part := *tree
		part.Conditions = []ast.ConditionType{{Condition: condition.Condition, Body: body}}
		return slices.Contains(c.messages(&part), message)
	}
	bare := *tree
	bare.Conditions = nil
	if slices.Contains(c.messages(&bare), message) {
		end := len(text.tokens)
		if len(clauses) > 0 {
			end = clauses[0].from
		}
		return 0, end
	}
	for i, condition := range tree.Conditions {
		if !gives(condition.Body, condition) {
			continue
		}
		starts, prefixes := text.conjuncts(clauses[i]), prefixes(condition.Body)
		if len(starts) != len(prefixes) {
			return clauses[i].from, clauses[i].to
		}
		for k, prefix := range prefixes {
			if !gives(prefix, condition) {
				continue
			}
			if k+1 < len(starts) {
				return starts[k], starts[k+1]
			}
			return starts[k], clauses[i].to
		}
	}
	return 0, len(text.tokens)
}

// conjuncts returns a, b, c of a && b && c.
func conjuncts(body ast.IsNode) []ast.IsNode {
	and, ok := body.(ast.NodeTypeAnd)
	if !ok {
		return []ast.IsNode{body}
	}
	return append(conjuncts(and.Left), and.Right)
}

// prefixes returns a, a && b, a && b && c, … of a chain.
func prefixes(body ast.IsNode) []ast.IsNode {
	var all []ast.IsNode
	for {
		all = append(all, body)
		and, ok := body.(ast.NodeTypeAnd)
		if !ok {
			slices.Reverse(all)
			return all
		}
		body = and.Left
	}
}

// backquoted returns what a message names.
func backquoted(message string) string {
	_, rest, _ := strings.Cut(message, "`")
	name, _, _ := strings.Cut(rest, "`")
	return name
}

// plain says in plain words what the validator found, and what to do.
func (c *checker) plain(message, subject string) (text, hint string) {
	switch {
	case strings.HasPrefix(message, "attribute `"):
		return c.noAttribute(message, subject)
	case strings.HasPrefix(message, "unable to guarantee safety of access to optional"):
		return fmt.Sprintf("attribute %q may be missing", subject), "ask first: " + ask(message, subject)
	case strings.HasPrefix(message, "unrecognized action"):
		return fmt.Sprintf("there is no action %s", subject), source.Suggest(lastString(subject), "actions", actionNames())
	case strings.HasPrefix(message, "unrecognized entity type"):
		types := append(slices.Collect(maps.Keys(c.vocabulary.principals)), kindIssuer, kindTarget, kindRole, kindLease, kindSystem, kindPosture)
		if strings.HasSuffix(subject, "::Workload") {
			return fmt.Sprintf("no issuer has principals of type %s", subject), "an issuer's preset gives the type: " + source.Suggest(subject, "types", c.vocabulary.types())
		}
		return fmt.Sprintf("there is no type %s", subject), source.Suggest(subject, "types", types)
	case strings.HasPrefix(message, "unable to find an applicable action"):
		return "the scope never applies: no action goes with this principal and resource",
			"acquire and renew are on a Role, revoke on a Lease, read on a Lease or the System, lock, configure and approve on the System, report on a Posture"
	case strings.HasPrefix(message, "unexpected type"), strings.HasPrefix(message, "the types "):
		return plainTypes(message), ""
	}
	return plainTypes(message), ""
}

// noAttribute says that an attribute does not exist, and which one may have been meant.
func (c *checker) noAttribute(message, subject string) (text, hint string) {
	owner := "context"
	var known []string
	if _, rest, ok := strings.Cut(message, "` on entity type `"); ok {
		owner, _, _ = strings.Cut(rest, "`")
		for claim := range c.vocabulary.principals[owner] {
			known = append(known, "claims."+claim)
		}
		switch owner {
		case kindRole:
			for _, label := range c.vocabulary.labels {
				known = append(known, "labels."+label)
			}
		case kindLease:
			known = append(known, "holder.issuer", "holder.subject")
		default:
			if c.vocabulary.principals[owner] != nil {
				known = append(known, "issuer", "subject", "claims")
			}
		}
	} else {
		known = c.vocabulary.circumstances()
	}
	if zone := strings.TrimPrefix(subject, "local."); owner == "context" && (strings.Contains(zone, "/") || zone == "UTC") {
		return fmt.Sprintf("time zone %q is not offered to policies", zone), "add it to time_zones in daypass.yaml; " + source.Suggest(zone, "zones", c.zoneNames())
	}
	return fmt.Sprintf("%s has no attribute %q", owner, subject), source.Suggest(subject, "attributes", known)
}

func (c *checker) zoneNames() []string {
	var names []string
	for _, zone := range c.vocabulary.zones {
		names = append(names, zone.String())
	}
	return names
}

// ask returns the condition that has to stand before the use of an optional attribute.
func ask(message, subject string) string {
	variable := "principal"
	switch {
	case strings.Contains(message, "in context for"):
		variable = "context"
	case strings.Contains(message, "entity type `Role`"), strings.Contains(message, "entity type `Lease`"):
		variable = "resource"
	}
	owner, name, nested := strings.Cut(subject, ".")
	if !nested {
		return fmt.Sprintf("`%s has %s && …`", variable, word(subject))
	}
	return fmt.Sprintf("`%s.%s has %s && …`", variable, owner, word(name))
}

// word writes a name as Cedar takes it behind `has`.
func word(name string) string {
	if name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9')
	}) {
		return name
	}
	return quote(name)
}

func actionNames() []string {
	var names []string
	for _, action := range Actions() {
		names = append(names, string(action))
	}
	return names
}

// lastString returns x of Action::"x".
func lastString(entity string) string {
	_, id, _ := strings.Cut(entity, `::"`)
	return strings.TrimSuffix(id, `"`)
}

// plainTypes drops what only the implementers of Cedar need.
func plainTypes(message string) string {
	message = strings.ReplaceAll(message, "__cedar::internal::", "")
	message = strings.ReplaceAll(message, "OpenRecord{}", "a record")
	message = strings.ReplaceAll(message, "AnyEntity", "an entity")
	return strings.ReplaceAll(message, "`", "")
}
