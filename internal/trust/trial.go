package trust

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/policy"
)

// trial holds one alternative of a permit against what is known of one issuer's tokens.
type trial struct {
	linter   *linter
	policy   policy.Policy
	accepted acceptances
	issuer   access.Issuer
	reading  reading

	preset   access.Preset
	pins     map[access.Pins]bool
	fixed    map[access.Pins]bool // held by what never changes
	event    bool                 // what started the run is among known values
	excluded map[string]bool      // events that are excluded
}

// run applies the rules of permits.
func (t *trial) run() {
	t.preset, _ = access.VocabularyOf(t.issuer)
	t.pins, t.fixed, t.excluded = map[access.Pins]bool{}, map[access.Pins]bool{}, map[string]bool{}
	for _, f := range t.reading.facts {
		t.note(f)
	}
	if t.pins[access.Within] && t.pins[access.Tenant] {
		t.pins[access.Project] = true
	}
	for _, f := range t.reading.facts {
		t.judge(f)
	}
	t.reach()
	if t.pins[access.Tenant] || t.pins[access.Project] {
		t.proposals()
	}
}

func (t *trial) add(rule string, severity Severity, why, fix string, words ...string) {
	if t.reading.unread > 0 && rule != "chosen-claim" {
		why += fmt.Sprintf(" (%d of the conditions cannot be read by this check and count for nothing)", t.reading.unread)
	}
	t.linter.add(t.policy, t.accepted, rule, severity, why, fix, words...)
}

// note takes in what a fact holds the permit to.
func (t *trial) note(f fact) {
	switch {
	case f.about == aboutSubject || f.about == aboutPrincipal:
		t.noteSubject(f)
	case f.claim != "":
		t.noteClaim(f)
	}
}

// noteSubject takes in a comparison of the subject.
func (t *trial) noteSubject(f fact) {
	if f.not {
		return
	}
	form := t.preset.Subject
	if form == "" {
		form = "<project>"
	}
	texts, whole := f.exact(), true
	if texts == nil {
		texts, whole = f.like[:1], false
	}
	var all map[access.Pins]bool
	for _, text := range texts {
		if f.about == aboutPrincipal {
			_, text, _ = strings.Cut(text, t.issuer.Name+":")
		}
		found := map[access.Pins]bool{}
		parts := pinsOfSubject(form, text, whole)
		if whole && len(parts) == 0 { // of another form, which a customer can have chosen: it is one subject all the same
			parts[access.Project] = text
		}
		for pin, part := range parts {
			if pin != access.Guard || !strings.HasPrefix(part, "pull_request") {
				found[pin] = true
			}
			if pin == access.Guard && strings.HasPrefix(part, "environment:") {
				t.event = true
			}
			if pin == access.Project && strings.Contains(part, "@") { // GitHub's subjects with IDs
				t.fixed[access.Project] = true
			}
		}
		all = both(all, found)
	}
	for pin := range all {
		t.pins[pin] = true
	}
	if all[access.Project] && !hasNames(t.preset.Subject) {
		t.fixed[access.Project] = true
	}
}

// both returns what two sets have in common, and the second where there is no first.
func both(a, b map[access.Pins]bool) map[access.Pins]bool {
	if a == nil {
		return b
	}
	common := map[access.Pins]bool{}
	for pin := range a {
		if b[pin] {
			common[pin] = true
		}
	}
	return common
}

// noteClaim takes in a comparison of a claim.
func (t *trial) noteClaim(f fact) {
	claim, known := t.preset.Claim(f.claim)
	events := t.preset.Pull.Events[f.claim]
	if f.not {
		for _, value := range f.values {
			t.excluded[f.claim+"="+value] = true
		}
		return
	}
	values := f.exact()
	switch {
	case !known && len(t.preset.Known) == 0: // what the claims of one's own issuer mean, their author knows
		t.pins[access.Project], t.fixed[access.Project] = t.pins[access.Project] || values != nil, true
	case values == nil:
		t.notePattern(claim, f.like[0])
	case claim.Pins == access.Guard && slices.ContainsFunc(values, func(v string) bool { return slices.Contains(events, v) || strings.HasPrefix(v, "refs/pull/") }):
		// It lets proposals in by name: no guard.
	case claim.Pins != access.Nothing:
		t.pins[claim.Pins] = true
		t.fixed[claim.Pins] = t.fixed[claim.Pins] || claim.Nature == access.Fixed
		t.event = t.event || claim.Name == t.preset.Pull.Event || strings.HasPrefix(claim.Name, "environment")
	}
}

// notePattern takes in a pattern by its start: a path that is known up to a slash is within what stands before it, and a
// ref that starts as a branch or a tag is none of a pull request.
func (t *trial) notePattern(claim access.Claim, start string) {
	switch {
	case claim.Pins == access.Guard && (strings.HasPrefix(start, "refs/heads/") || strings.HasPrefix(start, "refs/tags/")):
		t.pins[access.Guard] = true
	case (claim.Pins == access.Project || claim.Pins == access.Tenant) && strings.Index(start, "/") > 0:
		t.pins[access.Tenant] = true
	}
}

// reach finds permits that hold to too little of the issuer's principals.
func (t *trial) reach() {
	who := fmt.Sprintf("issuer %q", t.issuer.Name)
	switch {
	case t.pins[access.Project]:
	case t.pins[access.Tenant]:
		t.add("organisation-wide", Warning, fmt.Sprintf("the permit is for everything that one customer of %s has at %s", t.preset.Title, who), "add "+t.condition(access.Project, "…"))
	case t.preset.IsShared(t.issuer.URL):
		t.add("any-tenant", Problem, fmt.Sprintf("%s signs for everybody at %s, and nothing here holds the permit to one customer", t.preset.Title, who), "add "+t.condition(access.Project, "…"))
	default:
		t.add("whole-issuer", Warning, fmt.Sprintf("every workload of %s can use the permit", who), "add "+t.condition(access.Project, "…"))
	}
}

