package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cedar-policy/cedar-go"

	"github.com/daypass/daypass/internal/source"
)

// maxSubject bounds a subject, in bytes.
const maxSubject = 255

// Decide answers r. It never panics: what it cannot evaluate it denies.
func (e *Engine) Decide(r Request) (d Decision) {
	d = Decision{request: r, engine: e}
	defer func() {
		if cause := recover(); cause != nil { // a bug in the evaluator must not let anybody in
			d.Allow, d.Reasons = false, []Reason{{Effect: Failed, Message: "the evaluation broke off"}}
		}
	}()
	issuer, refusal := e.admit(r)
	if refusal != "" {
		d.Reasons = []Reason{{Effect: None, Message: refusal}}
		return d
	}
	claims, err := issuer.attributes(r.Principal.Claims)
	if err != nil {
		d.Reasons = []Reason{{Effect: Failed, Message: err.Error()}}
		return d
	}
	d.Allow, d.Reasons = e.evaluate(r, issuer, claims)
	return d
}

// admit refuses requests that no policy has to be asked about.
func (e *Engine) admit(r Request) (compiledIssuer, string) {
	issuer, ok := e.issuers[r.Principal.Issuer]
	switch {
	case !ok:
		return issuer, fmt.Sprintf("there is no issuer %q", r.Principal.Issuer)
	case !validSubject(r.Principal.Subject):
		return issuer, "the subject is empty, longer than 255 bytes, or has characters that do not show"
	case !applies(r.Action, r.Resource.kind):
		return issuer, fmt.Sprintf("action %q does not apply to a %s", r.Action, r.Resource.kind)
	case r.Resource.kind != kindRole && r.Resource.kind != kindPosture && !r.Administrator:
		return issuer, "the principal's issuer is not one of admins.issuers"
	}
	if r.Resource.kind == kindRole {
		if _, ok := e.roles[r.Resource.id]; !ok {
			return issuer, fmt.Sprintf("there is no role %q", r.Resource.id)
		}
	}
	if r.Resource.kind == kindPosture && e.postures[r.Resource.id] == nil {
		return issuer, fmt.Sprintf("there is no source of posture %q", r.Resource.id)
	}
	return issuer, ""
}

func validSubject(subject string) bool {
	return subject != "" && len(subject) <= maxSubject && utf8.ValidString(subject) &&
		!strings.ContainsFunc(subject, func(r rune) bool { return unicode.IsControl(r) || source.Reorders(r) })
}

// applies is the table of appliesTo, for the hot path; a test compares them.
func applies(action Action, kind string) bool {
	switch action {
	case Acquire, Renew:
		return kind == kindRole
	case Read:
		return kind == kindLease || kind == kindSystem
	case Revoke:
		return kind == kindLease
	case Lock, Configure, Approve:
		return kind == kindSystem
	case Report:
		return kind == kindPosture
	}
	return false
}

// entities are what one request can reach: its principal, its resource, and the roles of the configuration.
type entities struct {
	engine    *Engine
	principal cedar.Entity
	resource  cedar.Entity
}

// Get returns an entity. Issuers, targets and actions have neither attributes nor parents.
func (s *entities) Get(uid cedar.EntityUID) (cedar.Entity, bool) {
	switch {
	case uid == s.principal.UID:
		return s.principal, true
	case uid == s.resource.UID:
		return s.resource, true
	case uid.Type == kindRole:
		role, ok := s.engine.roles[string(uid.ID)]
		return role, ok
	}
	return cedar.Entity{UID: uid}, true
}

// evaluate asks the policies. A failing forbid counts as one that forbids.
func (e *Engine) evaluate(r Request, issuer compiledIssuer, claims cedar.Record) (bool, []Reason) {
	known := e.entities(r, issuer, claims)
	allowed, diagnostic := cedar.Authorize(e.candidates(r, issuer, known), known, cedar.Request{
		Principal: known.principal.UID, Action: actionUID(r.Action), Resource: known.resource.UID, Context: e.context(r),
	})
	return e.conclude(bool(allowed), diagnostic)
}

// entities are those that the request brings along.
func (e *Engine) entities(r Request, issuer compiledIssuer, claims cedar.Record) *entities {
	return &entities{
		engine: e,
		principal: cedar.Entity{
			UID:     principalUID(string(issuer.principal), issuer.name, r.Principal.Subject),
			Parents: issuer.parents,
			Attributes: cedar.NewRecord(cedar.RecordMap{
				"issuer": cedar.String(issuer.name), "subject": cedar.String(r.Principal.Subject), "claims": claims,
			}),
		},
		resource: e.resource(r.Resource),
	}
}

