package broker

import (
	"context"

	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
)

// NewKey makes a signing key for the ledger called origin, and seals it. It is where the master key is known.
type NewKey func(origin string) (store.Rotation, error)

// Rotated is a change of the ledger's key.
type Rotated struct {
	Key   string // the new verifier key
	Entry int64  // the position of the ledger's entry about it
}

// RotateKey replaces the key that signs the ledger. Checkpoints and receipts carry the new one from then on; what
// the old one signed stays good, and the old one vouches for the new one.
func (b *Broker) RotateKey(ctx context.Context, c admission.Caller) (done Rotated, err error) {
	who, err := b.guard.Administer(ctx, c, policy.Configure)
	if err != nil {
		return Rotated{}, err
	}
	next, err := b.newKey(b.store.Signer().Origin())
	if err != nil {
		return Rotated{}, err
	}
	next.By, done.Key = who.Name, next.Signer.VerifierKey()
	err = b.store.Update(ctx, func(tx *store.Tx) (err error) {
		done.Entry, err = tx.Rotate(next)
		return err
	})
	if err != nil {
		return Rotated{}, err
	}
	who.Origin.Log(b.log).Warn("the ledger's key was rotated", "key", done.Key, "by", who.Name, "entry", done.Entry)
	return done, nil
}

// RotateIssuer makes the next keys sign the tokens of our issuer, or withdraws all keys where they were stolen.
func (b *Broker) RotateIssuer(ctx context.Context, c admission.Caller, withdraw bool) (issuer.Rotated, error) {
	who, err := b.guard.Administer(ctx, c, policy.Configure)
	if err != nil {
		return issuer.Rotated{}, err
	}
	return b.issuer.Rotate(ctx, issuer.Rotation{By: who.Name, Withdraw: withdraw})
}
