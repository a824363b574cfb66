// Package trust looks at whom an access configuration trusts, and says what is wider than its author may have meant.
//
// [Lint] returns findings, each with its place, why it matters and what to write instead. It reads conditions
// conservatively: what it cannot read counts for no condition, so that it may find too much and says where it did, but
// takes nothing for narrow that is not. It decides nothing, and what it finds stops nobody.
//
// It owns the table of rules. It is pure: it does no I/O and reads no clock, and must not import anything that does.
package trust

import (
	"cmp"
	"slices"
	"strings"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/source"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	Note    Severity = "note"    // worth knowing
	Warning Severity = "warning" // wider than it need be
	Problem Severity = "problem" // strangers can pass
)

// Finding is one thing that is wider than its author may have meant.
type Finding struct {
	Rule     string // key of [Rules]
	Severity Severity
	Place    source.Place
	Excerpt  string // the line itself
	Why      string // what is wrong, naming the thing
	Fix      string // what to write
	Accepted string // the reason that an @accept of the policy gives; empty where there is none
}

// Rule is a row of the table of rules.
type Rule struct {
	Name     string
	Severity Severity // the worst that it finds
	Looks    string   // for what
	Why      string   // it matters
}

// Rules returns the table of rules. It is a function because a package variable could change.
func Rules() []Rule {
	return []Rule{
		{"any-principal", Problem, "a permit that names no kind of principal", "workloads of every issuer can use it, also of issuers that are added later"},
		{"any-tenant", Problem, "a permit for an issuer that signs for everybody, without a condition that holds it to one customer", "anybody can open an account at such a platform and get a token that the permit takes"},
		{"whole-issuer", Warning, "a permit without a condition on the principal, for an issuer of your own", "each workload that the issuer vouches for can use it, whatever it is for"},
		{"unconditional", Note, "a permit of acquire that looks at nothing but its scope", "it holds wherever, whenever and however the workload runs; conditions: require in daypass.yaml makes it a mistake"},
		{"organisation-wide", Warning, "a permit that holds to a customer of the platform and to none of his repositories, workspaces or identities", "whoever may make or change any of them has what the permit gives"},
		{"mutable-claim", Warning, "a comparison with a name that can be given away, without the ID beside it", "names of accounts, repositories and projects can change hands: who takes the name takes what it opens"},
		{"pull-request", Problem, "a permit that any branch or pull request satisfies", "a proposed change runs before anybody has agreed to it"},
		{"stranger-event", Note, "a permit that tells branches apart and not what started the run", "some events that strangers cause run on the default branch, and can be made to run what strangers wrote"},
		{"chosen-claim", Warning, "a comparison with a value that whoever starts the run chooses", "it proves nothing about him"},
		{"self-hosted-runner", Warning, "a permit that takes runs on machines of your own by name", "such machines outlive a run: what one job leaves behind meets the token of the next"},
		{"shared-audience", Warning, "an issuer whose tokens are for others as well as for this server", "each who is given such a token can use it here"},
		{"outgoing-subject", Warning, "a role whose tokens have a subject of claims that can be given away, or that whoever starts the run chooses", "who takes the name, or chooses it, is who the other side trusts"},
		{"any-action", Note, "a permit without an action scope, on every resource", "where `admins.issuers` in daypass.yaml names its issuer, it covers administration too"},
		{"long-lease", Warning, "a role whose leases may live longer than twelve hours", "a credential that is stolen works as long as its lease"},
		{"outliving-rights", Warning, "a role whose leases have accounts of their own, with rights to make others", "what a lease makes beside its account does not end with it"},
		{"undeclared-claims", Note, "an issuer without a preset and without claims", "policies can tell its workloads apart by their subjects alone"},
		{"lookalike", Warning, "text in which letters of other alphabets stand among Latin ones", "it reads like another name than it is, and never equals it"},
		{"unread", Note, "a policy with more alternatives than can be looked at", "nothing is known about it"},
		{"unused-acceptance", Note, "an @accept of a rule that finds nothing there", "what is accepted in advance is overlooked when it comes"},
	}
}

// Lint looks at a whole access configuration, whose policies must compile, and which was made of files. Findings are
// sorted by place.
func Lint(cfg *access.Config, files access.Files) ([]Finding, error) {
	l := linter{config: cfg}
	l.issuers()
	l.roles()
	var all []policy.Policy
	for _, file := range cfg.Policies {
		policies, err := policy.Policies(file)
		if err != nil {
			return nil, err
		}
		all = append(all, policies...)
	}
	forbidden := forbids(all)
	for _, p := range all {
		l.policy(p, forbidden)
	}
	slices.SortStableFunc(l.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Place.File, b.Place.File), cmp.Compare(a.Place.Line, b.Place.Line),
			cmp.Compare(a.Place.Column, b.Place.Column), cmp.Compare(a.Rule, b.Rule), cmp.Compare(rank(b.Severity), rank(a.Severity)))
	})
	found := slices.CompactFunc(l.found, func(a, b Finding) bool { return a.Rule == b.Rule && a.Place == b.Place && a.Place.Line > 0 })
	for i, f := range found {
		if lines := strings.Split(files[f.Place.File], "\n"); f.Excerpt == "" && f.Place.Line > 0 && f.Place.Line <= len(lines) {
			found[i].Excerpt = lines[f.Place.Line-1] // of YAML documents these are the lines of names, which hold no secrets
		}
	}
	return found, nil
}

// rank orders severities.
func rank(s Severity) int { return slices.Index([]Severity{Note, Warning, Problem}, s) }

// Strict reports whether a finding stops a strict check: accepted ones and notes do not.
func (f Finding) Strict() bool { return f.Accepted == "" && f.Severity != Note }

// Wire is the findings of a configuration as the API and the command line show them.
func Wire(found []Finding) []api.AccessFinding {
	all := make([]api.AccessFinding, len(found))
	for i, f := range found {
		all[i] = api.AccessFinding{Rule: f.Rule, Severity: string(f.Severity), Accepted: f.Accepted, Strict: f.Strict(), File: f.Place.File, Line: f.Place.Line,
			Column: f.Place.Column, Message: f.Why, Hint: f.Fix, Excerpt: f.Excerpt}
	}
	return all
}

// linter collects findings.
type linter struct {
	config *access.Config
	found  []Finding
}

// add notes a finding of a policy, unless the policy accepts it.
func (l *linter) add(p policy.Policy, accepted acceptances, rule string, severity Severity, why, fix string, words ...string) {
	at := p.Mistake(why, fix, words...)
	f := Finding{Rule: rule, Severity: severity, Place: source.Place{File: at.File, Line: at.Line, Column: at.Column}, Excerpt: at.Excerpt, Why: why, Fix: fix}
	if reason, ok := accepted.reasons[rule]; ok {
		f.Accepted = reason
		accepted.used[rule] = true
	}
	l.found = append(l.found, f)
}

// acceptances are what an `@accept("rule: reason; rule: reason")` of a policy says.
type acceptances struct {
	reasons map[string]string
	used    map[string]bool
}

// accepts reads the acceptances of a policy. What has no reason accepts nothing.
func accepts(p policy.Policy) acceptances {
	a := acceptances{map[string]string{}, map[string]bool{}}
	for _, annotation := range p.Tree.Annotations {
		if annotation.Key != "accept" {
			continue
		}
		for part := range strings.SplitSeq(string(annotation.Value), ";") {
			rule, reason, _ := strings.Cut(part, ":")
			if reason = strings.TrimSpace(reason); reason != "" {
				a.reasons[strings.TrimSpace(rule)] = reason
			}
		}
	}
	return a
}
