package revoker

import (
	"context"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

// Share is how many records of the revoker may be in the store's queue at once.
const Share = share

// EndAsExpired ends leases as the expirer does with what it has read.
func (r *Revoker) EndAsExpired(ctx context.Context, read ...store.Lease) error {
	return r.end(ctx, read, lease.Expired)
}
