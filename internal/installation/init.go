// Package installation makes, keeps and moves what an installation of Daypass is: its store, its master key and the key of
// its ledger.
//
// It owns what `daypass init` makes (init.go), the sealed keys and the change of the master key (keys.go), backups
// (backup.go), moves from one database to another (migrate.go) and what opens each of the two kinds of store (storage.go).
// It promises that nothing that is there is overwritten; that no key is made for a store that has lost its own; and that
// what was interrupted is run again. It needs no server that runs, and must not import one.
package installation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/keyring"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// Init makes the master key and an empty store where there are none, and says what it made, a sentence each. It
// never replaces one of them, and makes no new key for a store that has lost its own.
func Init(ctx context.Context, cfg config.Config) (made []string, err error) {
	cfg.Fill()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	kept, err := storageOf(cfg)
	if err != nil {
		return nil, err
	}
	hasStore, err := kept.exists(ctx)
	if err != nil {
		return nil, err
	}
	key, said, err := initKey(cfg, kept.name(), hasStore)
	if err != nil {
		return nil, err
	}
	made = append(made, said...)
	if hasStore {
		if _, err := readSigner(ctx, cfg, key); err != nil {
			return made, err
		}
		return append(made, fmt.Sprintf("the store %s was there and is left as it is", kept.name())), nil
	}
	signer, err := initStore(ctx, cfg, key, kept)
	if err != nil {
		return made, err
	}
	return append(made,
		fmt.Sprintf("made the empty store %s", kept.name()),
		fmt.Sprintf("the ledger's public key is %s: keep it elsewhere, to verify the ledger with", signer.VerifierKey())), nil
}

// initKey loads the master key, or makes it where neither it nor a store is there.
func initKey(cfg config.Config, storeName string, hasStore bool) (*keyring.Key, []string, error) {
	path, err := keyring.Path(cfg.MasterKey)
	if err != nil {
		return nil, nil, err
	}
	key, err := keyring.Load(cfg.MasterKey)
	if err == nil {
		return key, []string{fmt.Sprintf("the master key %s was there and is left as it is", path)}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if hasStore {
		return nil, nil, fault.WithHint(fmt.Errorf("the store %s is there and its master key %s is not; a new key could not open it", storeName, path),
			"restore the master key from where you keep it"+another(cfg))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the directory of the master key: %w", err)
	}
	if key, err = keyring.Create(path); err != nil {
		return nil, nil, err
	}
	return key, []string{fmt.Sprintf("made the master key %s: back it up apart from the store", path)}, nil
}

// another is what to do where the store is that of another installation, which happens to databases.
func another(cfg config.Config) string {
	if !config.InDatabase(cfg.Store) {
		return ""
	}
	return ". Where the store is that of another installation, give this one a database or ?schema= of its own"
}

// initStore makes an empty store with the ledger's key in it, sealed.
func initStore(ctx context.Context, cfg config.Config, key *keyring.Key, kept storage) (*ledger.Signer, error) {
	signer, sealed, err := makeLedgerKey(key, ledgerOrigin(cfg))
	if err != nil {
		return nil, err
	}
	return signer, kept.create(ctx, store.Options{Signer: signer, Sealed: map[string][]byte{sealedLedgerKey: sealed}})
}

// ledgerOrigin names the ledger for all time, by where it was made. It says nothing of where it is later.
func ledgerOrigin(cfg config.Config) string {
	host := "localhost"
	if u, err := url.Parse(cfg.URL); err == nil && u.Host != "" {
		host = u.Host
	}
	return host + "/daypass-" + ledger.NewID()[:8]
}

// readSigner opens the ledger's key with the master key. The store must not be open yet: it opens with the signer.
func readSigner(ctx context.Context, cfg config.Config, key *keyring.Key) (*ledger.Signer, error) {
	kept, err := storageOf(cfg)
	if err != nil {
		return nil, err
	}
	sealed, err := kept.readSealed(ctx, sealedLedgerKey)
	if fault.Is(err, fault.NotFound) {
		return nil, fmt.Errorf("the store %s holds no ledger key: it was not made by daypass init", kept.name())
	}
	if err != nil {
		return nil, err
	}
	signer, err := openLedgerKey(key, sealed)
	if errors.Is(err, keyring.ErrWrongKey) {
		return nil, fault.WithHint(fmt.Errorf("the master key does not belong to the store %s: %w", kept.name(), err),
			"name in master_key the key that was made with this store, or the one of the last daypass keys rewrap; or restore it"+another(cfg))
	}
	if err != nil {
		return nil, fmt.Errorf("open the store %s: %w", kept.name(), err)
	}
	return signer, nil
}

// loadKey reads the master key of a server that is to run.
func loadKey(cfg config.Config) (*keyring.Key, error) {
	key, err := keyring.Load(cfg.MasterKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.WithHint(err, "a new installation is made with: daypass init")
	}
	return key, err
}

// Open opens the store of a configuration, which is filled, with the ledger's key that is sealed in it, and returns the
// master key as well. Of the options, the signers are not asked for.
func Open(ctx context.Context, cfg config.Config, opt store.Options) (*store.Store, *keyring.Key, error) {
	key, err := loadKey(cfg)
	if err != nil {
		return nil, nil, err
	}
	if opt.Signer, err = readSigner(ctx, cfg, key); err != nil {
		return nil, nil, err
	}
	opt.NextSigner = signerIn(key) // that another server of the same store has made sign
	kept, err := storageOf(cfg)
	if err != nil {
		return nil, nil, err
	}
	opened, err := kept.open(ctx, opt)
	return opened, key, err
}

// Dev returns the configuration of a server to try things with, below dir, and makes what is missing there. It
// listens on loopback only. An empty dir is a fresh one in the system's temporary directory.
func Dev(ctx context.Context, dir string) (cfg config.Config, made []string, err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "daypass-dev-"); err != nil {
			return cfg, nil, err
		}
		made = append(made, fmt.Sprintf("made the throwaway directory %s", dir))
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return cfg, nil, err
	}
	cfg = config.Dev(dir)
	for _, path := range []string{cfg.SecretsDir, cfg.Access} {
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			return cfg, made, err
		}
		made = append(made, fmt.Sprintf("made the directory %s", path))
	}
	more, err := Init(ctx, cfg)
	return cfg, append(made, more...), err
}