// candidates are the policies that the request has to look at.
func (e *Engine) candidates(r Request, issuer compiledIssuer, known *entities) candidates {
	look := candidates{
		index: e.index, action: cedar.String(r.Action), kind: issuer.principal,
		entities: []cedar.EntityUID{known.principal.UID, issuerUID(issuer.name), known.resource.UID, {}},
	}
	for parent := range known.resource.Parents.All() {
		look.entities = append(look.entities, parent)
	}
	return look
}

// resource returns the entity of a resource.
func (e *Engine) resource(r Resource) cedar.Entity {
	switch r.kind {
	case kindRole:
		return e.roles[r.id]
	case kindLease:
		return cedar.Entity{
			UID:     r.uid(),
			Parents: cedar.NewEntityUIDSet(OnRole(r.role).uid(), targetUID(r.target)),
			Attributes: cedar.NewRecord(cedar.RecordMap{"holder": cedar.NewRecord(cedar.RecordMap{
				"issuer": cedar.String(r.holder.Issuer), "subject": cedar.String(r.holder.Subject),
			})}),
		}
	}
	return cedar.Entity{UID: r.uid()}
}

// context returns the circumstances of a request. What is not known is not there, so that policies that ask for
// it fail.
func (e *Engine) context(r Request) cedar.Record {
	record := cedar.RecordMap{}
	if e.usage.wants("now") {
		record["now"] = cedar.NewDatetime(r.Now)
	}
	if e.usage.wants("ttl") {
		record["ttl"] = cedar.NewDuration(r.TTL)
	}
	if e.usage.wants("local") {
		record["local"] = e.local(r.Now)
	}
	if address := plainAddress(r.SourceIP); address.IsValid() && e.usage.wants("source_ip") {
		record["source_ip"] = cedar.IPAddr(netip.PrefixFrom(address, address.BitLen()))
	}
	if r.Country != "" && e.usage.wants("country") {
		record["country"] = cedar.String(r.Country)
	}
	if r.Subdivision != "" && e.usage.wants("subdivision") {
		record["subdivision"] = cedar.String(r.Subdivision)
	}
	if r.TokenAge != nil && e.usage.wants("token_age") {
		record["token_age"] = cedar.NewDuration(*r.TokenAge)
	}
	if r.LiveLeases != nil && e.usage.wants("live_leases") {
		record["live_leases"] = cedar.Long(*r.LiveLeases)
	}
	if e.usage.wants("posture") {
		record["posture"] = e.posture(r)
	}
	return cedar.NewRecord(record)
}

// local returns the wall clocks of all zones.
func (e *Engine) local(now time.Time) cedar.Record {
	local := make(cedar.RecordMap, len(e.zones))
	for _, z := range e.zones {
		clock := localTime(now, z.location)
		shown := cedar.RecordMap{"hour": cedar.Long(clock.hour), "minute": cedar.Long(clock.minute), "weekday": cedar.Long(clock.weekday)}
		if e.dates {
			shown["date"] = cedar.String(clock.date())
		}
		local[z.key] = cedar.NewRecord(shown)
	}
	return cedar.NewRecord(local)
}

// plainAddress drops what would let one address be written in two ways: IPv4 within IPv6, and zones.
func plainAddress(address netip.Addr) netip.Addr { return address.Unmap().WithZone("") }

// conclude turns what Cedar says into a decision.
func (e *Engine) conclude(allowed bool, diagnostic cedar.Diagnostic) (bool, []Reason) {
	var reasons []Reason
	for _, reason := range diagnostic.Reasons {
		effect, message := Permit, "the policy permits"
		if e.effects[reason.PolicyID] == cedar.Forbid {
			effect, message = Forbid, "the policy forbids"
		}
		reasons = append(reasons, Reason{Policy: e.names[reason.PolicyID], Effect: effect, Message: message})
	}
	for _, failure := range diagnostic.Errors {
		message := "the policy failed, so it does not permit: " + failure.Message
		if e.effects[failure.PolicyID] == cedar.Forbid {
			allowed = false
			message = "the policy failed, so it forbids: " + failure.Message
		}
		reasons = append(reasons, Reason{Policy: e.names[failure.PolicyID], Effect: Failed, Message: message})
	}
	if len(reasons) == 0 || !allowed && !slices.ContainsFunc(reasons, func(r Reason) bool { return r.Effect != Permit }) {
		reasons = append(reasons, Reason{Effect: None, Message: "no policy permits this"})
	}
	slices.SortStableFunc(reasons, func(a, b Reason) int { return strings.Compare(a.Policy, b.Policy) })
	return allowed, reasons
}
