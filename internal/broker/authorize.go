package broker

import (
	"context"

	"github.com/daypass/daypass/internal/policy"
)

// Authorize refuses a caller who may not do the action to the installation, as an administrator may. It is for
// what the broker has no method for: status, checks and the ledger.
func (b *Broker) Authorize(ctx context.Context, c Caller, action policy.Action) error {
	_, err := b.administer(ctx, c, action)
	return err
}

// Identify refuses a caller whose evidence is bad, and nobody else.
func (b *Broker) Identify(ctx context.Context, c Caller) error {
	_, err := b.identifyCaller(ctx, c)
	return err
}

// Admit is Authorize before anything of what the caller sends is read, where that may be much: the caller that it returns
// is known from then on, with the permissions of the view that is active now.
func (b *Broker) Admit(ctx context.Context, c Caller, action policy.Action) (Caller, error) {
	who, err := b.administer(ctx, c, action)
	if err != nil {
		return c, err
	}
	who.dues = nil // they are settled
	c.admitted = &who
	return c, nil
}
