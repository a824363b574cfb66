package admission

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// Question is what the policies are asked about a lease.
type Question struct {
	View      *View
	Principal identity.Principal
	Action    policy.Action
	Resource  policy.Resource
	TTL       time.Duration
	SourceIP  netip.Addr
	Own       int // of the principal's live leases, how many do not count as others
	Now       time.Time
}

// Ruling is what the policies said, with what they were asked: so it can be looked at again in the transaction that
// acts on it, and as often as the world changes while the lease lives.
type Ruling struct {
	Allow    bool
	Decision store.Decision // as it goes on record; of [Guard.Again] only where it denies

	view    *View
	request policy.Request
	around  circumstances
	own     int
}

// Rule asks the policies. Nothing is on record yet.
func (g *Guard) Rule(ctx context.Context, q Question) (r Ruling, err error) {
	r.view, r.own = q.View, q.Own
	if r.around, err = g.lookAround(ctx, q.View, q.Principal, q.Own); err != nil {
		return r, err
	}
	r.request = policy.Request{
		Principal: q.Principal,
		Action:    q.Action,
		Resource:  q.Resource,
		Now:       q.Now,
		SourceIP:  q.SourceIP,
		TTL:       q.TTL,
		TokenAge:  tokenAge(q.Principal, q.Now),
	}
	r.request.Country, r.request.Subdivision = g.place(q.SourceIP)
	if err := r.around.tell(q.View, &r.request); err != nil {
		return r, err
	}
	r.decide()
	return r, nil
}

// decide asks the policies of the view what was put together.
func (r *Ruling) decide() {
	d := r.view.Policy.Decide(r.request)
	r.Allow, r.Decision = d.Allow, newDecision(r.view, r.request, d)
}

// newDecision is a policy decision as the store keeps it, with its whole input.
func newDecision(view *View, asked policy.Request, d policy.Decision) store.Decision {
	outcome := "deny"
	if d.Allow {
		outcome = "allow"
	}
	reasons, err := json.Marshal(d.Reasons)
	if err != nil { // plain strings: it cannot happen
		reasons = []byte("[]")
	}
	return store.Decision{
		ID:        string(lease.NewID(asked.Now.Unix())),
		At:        asked.Now,
		Revision:  view.Revision,
		Issuer:    asked.Principal.Issuer,
		IssuerURL: asked.Principal.IssuerURL,
		Subject:   asked.Principal.Subject,
		Action:    string(asked.Action),
		Resource:  asked.Resource.String(),
		Outcome:   outcome,
		Reasons:   reasons,
		Input:     d.Input(),
		Salt:      ledger.NewSalt(),
		Count:     1,
	}
}

// Overruled is the decision where something else denies what the policies allow.
func (r Ruling) Overruled(effect, message string) store.Decision {
	d := r.Decision
	reasons, err := json.Marshal([]policy.Reason{{Effect: policy.Effect(effect), Message: message}})
	if err == nil {
		d.Reasons = reasons
	}
	d.Outcome = "deny"
	d.Lease = ""
	return d
}

// overtakenError says that what was allowed is allowed no more, since the circumstances have changed.
type overtakenError struct{ decision store.Decision }

func (e *overtakenError) Error() string { return "the policies no longer permit it" }

// Confirm looks at the circumstances again, in the transaction that acts on the ruling, and asks again where they have
// changed. Its error is for [Guard.Overtaken].
func (r *Ruling) Confirm(tx *store.Tx) error {
	around, err := circumstancesOf(tx, r.view, r.request.Principal, r.own)
	if err != nil || around.same(r.around) {
		return err
	}
	again := *r
	again.around = around
	if err := around.tell(r.view, &again.request); err != nil {
		return err
	}
	again.decide()
	if !again.Allow {
		return &overtakenError{again.Decision} // the store may run this again: what was decided before stays as it was
	}
	again.Decision.Lease = r.Decision.Lease
	*r = again
	return nil
}

// Overtaken makes a denial of an error of [Ruling.Confirm] that is one, and leaves others as they are.
func (g *Guard) Overtaken(ctx context.Context, err error, public string) error {
	if late, ok := errors.AsType[*overtakenError](err); ok {
		return g.Deny(ctx, late.decision, late.decision.Resource, public)
	}
	return err
}

// Again asks the policies of a view once more what was asked for a live lease. What the request brought stays as it
// was; the world is as it is now. It reports false where the view no longer trusts the issuer, which is an end of its
// own.
func (g *Guard) Again(tx *store.Tx, view *View, asked policy.Request) (r Ruling, trusted bool, err error) {
	r = Ruling{view: view, request: asked, own: 1}
	if r.request.Principal, trusted = view.Recognise(asked.Principal); !trusted {
		return r, false, nil
	}
	if r.around, err = circumstancesOf(tx, view, r.request.Principal, r.own); err != nil {
		return r, true, err
	}
	g.complete(&r)
	r.request.Now = g.now()
	if err := r.around.tellPosture(&r.request); err != nil {
		return r, true, err
	}
	d := view.Policy.Decide(r.request)
	if r.Allow = d.Allow; !r.Allow {
		r.Decision = newDecision(view, r.request, d)
	}
	return r, true, nil
}

// complete adds what was not asked for when a request was decided, from what is known now: otherwise a policy that is
// the first to ask for it would end every lease.
func (g *Guard) complete(r *Ruling) {
	if r.request.LiveLeases == nil {
		r.request.LiveLeases = new(r.around.live)
	}
	if r.request.TokenAge == nil {
		r.request.TokenAge = tokenAge(r.request.Principal, r.request.Now) // Now is still that of the request
	}
	if r.request.Country == "" {
		r.request.Country, r.request.Subdivision = g.place(r.request.SourceIP)
	}
}

// Watch notes that the records which the ruling hangs on are the business of a lease.
func (r Ruling) Watch(tx *store.Tx, l store.Lease) error { return r.around.watch(tx, l) }

// Watched reports whether the store knows all records which the ruling hangs on as the lease's business.
func (r Ruling) Watched(tx *store.Tx, l store.Lease) (bool, error) { return r.around.watched(tx, l) }

// Deny records a denial and returns what the caller may know of it: that it was one, and the decision to show to an
// operator. What it is about keeps different denials of one principal apart.
func (g *Guard) Deny(ctx context.Context, d store.Decision, about, public string) error {
	refusal := fault.New(fault.Denied, d.Action, public)
	refusal.Decision = g.denials.Note(ctx, d, about)
	return refusal
}
