package verifier

import (
	"context"
	"time"

	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store"
)

// keyStore keeps issuers' keys in the store.
type keyStore struct{ store *store.Store }

var _ oidc.KeyStore = keyStore{}

// Keys implements [oidc.KeyStore].
func (k keyStore) Keys(ctx context.Context, url string) (jwks []byte, fetchedAt time.Time, err error) {
	err = k.store.View(ctx, func(tx *store.Tx) (err error) {
		jwks, fetchedAt, err = tx.IssuerKeys(url)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return nil, time.Time{}, nil
	}
	return jwks, fetchedAt, err
}

// PutKeys implements [oidc.KeyStore].
func (k keyStore) PutKeys(ctx context.Context, url string, jwks []byte, fetchedAt time.Time) error {
	return k.store.Update(ctx, func(tx *store.Tx) error { return tx.PutIssuerKeys(url, jwks, fetchedAt) })
}
