package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

const (
	grantTime   = 30 * time.Second // how long a target may take to make a credential
	recordTime  = 30 * time.Second // how long a record may wait for the store
	integrateBy = time.Minute      // how long after a receipt the tree holds its leaf
	maxTries    = 5                // how often a request follows an access revision that changes under it
)

// AcquireRequest asks for a credential of a role.
type AcquireRequest struct {
	Evidence admission.Evidence
	Role     string
	TTL      time.Duration // 0: the role's default
	Reason   string
	Key      string // Idempotency-Key, empty where there is none
	Origin   admission.Origin
}

// Acquired is a lease with what opens it. It exists in one answer only.
type Acquired struct {
	Lease      store.Lease
	Token      secret.Text
	Credential target.Credential
	Receipt    string
	Clamped    bool
}

// acquisition is one request on its way through the steps. Each step fills what the next one needs.
type acquisition struct {
	request   AcquireRequest
	view      *admission.View
	principal identity.Principal
	dues      []admission.Due // of the evidence, settled with the record
	role      access.Role
	ttl       time.Duration
	clamped   bool
	ruling    admission.Ruling
	lease     store.Lease
	token     secret.Text
	ahead     *target.Credential // made before the record; nil where the target is called after it
	receipt   string             // once the lease is on the record as active
}

// Acquire makes a credential that did not exist before, for the workload that the evidence speaks for.
func (b *Broker) Acquire(ctx context.Context, request AcquireRequest) (Acquired, error) {
	return b.acquireTraced(ctx, &acquisition{request: request}, b.acquire)
}

// acquireTraced measures and traces an acquisition, from the step where it begins.
func (b *Broker) acquireTraced(ctx context.Context, a *acquisition, acquire func(context.Context, *acquisition) (Acquired, error)) (Acquired, error) {
	begun := time.Now()
	span := b.tracer.Serve(&ctx, "acquire")
	acquired, err := acquire(ctx, a)
	b.figures.acquired(a.role.Target, err, time.Since(begun))
	a.describe(span)
	span.End(&err)
	return acquired, err
}

func (b *Broker) acquire(ctx context.Context, a *acquisition) (Acquired, error) {
	if err := b.verify(ctx, a); err != nil {
		return Acquired{}, err
	}
	return b.acquireAs(ctx, a)
}

// acquireAs goes on for a principal whose evidence is good.
func (b *Broker) acquireAs(ctx context.Context, a *acquisition) (Acquired, error) {
	if err := b.rates.Take(a.principal.IssuerURL, a.principal.Subject, time.Now()); err != nil {
		return Acquired{}, err
	}
	if err := b.admit(ctx, a); err != nil {
		return Acquired{}, err
	}
	credential := a.ahead
	if credential == nil {
		// From here on a credential may exist: the story goes on without the caller if it must.
		made, err := b.fulfil(context.WithoutCancel(ctx), a)
		if err != nil {
			return Acquired{}, err
		}
		credential = &made
	}
	b.revoker.WakeExpiry(a.lease.ExpiresAt)
	return Acquired{Lease: a.lease, Token: a.token, Credential: *credential, Receipt: a.receipt, Clamped: a.clamped}, nil
}

// fulfil has the target make the credential of a lease that is on the record.
func (b *Broker) fulfil(ctx context.Context, a *acquisition) (target.Credential, error) {
	credential, err := b.grant(ctx, a)
	if err == nil {
		err = b.activate(ctx, a, credential)
	}
	if err != nil {
		b.abandon(ctx, a, lease.Failed)
	}
	return credential, err
}

// verify turns evidence into a principal, by the issuers of the active revision.
func (b *Broker) verify(ctx context.Context, a *acquisition) (err error) {
	defer b.tracer.Start(&ctx, "verify").End(&err)
	a.view = b.guard.View()
	a.principal, a.dues, err = b.guard.Verify(ctx, a.view, a.request.Evidence)
	return err
}

// admit decides and records, again when the access revision changed between the two.
func (b *Broker) admit(ctx context.Context, a *acquisition) error {
	for range maxTries {
		if err := b.decide(ctx, a); err != nil {
			return err
		}
		if err := a.draft(b); err != nil {
			return err
		}
		b.grantAhead(ctx, a)
		err := b.record(ctx, a)
		if !errors.Is(err, admission.ErrRevisionChanged) {
			return err
		}
		if a.view, err = b.guard.Refresh(ctx); err != nil {
			return err
		}
	}
	return fault.New(fault.StoreUnavailable, "acquire", "the access configuration keeps changing; try again")
}

// decide asks the policies. A role that does not exist is denied like any other, so that no stranger learns
// which roles there are.
func (b *Broker) decide(ctx context.Context, a *acquisition) (err error) {
	defer b.tracer.Start(&ctx, "decide").End(&err)
	var trusted, exists bool
	var tooLong error
	if a.principal, trusted = a.view.Recognise(a.principal); !trusted {
		return admission.ErrIssuerLeft
	}
	if a.role, exists = a.view.Access.Roles[a.request.Role]; exists {
		// Told only to those who may have the role: others must not learn that it is there.
		a.ttl, a.clamped, tooLong = chooseTTL(a.role, a.request.TTL, a.role.TTL.Max)
	}
	a.ruling, err = b.guard.Rule(ctx, admission.Question{
		View:      a.view,
		Principal: a.principal,
		Action:    policy.Acquire,
		Resource:  policy.OnRole(a.request.Role),
		TTL:       a.ttl,
		SourceIP:  a.request.Origin.SourceIP,
		Now:       b.clock.Now(),
	})
	if err != nil {
		return err
	}
	if a.ruling.Allow && exists {
		return tooLong
	}
	about := a.ruling.Decision.Resource
	if !exists {
		about = "" // all roles that there are not are one: their names are the caller's to choose
	}
	return b.guard.Deny(ctx, a.ruling.Decision, about, fmt.Sprintf("role %q was denied", a.request.Role))
}

