package broker

import (
	"context"

	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
)

// lease reads a lease for an actor who owns it, or who may do the action to it as an administrator. To everybody
// else it does not exist.
func (b *Broker) lease(ctx context.Context, who admission.Actor, id lease.ID, action policy.Action) (store.Lease, error) {
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
	if who.Owns(l) || who.Local || b.guard.Permits(who, action, onLease(l)) {
		return l, nil
	}
	return store.Lease{}, absent
}

func onLease(l store.Lease) policy.Resource {
	return policy.OnLease(string(l.ID), l.Role, l.Target, policy.Holder{Issuer: l.Issuer, Subject: l.Subject})
}

// deniedError says that a lease may not be, or may no longer be, whatever the policies say.
type deniedError struct {
	effect string // "lock" or "ended"
	text   string
}

func (e *deniedError) Error() string { return e.text }
