package store

import (
	"context"
	"errors"
)

// ReadSealed reads a sealed value of a store that is not open, for what Open itself needs: the ledger's key. Not
// found where there is none. It takes the dialect over.
func ReadSealed(ctx context.Context, d Dialect, name string) (ciphertext []byte, err error) {
	s := newStore(d, Options{})
	err = s.View(ctx, func(tx *Tx) (err error) {
		ciphertext, err = tx.Sealed(name)
		return err
	})
	return ciphertext, errors.Join(err, s.Close())
}
