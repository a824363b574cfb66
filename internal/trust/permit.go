package trust

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/policy"
)

// forbids returns what the policies forbid to everybody on everything: it narrows every permit. Forbids of narrower
// scopes are left out, so that a permit may seem wider than it is.
func forbids(all []policy.Policy) []*ast.Policy {
	var found []*ast.Policy
	for _, p := range all {
		_, anyone := p.Tree.Principal.(ast.ScopeTypeAll)
		_, kind := p.Tree.Principal.(ast.ScopeTypeIs)
		_, anything := p.Tree.Resource.(ast.ScopeTypeAll)
		if p.Tree.Effect == ast.EffectForbid && (anyone || kind) && anything && acts(p.Tree.Action, "acquire") {
			found = append(found, p.Tree)
		}
	}
	return found
}

// acts reports whether a scope covers an action.
func acts(scope ast.IsActionScopeNode, action types.String) bool {
	switch s := scope.(type) {
	case ast.ScopeTypeAll:
		return true
	case ast.ScopeTypeEq:
		return s.Entity.ID == action
	case ast.ScopeTypeIn:
		return s.Entity.ID == action
	case ast.ScopeTypeInSet:
		return slices.ContainsFunc(s.Entities, func(uid types.EntityUID) bool { return uid.ID == action })
	}
	return true
}

// policy looks at one policy.
func (l *linter) policy(p policy.Policy, forbidden []*ast.Policy) {
	accepted := accepts(p)
	l.lookalikes(p, accepted)
	if p.Tree.Effect == ast.EffectPermit {
		l.permit(p, accepted, forbidden)
	}
	for _, rule := range slices.Sorted(maps.Keys(accepted.reasons)) {
		if !accepted.used[rule] {
			l.add(p, accepted, "unused-acceptance", Note, fmt.Sprintf("the policy accepts %q, which finds nothing here", rule), "remove it from @accept", "accept")
		}
	}
}

// permit looks at each alternative of a permit, for each issuer whose principals it may be about.
func (l *linter) permit(p policy.Policy, accepted acceptances, forbidden []*ast.Policy) {
	all, ok := alternatives(p.Tree)
	if !ok {
		l.add(p, accepted, "unread", Note, fmt.Sprintf("the conditions have more than %d alternatives", maxAlternatives), "split the policy")
		return
	}
	if open := p.Unconditional(); open != nil && len(all) > 0 {
		l.add(p, accepted, "unconditional", Note, open.Message, open.Hint)
	}
	_, everyAction := p.Tree.Action.(ast.ScopeTypeAll)
	if _, everything := p.Tree.Resource.(ast.ScopeTypeAll); everyAction && everything && len(all) > 0 {
		l.add(p, accepted, "any-action", Note, "the permit is for every action: where admins.issuers in daypass.yaml names the issuer, also for administration",
			`name the action: action == Action::"acquire", or action in [Action::"acquire", Action::"renew"]`, "action")
	}
	for _, literals := range all {
		r := read(literals)
		r.facts = append(r.facts, scopeFacts(p.Tree.Principal)...)
		if len(r.facts) == 0 {
			l.add(p, accepted, "any-principal", Problem, "the permit is for workloads of every issuer", "name them: permit (principal is GitHub::Workload, …) when { … }", "permit")
			return
		}
		for _, issuer := range slices.SortedFunc(maps.Values(l.config.Issuers), func(a, b access.Issuer) int { return cmp.Compare(a.Name, b.Name) }) {
			if !r.speaksOf(issuer) {
				continue
			}
			for _, narrowed := range narrow(literals, forbidden, issuer) {
				n := read(narrowed)
				n.facts = append(n.facts, scopeFacts(p.Tree.Principal)...)
				(&trial{linter: l, policy: p, accepted: accepted, issuer: issuer, reading: n}).run()
			}
		}
	}
}

// narrow adds to literals what no forbid of everything forbids. A forbid that would make too many alternatives is left out.
func narrow(literals []literal, forbidden []*ast.Policy, issuer access.Issuer) [][]literal {
	all := [][]literal{literals}
	for _, tree := range forbidden {
		if kind, ok := tree.Principal.(ast.ScopeTypeIs); ok && string(kind.Type) != issuer.Type {
			continue
		}
		rest, ok := refusals(tree)
		if !ok {
			continue
		}
		if joined, ok := product(all, rest); ok {
			all = joined
		}
	}
	return all
}

// scopeFacts returns what the scope says of the principal.
func scopeFacts(scope ast.IsPrincipalScopeNode) []fact {
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		return []fact{{about: aboutPrincipal, values: []string{string(s.Entity.Type) + "::" + string(s.Entity.ID)}}}
	case ast.ScopeTypeIn:
		return []fact{{about: aboutIssuer, values: []string{string(s.Entity.ID)}}}
	case ast.ScopeTypeIs:
		return []fact{{about: aboutType, values: []string{string(s.Type)}}}
	case ast.ScopeTypeIsIn:
		return []fact{{about: aboutType, values: []string{string(s.Type)}}, {about: aboutIssuer, values: []string{string(s.Entity.ID)}}}
	}
	return nil
}

// speaksOf reports whether principals of an issuer may be meant.
func (r reading) speaksOf(issuer access.Issuer) bool {
	for _, f := range r.facts {
		value := ""
		switch f.about {
		case aboutIssuer:
			value = issuer.Name
		case aboutType:
			value = issuer.Type
		case aboutPrincipal:
			prefix := issuer.Type + "::" + issuer.Name + ":"
			if !f.not && !slices.ContainsFunc(f.values, func(v string) bool { return strings.HasPrefix(v, prefix) }) {
				return false
			}
			continue
		default:
			continue
		}
		if values := f.exact(); values != nil && !slices.Contains(values, value) || f.not && slices.Contains(f.values, value) {
			return false
		}
	}
	return true
}

// lookalikes finds strings that mix alphabets.
func (l *linter) lookalikes(p policy.Policy, accepted acceptances) {
	for _, text := range p.Strings() {
		if odd := oddLetter(text); odd != 0 {
			l.add(p, accepted, "lookalike", Warning, fmt.Sprintf("%+q holds %U, a letter of another alphabet that can look like a Latin one", text, odd),
				"write the name anew, or paste it from where it is defined", text)
		}
	}
}
