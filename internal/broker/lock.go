package broker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
)

// LockRequest asks for a lock: an order that ends the leases that it matches and refuses new ones.
type LockRequest struct {
	Principal, Issuer, Role, Target, Lease string // ANDed; at least one
	Reason                                 string
	ExpiresAt                              time.Time // zero: until it is lifted
	DryRun                                 bool
}

// Lock places a lock. New leases are refused as soon as it returns; live ones end right after, in the revoker.
// With DryRun it changes nothing and counts what it would end.
func (b *Broker) Lock(ctx context.Context, c admission.Caller, request LockRequest) (store.Lock, error) {
	who, err := b.guard.Administer(ctx, c, policy.Lock)
	if err != nil {
		return store.Lock{}, err
	}
	lock, err := b.draftLock(who, request)
	if err != nil {
		return lock, err
	}
	if request.DryRun {
		err = b.store.View(ctx, func(tx *store.Tx) (err error) {
			lock.Hits, err = tx.CountLive(lock.Filter())
			return err
		})
		return lock, err
	}
	err = b.store.Update(ctx, func(tx *store.Tx) (err error) {
		if lock.Hits, err = tx.CountLive(lock.Filter()); err != nil {
			return err
		}
		_, err = tx.PutLock(lock)
		return err
	})
	if err != nil {
		return lock, err
	}
	who.Origin.Log(b.log).Warn("a lock was placed", "lock", lock.ID, "by", lock.CreatedBy, "hits", lock.Hits, "reason", lock.Reason)
	b.revoker.Enforce()
	return lock, nil
}

// draftLock resolves names to what cannot be renamed: the issuer's URL and the subject.
func (b *Broker) draftLock(who admission.Actor, request LockRequest) (store.Lock, error) {
	const op = "place a lock"
	now := b.clock.Now()
	lock := store.Lock{
		ID:        string(lease.NewID(now.Unix())),
		Role:      request.Role,
		Target:    request.Target,
		Lease:     lease.ID(request.Lease),
		Reason:    request.Reason,
		CreatedAt: now,
		CreatedBy: who.Name,
		ExpiresAt: request.ExpiresAt,
	}
	if request.Principal+request.Issuer+request.Role+request.Target+request.Lease == "" {
		return lock, fault.New(fault.Invalid, op, "an empty match would lock everything; name a principal, issuer, role, target or lease")
	}
	if request.Reason == "" {
		return lock, fault.New(fault.Invalid, op, "a lock needs a reason")
	}
	if !request.ExpiresAt.IsZero() && !request.ExpiresAt.After(lock.CreatedAt) {
		return lock, fault.New(fault.Invalid, op, "expires_at is in the past")
	}
	if request.Lease != "" {
		if _, err := lease.ParseID(request.Lease); err != nil {
			return lock, fault.Wrap(fault.Invalid, op, err.Error(), err)
		}
	}
	issuer := request.Issuer
	if request.Principal != "" {
		name, subject, ok := strings.Cut(request.Principal, ":")
		if strings.Contains(issuer, "://") { // one that is not configured, such as that of somebody who acts
			name = issuer
			subject, ok = strings.CutPrefix(request.Principal, issuer+":")
		}
		if !ok || subject == "" {
			return lock, fault.New(fault.Invalid, op, `a principal is written as issuer name, colon, subject, such as "github:repo:acme/orders:ref:refs/heads/main"`)
		}
		if issuer != "" && issuer != name {
			return lock, fault.New(fault.Invalid, op, "the principal is of another issuer than the one named beside it")
		}
		issuer, lock.Subject = name, subject
	}
	return b.withIssuer(lock, who.View, issuer)
}

// withIssuer fills in the issuer's URL. One that is not configured may be given as a URL.
func (b *Broker) withIssuer(lock store.Lock, view *admission.View, issuer string) (store.Lock, error) {
	if issuer == "" {
		return lock, nil
	}
	if strings.Contains(issuer, "://") {
		lock.IssuerURL = issuer
		return lock, nil
	}
	if view != nil {
		if known, ok := view.Access.Issuers[issuer]; ok {
			lock.Issuer, lock.IssuerURL = known.Name, known.URL
			return lock, nil
		}
	}
	return lock, fault.New(fault.Invalid, "place a lock", fmt.Sprintf("no issuer %q is configured; an issuer that was may be given by its URL", issuer))
}

// Locks returns one page of the locks, newest first.
func (b *Broker) Locks(ctx context.Context, c admission.Caller, cursor string, limit int) (found []store.Lock, next string, err error) {
	if _, err := b.guard.Administer(ctx, c, policy.Read); err != nil {
		return nil, "", err
	}
	err = b.store.View(ctx, func(tx *store.Tx) (err error) {
		found, next, err = tx.Locks(cursor, limit)
		return err
	})
	return found, next, err
}

// Unlock lifts a lock. What it ended stays ended.
func (b *Broker) Unlock(ctx context.Context, c admission.Caller, id string) (lock store.Lock, err error) {
	who, err := b.guard.Administer(ctx, c, policy.Lock)
	if err != nil {
		return lock, err
	}
	err = b.store.Update(ctx, func(tx *store.Tx) (err error) {
		if _, err := tx.LiftLock(id, b.clock.Now(), who.Name); err != nil {
			return err
		}
		lock, err = tx.Lock(id)
		return err
	})
	if err == nil {
		who.Origin.Log(b.log).Warn("a lock was lifted", "lock", id, "by", who.Name)
	}
	return lock, err
}
