package admission

import (
	"context"
	"fmt"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
)

// Caller is who asks for something other than an acquisition, as the edge knows them.
type Caller struct {
	Local    bool     // came over the administration socket, and its user may administer
	UID      uint32   // of a local caller, told by the kernel
	Evidence Evidence // of a remote caller
	Origin   Origin

	admitted *Actor // by [Guard.Admit]: the evidence is used up, and must not be asked for again
}

// Actor is a caller that was identified.
type Actor struct {
	Local     bool
	Name      string             // for the record
	Principal identity.Principal // zero for local callers and lease tokens
	Holds     lease.ID           // the lease whose token was shown
	View      *View
	Origin    Origin
	Dues      []Due // what has to be settled before anything is done for the actor
}

// Identify turns a caller into an actor, or refuses it.
func (g *Guard) Identify(ctx context.Context, c Caller) (Actor, error) {
	who, err := g.Meet(ctx, c)
	if err == nil {
		err = g.SettleNow(ctx, who.Dues, c.Evidence.Method == "GET" || c.Evidence.Method == "HEAD")
	}
	return who, err
}

// Meet is [Guard.Identify] for who settles what is due in the transaction of what was asked for.
func (g *Guard) Meet(ctx context.Context, c Caller) (Actor, error) {
	if c.admitted != nil {
		return *c.admitted, nil
	}
	who := Actor{View: g.View(), Origin: c.Origin}
	switch {
	case c.Local:
		who.Local, who.Name = true, fmt.Sprintf("uid:%d", c.UID)
		return who, nil
	case IsLeaseToken(c.Evidence.Token) && c.Evidence.Scheme != accesstoken.SchemeDPoP:
		l, err := g.LeaseOfToken(ctx, c.Evidence.Token)
		who.Holds, who.Name = l.ID, l.Issuer+":"+l.Subject
		return who, err
	}
	principal, dues, err := g.Verify(ctx, who.View, c.Evidence)
	who.Principal, who.Name, who.Dues = principal, principal.Name(), dues
	return who, err
}

// Owns reports whether the actor holds the lease. Names may change; issuer URL and subject do not.
func (who Actor) Owns(l store.Lease) bool {
	if who.Holds != "" {
		return who.Holds == l.ID
	}
	return who.Principal.IssuerURL != "" && who.Principal.IssuerURL == l.IssuerURL && who.Principal.Subject == l.Subject
}

// isAdministrator reports whether the actor's issuer may administer at all; the policies then decide on what.
func (g *Guard) isAdministrator(who Actor) bool { return g.admins[who.Principal.Issuer] }

// Permits asks the policies about an administrator's action on a resource.
func (g *Guard) Permits(who Actor, action policy.Action, on policy.Resource) bool {
	if who.View == nil || who.Holds != "" || !g.isAdministrator(who) {
		return false
	}
	return who.View.Policy.Decide(policy.Request{
		Principal:     who.Principal,
		Administrator: true,
		Action:        action,
		Resource:      on,
		Now:           g.now(),
		SourceIP:      who.Origin.SourceIP,
	}).Allow
}

// Administer identifies a caller and refuses those who may not do the action to the installation. Local
// administrators may: whoever holds the machine can break the glass, and it is on the record.
func (g *Guard) Administer(ctx context.Context, c Caller, action policy.Action) (Actor, error) {
	who, err := g.Identify(ctx, c)
	if err != nil {
		return who, err
	}
	if who.Local || g.Permits(who, action, policy.OnSystem()) {
		return who, nil
	}
	return who, fault.New(fault.Denied, string(action)+" the system", fmt.Sprintf("you may not %s here", action))
}

// Admit is [Guard.Administer] before anything of what the caller sends is read, where that may be much: the caller that
// it returns is known from then on, with the permissions of the view that is active now.
func (g *Guard) Admit(ctx context.Context, c Caller, action policy.Action) (Caller, error) {
	who, err := g.Administer(ctx, c, action)
	if err != nil {
		return c, err
	}
	who.Dues = nil // they are settled
	c.admitted = &who
	return c, nil
}

// MayReport reports whether an actor may say what a source of posture says.
func (g *Guard) MayReport(who Actor, source string) bool {
	if who.View == nil || who.Local || who.Holds != "" {
		return who.View != nil && who.Local
	}
	now := g.now()
	r := policy.Request{
		Principal: who.Principal, Administrator: g.isAdministrator(who), Action: policy.Report, Resource: policy.OnPosture(source),
		Now: now, SourceIP: who.Origin.SourceIP, TokenAge: tokenAge(who.Principal, now),
	}
	r.Country, r.Subdivision = g.place(r.SourceIP)
	return who.View.Policy.Decide(r).Allow
}
