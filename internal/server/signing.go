package server

import (
	"bytes"
	"context"
	"log/slog"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// sealedIssuerKeys is the name in the store of the sealed keys of our issuer.
const sealedIssuerKeys = "issuer-keys"

// newIssuer makes Daypass an issuer of tokens.
func (s *Server) newIssuer() *issuer.Issuer {
	url := s.cfg.Issuer.URL
	if url == "" {
		url = s.url
	}
	return issuer.New(issuer.Config{
		URL:       url,
		Server:    s.url,
		Algorithm: issuer.Algorithm(s.cfg.Issuer.Algorithm),
		Rotate:    time.Duration(s.cfg.Issuer.Rotate),
		Publish:   s.cfg.Issuer.Publish,
		Key:       s.key,
		Shelf:     shelf{s.store, s.log},
		Now:       time.Now,
		Log:       s.log,
	})
}

// shelf keeps the keys of our issuer in the store.
type shelf struct {
	store *store.Store
	log   *slog.Logger
}

// Load implements [issuer.Shelf].
func (s shelf) Load(ctx context.Context) (sealed []byte, err error) {
	err = s.store.View(ctx, func(tx *store.Tx) (err error) {
		sealed, err = sealedOrNone(tx)
		return err
	})
	return sealed, err
}

// Swap implements [issuer.Shelf]. The store has one writer at a time, so that comparing and writing are one act.
func (s shelf) Swap(ctx context.Context, before, next []byte, c issuer.Change) error {
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		current, err := sealedOrNone(tx)
		if err != nil {
			return err
		}
		if !bytes.Equal(current, before) {
			return issuer.ErrSwapped
		}
		if err := tx.PutSealed(sealedIssuerKeys, next); err != nil {
			return err
		}
		_, err = tx.Append(ledger.Entry{Event: ledger.IssuerRotated, Key: c.Signing})
		return err
	})
	switch {
	case err != nil:
	case before == nil:
		s.log.Info("the first keys of our issuer were made", "keys", c.Signing)
	default:
		s.log.Warn("other keys sign the tokens of our issuer", "keys", c.Signing, "by", c.By)
	}
	return err
}

func sealedOrNone(tx *store.Tx) ([]byte, error) {
	sealed, err := tx.Sealed(sealedIssuerKeys)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return sealed, err
}