// chooseTTL applies the role's default, and what is the most here. With an error it still returns the most.
func chooseTTL(role access.Role, asked, most time.Duration) (ttl time.Duration, clamped bool, err error) {
	if asked == 0 {
		return min(role.TTL.Default, most), false, nil
	}
	if asked <= most {
		return asked, false, nil
	}
	if role.TTL.Over == access.Refuse {
		return most, false, fault.New(fault.Invalid, "choose the ttl", fmt.Sprintf("role %q allows at most %s here", role.Name, most))
	}
	return most, true, nil
}

// grantAhead has a target that calls nobody make the credential before the record, which then tells all at once. When
// it cannot, the lease goes the way of all others, so that the failure is on the record.
func (b *Broker) grantAhead(ctx context.Context, a *acquisition) {
	a.ahead = nil
	if m, ok := b.fleet.Member(a.role.Target); !ok || !m.Offline() {
		return
	}
	if c, err := b.grant(context.WithoutCancel(ctx), a); err == nil { // who hangs up makes no failure of the target
		a.ahead, a.lease.Revocation = &c, string(c.Revocation)
	}
}

// grant asks the target for the credential.
func (b *Broker) grant(ctx context.Context, a *acquisition) (c target.Credential, err error) {
	defer b.tracer.Start(&ctx, "grant").End(&err)
	m, ok := b.fleet.Member(a.role.Target)
	if !ok {
		return target.Credential{}, fault.New(fault.TargetUnavailable, "grant", fmt.Sprintf("target %q is not in service", a.role.Target))
	}
	ctx, cancel := context.WithTimeout(ctx, grantTime)
	defer cancel()
	begun := time.Now()
	c, err = m.Grant(ctx, target.Grant{
		Lease:  string(a.lease.ID),
		Role:   a.role.Name,
		Rights: a.role.Rights,
		TTL:    a.lease.NativeUntil.Sub(b.clock.Now()),
		Holder: a.holder(),
	})
	b.figures.granted(a.role.Target, err, time.Since(begun))
	return c, err
}

// holder says to the target whom the credential is for.
func (a *acquisition) holder() target.Holder {
	p := a.principal
	h := target.Holder{Issuer: p.Issuer, IssuerURL: p.IssuerURL, Subject: p.Subject, Claims: p.Claims, Run: a.lease.Run}
	for _, actor := range accesstoken.Actors(p) {
		h.Actors = append(h.Actors, target.Actor(actor))
	}
	return h
}

// activate records that the credential exists, after a second look at locks and the access revision: what was
// decided before a lock and became ready after it must not reach the caller.
func (b *Broker) activate(ctx context.Context, a *acquisition, c target.Credential) (err error) {
	defer b.tracer.Start(&ctx, "activate").End(&err)
	for range maxTries {
		err = b.tryActivate(ctx, a, c)
		if !errors.Is(err, admission.ErrRevisionChanged) {
			return err
		}
		if a.view, err = b.guard.Refresh(ctx); err != nil {
			return err
		}
		if err := b.decide(ctx, a); err != nil {
			b.abandon(ctx, a, lease.Policy)
			return err
		}
	}
	return fault.New(fault.StoreUnavailable, "acquire", "the access configuration keeps changing; try again")
}

func (b *Broker) tryActivate(ctx context.Context, a *acquisition, c target.Credential) error {
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	var leaf []byte
	var active store.Lease
	err := b.store.Update(ctx, func(tx *store.Tx) (err error) {
		if err := a.view.Check(tx); err != nil {
			return err
		}
		if err := b.checkLocks(tx, a.lease); err != nil {
			return err
		}
		active = a.lease
		active.Revocation, active.Revision = string(c.Revocation), a.view.Revision
		leaf, err = tx.Move(&active, lease.Granted, store.Why{Now: b.clock.Now()})
		if errors.Is(err, store.ErrStale) {
			return endedMeanwhile(tx, a.lease.ID)
		}
		return err
	})
	if denied, ok := errors.AsType[*deniedError](err); ok {
		b.abandon(ctx, a, lease.Locked)
		refusal := fault.Wrap(fault.Denied, "acquire", denied.text, denied)
		refusal.Decision = a.ruling.Decision.ID
		return refusal
	}
	if err != nil {
		return err
	}
	b.giveReceipt(a, active, leaf)
	return nil
}

// giveReceipt takes up a lease that is on the record as active, with its receipt, by the leaf of its entry.
func (b *Broker) giveReceipt(a *acquisition, active store.Lease, leaf []byte) {
	a.lease = active
	a.receipt = b.store.Signer().Receipt(leaf, b.clock.Now().Add(integrateBy))
}

// endedMeanwhile is the refusal to hand out what was ended while it was being granted.
func endedMeanwhile(tx *store.Tx, id lease.ID) error {
	current, err := tx.Lease(id)
	if err != nil {
		return err
	}
	return &deniedError{effect: "ended", text: fmt.Sprintf("the lease was ended while it was being granted: %s", current.Reason)}
}
