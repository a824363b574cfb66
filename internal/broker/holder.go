package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
)

// Lease returns a lease to its holder or to an administrator who may read it.
func (b *Broker) Lease(ctx context.Context, c admission.Caller, id lease.ID) (store.Lease, error) {
	who, err := b.guard.Identify(ctx, c)
	if err != nil {
		return store.Lease{}, err
	}
	return b.lease(ctx, who, id, policy.Read)
}

// Leases returns one page of the leases that match: to an administrator all, to a workload its own.
func (b *Broker) Leases(ctx context.Context, c admission.Caller, filter store.Filter, cursor string, limit int) (found []store.Lease, next string, err error) {
	who, err := b.guard.Identify(ctx, c)
	if err != nil {
		return nil, "", err
	}
	if !who.Local && !b.guard.Permits(who, policy.Read, policy.OnSystem()) {
		if who.Holds != "" {
			return nil, "", fault.New(fault.Denied, "list leases", "a lease token reads its own lease only")
		}
		filter.IssuerURL, filter.Subject = who.Principal.IssuerURL, who.Principal.Subject
	}
	err = b.store.View(ctx, func(tx *store.Tx) (err error) {
		found, next, err = tx.Leases(filter, cursor, limit)
		return err
	})
	return found, next, err
}

// Release ends a lease and waits up to wait for the proof. The holder may always, also under a lock;
// administrators may where a policy permits them to revoke it. Releasing twice is no error.
func (b *Broker) Release(ctx context.Context, c admission.Caller, id lease.ID, wait time.Duration) (store.Lease, error) {
	who, err := b.guard.Identify(ctx, c)
	if err != nil {
		return store.Lease{}, err
	}
	l, err := b.lease(ctx, who, id, policy.Revoke)
	if err != nil {
		return l, err
	}
	reason := lease.Released
	if !who.Owns(l) {
		reason = lease.Revoke
	}
	proved, forget := b.revoker.Await(id)
	defer forget()
	if err := b.endLease(context.WithoutCancel(ctx), id, reason); err != nil {
		return l, err
	}
	if l, err = b.lease(ctx, who, id, policy.Revoke); err != nil || l.State == lease.Revoked || wait == 0 {
		return l, err
	}
	b.awaitProof(ctx, id, proved, wait)
	if ctx.Err() != nil {
		return l, nil
	}
	return b.lease(ctx, who, id, policy.Revoke)
}

// awaitProof waits for a lease's death. Another server of the store may bring it, and tells the store only.
func (b *Broker) awaitProof(ctx context.Context, id lease.ID, proved <-chan struct{}, wait time.Duration) {
	timer, look := time.NewTimer(wait), time.NewTicker(lookEvery)
	defer timer.Stop()
	defer look.Stop()
	for {
		select {
		case <-proved:
			return
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-look.C:
			if b.store.Shared() && b.isDead(ctx, id) {
				return
			}
		}
	}
}

// lookEvery is how often to look for the death that another server brings.
const lookEvery = 100 * time.Millisecond

func (b *Broker) isDead(ctx context.Context, id lease.ID) (dead bool) {
	err := b.store.View(ctx, func(tx *store.Tx) error {
		l, err := tx.Lease(id)
		dead = l.State == lease.Revoked
		return err
	})
	return dead && err == nil
}

// renewal is one renewal on its way through its steps.
type renewal struct {
	who       admission.Actor
	view      *admission.View
	principal identity.Principal
	role      access.Role
	lease     store.Lease
	asked     time.Duration
	ruling    admission.Ruling
	expiresAt time.Time // never before the expiry that the lease has
	clamped   bool
}

