package broker

import (
	"context"
	"crypto/subtle"
	"fmt"
	"strings"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
)

// Caller is who asks for something other than an acquisition, as the edge knows them.
type Caller struct {
	Local    bool     // came over the administration socket, and its user may administer
	UID      uint32   // of a local caller, told by the kernel
	Evidence Evidence // of a remote caller
	Origin   Origin

	admitted *actor // by [Broker.Admit]: the evidence is used up, and must not be asked for again
}

// actor is a caller that was identified.
type actor struct {
	local     bool
	name      string             // for the record
	principal identity.Principal // zero for local callers and lease tokens
	holds     lease.ID           // the lease whose token was shown
	view      *View
	origin    Origin
	dues      []due // what has to be settled before anything is done for the actor
}

// identifyCaller turns a caller into an actor, or refuses it.
func (b *Broker) identifyCaller(ctx context.Context, c Caller) (actor, error) {
	who, err := b.meet(ctx, c)
	if err == nil {
		err = b.settleNow(ctx, who.dues, c.Evidence.Method == "GET" || c.Evidence.Method == "HEAD")
	}
	return who, err
}

// meet is identifyCaller for who settles what is due in the transaction of what was asked for.
func (b *Broker) meet(ctx context.Context, c Caller) (actor, error) {
	if c.admitted != nil {
		return *c.admitted, nil
	}
	who := actor{view: b.View(), origin: c.Origin}
	switch {
	case c.Local:
		who.local, who.name = true, fmt.Sprintf("uid:%d", c.UID)
		return who, nil
	case isLeaseToken(c.Evidence.Token) && c.Evidence.Scheme != accesstoken.SchemeDPoP:
		l, err := b.leaseOfToken(ctx, c.Evidence.Token)
		who.holds, who.name = l.ID, l.Issuer+":"+l.Subject
		return who, err
	}
	principal, dues, err := b.identify(ctx, who.view, c.Evidence)
	who.principal, who.name, who.dues = principal, principal.Name(), dues
	return who, err
}

// tokenPrefix begins every lease token, so that one is easy to recognise when it leaks.
const tokenPrefix = "dpl_"

func isLeaseToken(token secret.Text) bool { return strings.HasPrefix(token.Reveal(), tokenPrefix) }

// newToken makes the token of a lease: the prefix, the lease's ID, by which it is found, and 256 random bits.
func newToken(id lease.ID) secret.Text {
	return secret.New(tokenPrefix + string(id) + "_" + secret.Random().Reveal())
}

// leaseOfToken returns the lease whose token was shown.
func (b *Broker) leaseOfToken(ctx context.Context, token secret.Text) (l store.Lease, err error) {
	name, _, _ := strings.Cut(strings.TrimPrefix(token.Reveal(), tokenPrefix), "_")
	id, err := lease.ParseID(name)
	if err == nil {
		err = b.store.View(ctx, func(tx *store.Tx) (err error) {
			l, err = tx.Lease(id)
			return err
		})
		if err != nil && !fault.Is(err, fault.NotFound) {
			return store.Lease{}, err
		}
	}
	if err != nil || subtle.ConstantTimeCompare(l.TokenHash, hash(token.Reveal())) != 1 {
		b.figures.rejected.Inc()
		return store.Lease{}, fault.New(fault.Unauthenticated, "read a lease token", "the lease token is not known here")
	}
	return l, nil
}

// owns reports whether the actor holds the lease. Names may change; issuer URL and subject do not.
func (who actor) owns(l store.Lease) bool {
	if who.holds != "" {
		return who.holds == l.ID
	}
	return who.principal.IssuerURL != "" && who.principal.IssuerURL == l.IssuerURL && who.principal.Subject == l.Subject
}

// isAdministrator reports whether the actor's issuer may administer at all; the policies then decide on what.
func (b *Broker) isAdministrator(who actor) bool { return b.admins[who.principal.Issuer] }

// lease reads a lease for an actor who owns it, or who may do the action to it as an administrator. To everybody
// else it does not exist.
func (b *Broker) lease(ctx context.Context, who actor, id lease.ID, action policy.Action) (store.Lease, error) {
	var l store.Lease
	err := b.store.View(ctx, func(tx *store.Tx) (err error) {
		l, err = tx.Lease(id)
		return err
	})
	absent := fault.New(fault.NotFound, "read lease "+string(id), "no such lease, or it is not yours")
	if fault.Is(err, fault.NotFound) {
		return store.Lease{}, absent
	}
	if err != nil {
		return store.Lease{}, err
	}
	if who.owns(l) || who.local || b.permits(who, action, onLease(l)) {
		return l, nil
	}
	return store.Lease{}, absent
}

func onLease(l store.Lease) policy.Resource {
	return policy.OnLease(string(l.ID), l.Role, l.Target, policy.Holder{Issuer: l.Issuer, Subject: l.Subject})
}

// permits asks the policies about an administrator's action on a resource.
func (b *Broker) permits(who actor, action policy.Action, on policy.Resource) bool {
	if who.view == nil || who.holds != "" || !b.isAdministrator(who) {
		return false
	}
	return who.view.Policy.Decide(policy.Request{
		Principal:     who.principal,
		Administrator: true,
		Action:        action,
		Resource:      on,
		Now:           b.clock.Now(),
		SourceIP:      who.origin.SourceIP,
	}).Allow
}

// administer identifies a caller and refuses those who may not do the action to the installation. Local
// administrators may: whoever holds the machine can break the glass, and it is on the record.
func (b *Broker) administer(ctx context.Context, c Caller, action policy.Action) (actor, error) {
	who, err := b.identifyCaller(ctx, c)
	if err != nil {
		return who, err
	}
	if who.local || b.permits(who, action, policy.OnSystem()) {
		return who, nil
	}
	return who, fault.New(fault.Denied, string(action)+" the system", fmt.Sprintf("you may not %s here", action))
}