// condition returns a condition that holds to a thing of the given rank by what never changes.
func (t *trial) condition(pin access.Pins, value string) string {
	for _, optional := range []bool{false, true} { // what every token has comes first
		for _, c := range t.preset.Known {
			if c.Pins == pin && c.Nature == access.Fixed && c.Optional == optional {
				return compare(c, value)
			}
		}
	}
	return fmt.Sprintf(`principal.subject == "%s"`, value)
}

// compare returns the text of a comparison of a claim with a value.
func compare(c access.Claim, value string) string {
	name, has := "principal.claims."+c.Name, c.Name
	if strings.ContainsFunc(c.Name, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		name, has = fmt.Sprintf("principal.claims[%q]", c.Name), fmt.Sprintf("%q", c.Name)
	}
	text := fmt.Sprintf(`%s == "%s"`, name, value)
	switch c.Kind {
	case access.Long:
		text = fmt.Sprintf("%s == %s", name, value)
	case access.StringSet:
		text = fmt.Sprintf(`%s.contains("%s")`, name, value)
	}
	if c.Optional {
		text = fmt.Sprintf("principal.claims has %s && %s", has, text)
	}
	return text
}

// judge finds comparisons that prove less than they seem to.
func (t *trial) judge(f fact) {
	claim, known := t.preset.Claim(f.claim)
	if f.not || f.claim != "" && !known {
		return
	}
	switch {
	case claim.Nature == access.Chosen:
		t.add("chosen-claim", Warning, fmt.Sprintf("whoever starts the run chooses %s", f.claim), "compare what he cannot choose: "+t.condition(access.Project, "…"), f.words()...)
	case claim.Name == "runner_environment" && slices.Contains(f.values, "self-hosted"):
		t.add("self-hosted-runner", Warning, "the permit takes runs on self-hosted runners", `where you can: principal.claims.runner_environment == "github-hosted"; else give each trust its own runners, used once`, f.words()...)
	case claim.Nature == access.Mutable && claim.Partner != "" && claim.Pins != access.Nothing && claim.Pins != access.Guard && !t.partnered(claim.Pins):
		partner, _ := t.preset.Claim(claim.Partner)
		t.add("mutable-claim", Warning, fmt.Sprintf("%s can be renamed, and the name taken by somebody else", f.claim), "add "+compare(partner, "the ID"), f.words()...)
	case f.about == aboutSubject && t.preset.Partner != "" && !t.fixed[access.Project] && t.pins[access.Project]:
		partner, _ := t.preset.Claim(t.preset.Partner)
		t.add("mutable-claim", Warning, "the subject is made of names that can be renamed, and taken by somebody else", "add "+compare(partner, "the ID"), f.words()...)
	case f.about == aboutSubject && t.preset.Partner != "" && t.pins[access.Tenant] && !t.pins[access.Project] && !t.fixed[access.Tenant]:
		t.add("mutable-claim", Warning, "the subject begins with a name that can be renamed, and taken by somebody else", "add "+t.condition(access.Tenant, "the ID"), f.words()...)
	}
}

// partnered reports whether something that never changes is compared beside a name of this rank.
func (t *trial) partnered(pin access.Pins) bool {
	return t.fixed[access.Project] || pin == access.Tenant && t.fixed[access.Tenant]
}

// proposals finds permits that a proposed change satisfies before anybody has agreed to it.
func (t *trial) proposals() {
	pull := t.preset.Pull
	if pull.Can == "" {
		return
	}
	for _, f := range t.reading.facts {
		for _, value := range f.exact() {
			if slices.Contains(pull.Events[f.claim], value) || f.about == aboutSubject && strings.HasSuffix(value, ":pull_request") {
				t.add("pull-request", Problem, fmt.Sprintf("the permit lets in by name what a proposed change starts: %s", value), "add "+pull.Guard, value, f.claim)
				return
			}
		}
	}
	switch {
	case !t.pins[access.Guard] && !t.excludesAll():
		t.add("pull-request", Warning, "no condition tells a proposed change from one that was agreed to: "+pull.Can, "add "+pull.Guard)
	case pull.Event != "" && !t.event && !t.excludesAll():
		event, _ := t.preset.Claim(pull.Event)
		t.add("stranger-event", Note, "runs that strangers cause on the default branch, such as those on pull_request_target and issue_comment, satisfy the permit",
			"add "+compare(event, "push")+", or name an environment that has reviewers")
	}
}

// excludesAll reports whether all events that strangers can cause are excluded by name.
func (t *trial) excludesAll() bool {
	none := true
	for claim, values := range t.preset.Pull.Events {
		for _, value := range values {
			if !t.excluded[claim+"="+value] {
				return false
			}
			none = false
		}
	}
	return !none
}

// oddLetter returns the first letter of another alphabet in a text that has Latin ones, and 0 where there is none.
func oddLetter(text string) rune {
	var odd rune
	latin := false
	for _, r := range text {
		switch {
		case unicode.In(r, unicode.Latin) && r < 0x250:
			latin = true
		case odd == 0 && unicode.IsLetter(r) && (unicode.In(r, unicode.Cyrillic, unicode.Greek, unicode.Armenian, unicode.Cherokee) || unicode.In(r, unicode.Latin) || r >= 0xff00 && r <= 0xffef):
			odd = r
		}
	}
	if !latin {
		return 0
	}
	return odd
}
