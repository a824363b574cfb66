package installation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/keyring"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// sealedLedgerKey is the name in the store of the ledger's sealed signing key.
const sealedLedgerKey = "ledger-key"

// ledgerKey is what is sealed: the seed, and the origin that it signs for.
type ledgerKey struct {
	Origin string `json:"origin"`
	Seed   []byte `json:"seed"`
}

// makeLedgerKey makes a signing key for the ledger called origin, and seals it.
func makeLedgerKey(master *keyring.Key, origin string) (signer *ledger.Signer, sealed []byte, err error) {
	signer, seed, err := ledger.GenerateSigner(origin)
	if err != nil {
		return nil, nil, fmt.Errorf("make the ledger's key: %w", err)
	}
	defer clear(seed)
	text, err := json.Marshal(ledgerKey{origin, seed})
	if err != nil {
		return nil, nil, fmt.Errorf("encode the ledger's key: %w", err)
	}
	defer clear(text)
	sealed, err = master.Seal(sealedLedgerKey, "", text)
	return signer, sealed, err
}

// openLedgerKey is the signing key that [makeLedgerKey] sealed.
func openLedgerKey(master *keyring.Key, sealed []byte) (*ledger.Signer, error) {
	text, err := master.Open(sealedLedgerKey, "", sealed)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	var k ledgerKey
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, errors.New("read the ledger's key: it is not one") // the cause may quote the seed
	}
	return ledger.NewSigner(k.Origin, k.Seed)
}

// signerIn reads the signing key that a store holds now.
func signerIn(master *keyring.Key) func(*store.Tx) (*ledger.Signer, error) {
	return func(tx *store.Tx) (*ledger.Signer, error) {
		sealed, err := tx.Sealed(sealedLedgerKey)
		if err != nil {
			return nil, err
		}
		return openLedgerKey(master, sealed)
	}
}

// NewLedgerKey makes the next signing key of the ledger.
func NewLedgerKey(master *keyring.Key, origin string) (store.Rotation, error) {
	signer, sealed, err := makeLedgerKey(master, origin)
	return store.Rotation{Signer: signer, Name: sealedLedgerKey, Sealed: sealed}, err
}

// Rewrap seals what is sealed in the store with another master key, the one that the reference to names, and makes
// that key where there is none. The store must not be open. It says what it did, a sentence each, also when it
// fails halfway.
//
// The new key is durable before anything is sealed with it, and the store changes over in one transaction: at
// every moment one of the two keys opens all of it. What was interrupted is run again.
func Rewrap(ctx context.Context, cfg config.Config, to string) (did []string, err error) {
	cfg.Fill()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	kept, err := storageOf(cfg)
	if err != nil {
		return nil, err
	}
	if _, err := keyring.Path(to); err != nil {
		return nil, err
	}
	w := &rewrapping{store: kept.name(), old: cfg.MasterKey, to: to}
	err = kept.reseal(ctx, w.change)
	switch {
	case err == nil:
		return append(w.made, w.sealed), nil
	case errors.Is(err, store.ErrUnknown):
		err = fault.WithHint(err, "the old or the new master key opens the store; the same command again finds out, and goes on")
	case len(w.made) > 0:
		err = fault.WithHint(err, "the old master key still opens the store; the same command again goes on with the key that was made")
	}
	return w.made, err
}

// rewrapping is one change of the master key.
type rewrapping struct {
	store   string // its name
	old, to string // references to the keys

	made   []string // what stays, however it ends
	sealed string   // what is true once the store has changed over
}

// change seals every ciphertext with the new key. The store is ours meanwhile. No key is made before the old one
// has shown to be the right one, so that none ever stands in the place of one that was lost.
func (w *rewrapping) change(all map[string][]byte) error {
	if len(all[sealedLedgerKey]) == 0 {
		return errors.New("it holds no ledger key: it was not made by daypass init")
	}
	next, err := keyring.Load(w.to)
	isAbsent := errors.Is(err, fs.ErrNotExist)
	if err != nil && !isAbsent {
		return fault.WithHint(err, "the old master key still opens the store. If this file is what an interrupted daypass keys rewrap left, nothing is sealed with it: remove it")
	}
	if !isAbsent && isSealedBy(next, all) {
		w.sealed = fmt.Sprintf("the store %s was sealed with %s already and is left as it is", w.store, w.to)
		return opens(next, all)
	}
	old, err := keyring.Load(w.old)
	if err == nil {
		err = opens(old, all)
	}
	if err != nil {
		return fault.WithHint(err, "the store changes over with its present master key only: name that one in master_key, or restore it")
	}
	if isAbsent {
		if next, err = w.makeKey(); err != nil {
			return err
		}
	}
	for name, sealed := range all {
		if all[name], err = old.Rewrap(sealed, next); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	w.sealed = fmt.Sprintf("sealed the secrets in the store %s with %s; %s opens it no more", w.store, w.to, w.old)
	return opens(next, all)
}

func (w *rewrapping) makeKey() (*keyring.Key, error) {
	path, err := keyring.Path(w.to)
	if err != nil {
		return nil, err
	}
	key, err := keyring.Create(path)
	if err == nil {
		w.made = []string{fmt.Sprintf("made the master key %s: back it up apart from the store", path)}
	}
	return key, err
}

// opens makes sure that a server with this master key would start.
func opens(key *keyring.Key, all map[string][]byte) error {
	_, err := openLedgerKey(key, all[sealedLedgerKey])
	return err
}

// isSealedBy reports whether every ciphertext says that it was sealed by a key.
func isSealedBy(key *keyring.Key, all map[string][]byte) bool {
	for _, sealed := range all {
		if by, err := keyring.SealedBy(sealed); err != nil || by != key.Fingerprint() {
			return false
		}
	}
	return true
}
