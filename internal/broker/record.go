package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

// record writes the lease, with its decision and ledger entries, before anything happens at the target: as pending, or
// as active where the credential was made ahead. Locks, limits and the revision are checked in the same transaction.
func (b *Broker) record(ctx context.Context, a *acquisition) (err error) {
	defer b.tracer.Start(&ctx, "record").End(&err)
	var superseded string
	var recorded store.Lease
	var leaf []byte
	err = b.store.Update(ctx, func(tx *store.Tx) (err error) {
		if err := a.view.Check(tx); err != nil {
			return err
		}
		if err := b.guard.Settle(tx, a.dues); err != nil {
			return err
		}
		if err := b.checkLocks(tx, a.lease); err != nil {
			return err
		}
		if err := a.ruling.Confirm(tx); err != nil {
			return err
		}
		if superseded, err = b.supersede(tx, a); err != nil {
			return err
		}
		if err := b.checkLimits(tx, a); err != nil {
			return err
		}
		if _, err := tx.PutDecision(a.ruling.Decision); err != nil {
			return err
		}
		recorded = a.lease
		recorded.Decision = a.ruling.Decision.ID
		if leaf, err = a.insert(tx, &recorded); err != nil {
			return err
		}
		return a.ruling.Watch(tx, recorded)
	})
	if superseded != "" && err == nil {
		b.revoker.Wake(superseded)
	}
	if denied, ok := errors.AsType[*deniedError](err); ok {
		return b.guard.Deny(ctx, a.ruling.Overruled(denied.effect, denied.text), a.ruling.Decision.Resource, denied.text)
	}
	switch {
	case err == nil && a.ahead != nil:
		b.giveReceipt(a, recorded, leaf)
	case err == nil:
		a.lease = recorded
	}
	return b.guard.Overtaken(ctx, err, fmt.Sprintf("role %q was denied", a.request.Role))
}

// insert writes the row.
func (a *acquisition) insert(tx *store.Tx, l *store.Lease) (leaf []byte, err error) {
	if a.ahead != nil {
		return tx.InsertGranted(l, l.CreatedAt)
	}
	return tx.InsertLease(l)
}

// draft makes the row that record will write.
func (a *acquisition) draft(b *Broker) error {
	claims, err := identity.EncodeClaims(a.principal.Claims)
	if err != nil {
		return fmt.Errorf("record a lease of %s: %w", a.principal.Name(), err)
	}
	now := b.clock.Now()
	id := lease.NewID(now.Unix())
	a.token = admission.NewToken(id)
	a.lease = store.Lease{
		ID:             id,
		State:          lease.Pending,
		Role:           a.role.Name,
		Target:         a.role.Target,
		Issuer:         a.principal.Issuer,
		IssuerURL:      a.principal.IssuerURL,
		Subject:        a.principal.Subject,
		Claims:         claims,
		Run:            runOf(a.view, a.principal),
		Decision:       a.ruling.Decision.ID,
		Revision:       a.view.Revision,
		CreatedAt:      now,
		ExpiresAt:      now.Add(a.ttl),
		RenewableUntil: now.Add(a.role.TTL.Max),
		NativeUntil:    now.Add(a.ttl),
		TokenHash:      admission.HashToken(a.token),
		RenewByHandle:  a.role.Renew == access.Handle,
		Boot:           b.store.Boot(),
	}
	if a.request.Key != "" {
		a.lease.KeyHash = admission.Hash("key", a.request.Key)
		a.lease.BodyHash = admission.Hash("body", a.request.Role, a.request.TTL.String(), a.request.Reason)
	}
	a.ruling.Decision.Lease = string(a.lease.ID)
	return nil
}

// runOf returns what the workload's platform calls its run, where it is known of the issuer.
func runOf(view *admission.View, p identity.Principal) string {
	var parts []string
	for _, name := range view.Access.Issuers[p.Issuer].Run {
		if part, ok := p.Claims[name].(string); ok && part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/")
}

// checkLocks refuses a lease that an active lock matches, by its principal or by one who acts for it.
func (b *Broker) checkLocks(tx *store.Tx, l store.Lease) error {
	lock, found, err := tx.MatchingLock(l, b.clock.Now())
	if err == nil && found {
		err = &deniedError{effect: "lock", text: fmt.Sprintf("a lock is in force: %s", lock.Reason)}
	}
	return err
}

// checkLimits counts live leases, this one not yet among them.
func (b *Broker) checkLimits(tx *store.Tx, a *acquisition) error {
	l := a.lease
	for _, limit := range []struct {
		scope store.Scope
		most  int
		what  string
	}{
		{store.Scope{Role: l.Role}, a.role.Limits.Live, fmt.Sprintf("role %q", l.Role)},
		{store.Scope{Role: l.Role, IssuerURL: l.IssuerURL, Subject: l.Subject}, a.role.Limits.PerPrincipal, fmt.Sprintf("role %q for this principal", l.Role)},
		{store.Scope{IssuerURL: l.IssuerURL, Subject: l.Subject}, b.limits.LeasesPerPrincipal, "this principal"},
	} {
		if limit.most == 0 {
			continue
		}
		live, err := tx.Live(limit.scope)
		if err != nil {
			return err
		}
		if live >= limit.most {
			refusal := fault.New(fault.TooMany, "acquire", fmt.Sprintf("%s has %d live leases, as many as the limit; release some or wait", limit.what, live))
			refusal.RetryAfter = 5 * time.Second
			return refusal
		}
	}
	return nil
}

// supersede ends the lease that the same principal made with the same idempotency key: its answer was lost, or
// was not, and either way the caller asks for a fresh one. It returns the target of the lease it ended.
func (b *Broker) supersede(tx *store.Tx, a *acquisition) (targetName string, err error) {
	if a.lease.KeyHash == nil {
		return "", nil
	}
	earlier, err := tx.LeaseByKey(a.lease.IssuerURL, a.lease.Subject, a.lease.KeyHash)
	if fault.Is(err, fault.NotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if string(earlier.BodyHash) != string(a.lease.BodyHash) {
		return "", fault.New(fault.Conflict, "acquire", "this Idempotency-Key was used for another request; use a fresh one")
	}
	if earlier.State != lease.Pending && earlier.State != lease.Active {
		return "", nil
	}
	_, err = tx.Move(&earlier, lease.Ended, store.Why{Reason: lease.Superseded, Now: b.clock.Now()})
	return earlier.Target, err
}
