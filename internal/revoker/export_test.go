package revoker

import (
	"context"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

// EndAsExpired ends leases as the expirer does with what it has read.
func (r *Revoker) EndAsExpired(ctx context.Context, read ...store.Lease) error {
	return r.end(ctx, read, lease.Expired)
}
