package broker

import (
	"context"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

// abandon ends a lease whose credential reaches nobody. When even that cannot be recorded, the row is still
// pending or active, and the revoker ends it at its expiry or at the next start.
func (b *Broker) abandon(ctx context.Context, a *acquisition, reason lease.Reason) {
	if err := b.endLease(ctx, a.lease.ID, reason); err != nil {
		a.request.Origin.Log(b.log).Error("end a lease that was not handed out", "lease", a.lease.ID, "target", a.lease.Target, "err", err)
	}
}

// Undelivered ends a lease whose answer could not be written.
func (b *Broker) Undelivered(ctx context.Context, id lease.ID) {
	if err := b.endLease(context.WithoutCancel(ctx), id, lease.Undelivered); err != nil {
		b.log.Error("end a lease whose answer could not be written", "lease", id, "err", err)
	}
}

// endLease moves a lease to revoking unless it has ended already.
func (b *Broker) endLease(ctx context.Context, id lease.ID, reason lease.Reason) error {
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	var ended string
	err := b.store.Update(ctx, func(tx *store.Tx) error {
		current, err := tx.Lease(id)
		if err != nil || !current.State.MayLive() || current.State == lease.Revoking {
			return err
		}
		ended = current.Target
		_, err = tx.Move(&current, lease.Ended, store.Why{Reason: reason, Now: b.clock.Now()})
		return err
	})
	if err == nil && ended != "" {
		b.figures.ended.WithLabelValues(string(reason)).Inc()
		b.revoker.Wake(ended)
	}
	return err
}
