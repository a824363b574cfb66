package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/keyring"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/ledger"
)

// Copied is what [Backup] or [Restore] made.
type Copied = sqlite.Copied

// Backup writes a copy of the store, as it is at one moment, to a new file. The server may run or not: it is not
// asked. watch, unless nil, is told how far it is.
func Backup(ctx context.Context, cfg Config, to string, watch func(done, all int64)) (Copied, error) {
	cfg.fill()
	path, err := copyable(cfg)
	if err != nil {
		return Copied{}, err
	}
	made, err := sqlite.Backup(ctx, path, to, watch)
	switch {
	case errors.Is(err, store.ErrAbsent):
		err = withHint(err, "is it the configuration of the server? --config names another")
	case errors.Is(err, store.ErrExists):
		err = withHint(err, "nothing is overwritten: name a new file")
	case errors.Is(err, store.ErrDamaged):
		err = withHint(err, "this store cannot be copied whole: keep your earlier backups, and see daypass help store restore")
	}
	return made, err
}

// Restore puts a backup in the place of the store. The server must not run. Before anything is changed it makes
// sure that the backup is whole and that the master key opens it. A store that is there is moved aside when that is
// asked for, and else left alone, with an error.
func Restore(ctx context.Context, cfg Config, from string, setAside bool, watch func(done, all int64)) (Copied, error) {
	cfg.fill()
	path, err := copyable(cfg)
	if err != nil {
		return Copied{}, err
	}
	key, err := keyring.Load(cfg.MasterKey)
	if err != nil {
		return Copied{}, withHint(err, "the master key is in no backup of the store: put it back from where you keep it")
	}
	done, err := sqlite.Restore(ctx, from, path, sqlite.Restoring{
		Approve: func(f store.Facts) error {
			_, err := signerOf(f, key)
			return err
		},
		SetAside: setAside,
		Watch:    watch,
	})
	switch {
	case errors.Is(err, store.ErrInUse):
		err = withHint(err, "stop the server first: what it holds in memory is of the store that is there")
	case errors.Is(err, store.ErrExists) && !setAside:
		err = withHint(err, "it moves the store that is there away, and never deletes one, with: --set-aside")
	case errors.Is(err, keyring.ErrWrongKey), errors.Is(err, store.ErrWrongKey):
		err = withHint(err, "name in master_key the key that the store had when the backup was made")
	}
	return done, err
}

// copyable returns the file of a store in one.
func copyable(cfg Config) (string, error) {
	if isDatabase(cfg.Store) {
		return "", withHint(errors.New("the store is a PostgreSQL database: this command copies stores in a file"),
			"back it up and restore it with PostgreSQL's own tools, such as pg_dump")
	}
	return storePath(cfg.Store)
}

// signerOf opens the ledger's key in a copy with the master key, and makes sure that the copy's ledger is signed
// with it: so a server would start from it.
func signerOf(f store.Facts, key *keyring.Key) (*ledger.Signer, error) {
	sealed, ok := f.Sealed[sealedLedgerKey]
	if !ok {
		return nil, fault.New(fault.NotFound, "read the ledger's key", "it holds no ledger key: it was not made by daypass init")
	}
	signer, err := openLedgerKey(key, sealed)
	if err != nil {
		return nil, fmt.Errorf("the master key does not open it: %w", err)
	}
	if signer.VerifierKey() != f.Key {
		return nil, fmt.Errorf("%w: its ledger is signed with %s and it keeps %s", store.ErrWrongKey, f.Key, signer.VerifierKey())
	}
	return signer, nil
}