// Renew moves a lease's expiry, within its renewable life, for its holder. The policies decide again, on fresh
// evidence when it is shown, else on the claims that the lease was made with.
//
// The new bound is recorded before the target is asked, and the new expiry after the target moved its own: a
// lost answer leaves a lease that ends too early and a credential that the record covers.
func (b *Broker) Renew(ctx context.Context, c admission.Caller, id lease.ID, ttl time.Duration) (l store.Lease, clamped bool, err error) {
	who, err := b.guard.Meet(ctx, c)
	if err != nil {
		return l, false, err
	}
	r := &renewal{who: who, view: b.guard.View(), asked: ttl}
	if r.lease, err = b.lease(ctx, who, id, policy.Read); err != nil {
		return l, false, err
	}
	if err := r.mayAsk(); err != nil {
		return l, false, err
	}
	if err := b.renews.Take(r.lease.IssuerURL, r.lease.Subject, time.Now()); err != nil {
		return l, false, err
	}
	done, err := b.renewing.begin(id)
	if err != nil {
		return l, false, err
	}
	defer done()
	for range maxTries {
		if err = b.decideRenewal(ctx, r); err != nil {
			return l, false, err
		}
		if err = b.bound(ctx, r); !errors.Is(err, admission.ErrRevisionChanged) {
			break
		}
		if r.view, err = b.guard.Refresh(ctx); err != nil {
			return l, false, err
		}
	}
	if err != nil {
		return l, false, err
	}
	if err := b.extend(context.WithoutCancel(ctx), r); err != nil {
		return l, false, err
	}
	return r.lease, r.clamped, nil
}

// mayAsk checks that the actor is the holder and may renew by what was shown.
func (r *renewal) mayAsk() error {
	op := "renew lease " + string(r.lease.ID)
	switch {
	case !r.who.Owns(r.lease):
		return fault.New(fault.Denied, op, "only its holder renews a lease")
	case r.lease.State != lease.Active:
		return fault.New(fault.Conflict, op, fmt.Sprintf("the lease is %s; acquire a new one", r.lease.State))
	case r.who.Holds != "" && !r.lease.RenewByHandle:
		return fault.New(fault.Denied, op, "this role renews on fresh evidence only; show a workload token")
	}
	return nil
}

// decideRenewal asks the policies whether the holder may still have the role.
func (b *Broker) decideRenewal(ctx context.Context, r *renewal) (err error) {
	op := "renew lease " + string(r.lease.ID)
	var exists bool
	if r.role, exists = r.view.Access.Roles[r.lease.Role]; !exists {
		return fault.New(fault.Conflict, op, fmt.Sprintf("role %q has left the access configuration; the lease lives until it expires", r.lease.Role))
	}
	if r.who.Holds != "" && r.role.Renew != access.Handle {
		return fault.New(fault.Denied, op, "this role renews on fresh evidence only now; show a workload token")
	}
	if r.principal, err = r.holder(); err != nil {
		return err
	}
	now := b.clock.Now()
	left := r.lease.RenewableUntil.Sub(now)
	if left < time.Second {
		return fault.New(fault.Conflict, op, "the lease has reached the role's maximum; acquire a new one")
	}
	ttl, clamped, err := chooseTTL(r.role, r.asked, min(left, r.role.TTL.Max))
	if err != nil {
		return err
	}
	r.expiresAt, r.clamped = later(r.lease.ExpiresAt, now.Add(ttl)), clamped
	r.ruling, err = b.guard.Rule(ctx, admission.Question{
		View:      r.view,
		Principal: r.principal,
		Action:    policy.Renew,
		Resource:  policy.OnRole(r.lease.Role),
		TTL:       ttl,
		SourceIP:  r.who.Origin.SourceIP,
		Own:       1,
		Now:       now,
	})
	if err != nil {
		return err
	}
	if !r.ruling.Allow {
		return b.guard.Deny(ctx, r.ruling.Decision, r.ruling.Decision.Resource, "the renewal was denied")
	}
	r.ruling.Decision.Lease = string(r.lease.ID)
	return nil
}

// holder is the principal to decide about: freshly verified, or as it was when the lease was made.
func (r *renewal) holder() (identity.Principal, error) {
	p := r.who.Principal
	if r.who.Holds != "" {
		claims, err := identity.ParseClaims(r.lease.Claims)
		if err != nil {
			return p, err
		}
		p = identity.Principal{Issuer: r.lease.Issuer, IssuerURL: r.lease.IssuerURL, Subject: r.lease.Subject, Claims: claims}
	}
	p, trusted := r.view.Recognise(p)
	if !trusted {
		return p, fault.New(fault.Denied, "renew lease "+string(r.lease.ID), "the issuer of the lease has left the access configuration")
	}
	return p, nil
}

// bound records how long the credential may live from now on, before the target is asked.
func (b *Broker) bound(ctx context.Context, r *renewal) error {
	err := b.store.Update(ctx, func(tx *store.Tx) error {
		if err := r.view.Check(tx); err != nil {
			return err
		}
		if err := b.guard.Settle(tx, r.who.Dues); err != nil {
			return err
		}
		current, err := b.stillActive(tx, r.lease.ID)
		if err != nil {
			return err
		}
		if err := b.checkRenewer(tx, r, current); err != nil {
			return err
		}
		if err := r.ruling.Confirm(tx); err != nil {
			return err
		}
		if _, err := tx.PutDecision(r.ruling.Decision); err != nil {
			return err
		}
		r.lease = current
		if err := tx.Renew(&r.lease, later(current.NativeUntil, r.expiresAt)); err != nil {
			return err
		}
		if err := r.ruling.Watch(tx, r.lease); err != nil {
			return err
		}
		return tx.Redecide(&r.lease, r.ruling.Decision.ID)
	})
	return b.guard.Overtaken(ctx, err, "the renewal was denied")
}

// extend moves the expiry at the target and then on the record.
func (b *Broker) extend(ctx context.Context, r *renewal) error {
	m, ok := b.fleet.Member(r.lease.Target)
	if !ok {
		return fault.New(fault.TargetUnavailable, "renew lease "+string(r.lease.ID), fmt.Sprintf("target %q is not in service", r.lease.Target))
	}
	callCtx, cancel := context.WithTimeout(ctx, grantTime)
	defer cancel()
	if err := m.Renew(callCtx, string(r.lease.ID), r.lease.NativeUntil.Sub(b.clock.Now())); err != nil {
		return err
	}
	recordCtx, cancelRecord := context.WithTimeout(ctx, recordTime)
	defer cancelRecord()
	err := b.store.Update(recordCtx, func(tx *store.Tx) error {
		current, err := b.stillActive(tx, r.lease.ID)
		if err != nil {
			return err
		}
		r.lease = current
		_, err = tx.Extend(&r.lease, later(current.ExpiresAt, r.expiresAt), b.clock.Now())
		return err
	})
	if err == nil {
		b.figures.renewed.Inc()
	}
	return err
}

// stillActive reads the lease again and refuses one that ended or that a lock matches.
func (b *Broker) stillActive(tx *store.Tx, id lease.ID) (store.Lease, error) {
	current, err := tx.Lease(id)
	if err != nil {
		return current, err
	}
	if current.State != lease.Active {
		return current, fault.New(fault.Conflict, "renew lease "+string(id), fmt.Sprintf("the lease is %s (%s); acquire a new one", current.State, current.Reason))
	}
	if err := b.checkLocks(tx, current); err != nil {
		return current, fault.Wrap(fault.Denied, "renew lease "+string(id), err.Error(), err)
	}
	return current, nil
}

// checkRenewer refuses those whom a lock matches and who act for the holder now: the lease names those who did when it
// was made.
func (b *Broker) checkRenewer(tx *store.Tx, r *renewal, current store.Lease) error {
	if r.who.Holds != "" {
		return nil
	}
	claims, err := identity.EncodeClaims(r.principal.Claims)
	if err != nil {
		return err
	}
	current.Claims = claims
	if err := b.checkLocks(tx, current); err != nil {
		return fault.Wrap(fault.Denied, "renew lease "+string(current.ID), err.Error(), err)
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
