// Package keyring holds the master key and seals what the store keeps secret.
//
// The master key never touches the store. It wraps a fresh data key for every sealed record (AES-256-GCM both), so
// that changing the master key re-wraps 32 bytes per record and decrypts none of them. A record opens only under
// the name and context that it was sealed for: moving it to another row makes it unreadable. Putting an older
// record back in its own place is not noticed here.
//
// Keys sit behind functions, so that printing a [Key] shows none of it, and no error holds a byte of key or
// plaintext. The package imports the standard library only.
package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
)

var (
	// ErrWrongKey says that another master key sealed it.
	ErrWrongKey = errors.New("sealed by another master key")
	// ErrDamaged says that it is no sealed record, was changed, or belongs to another name or context. Which of these is
	// unknowable.
	ErrDamaged = errors.New("damaged, or sealed for another record")
)

// The bytes of a sealed record: version, the ID of the master key, the data key wrapped by the master key, the
// plaintext sealed by the data key. Both of the latter begin with their nonce (12 bytes) and end with a tag (16).
const (
	version    = 1
	keySize    = 32 // of master and data keys: AES-256
	idSize     = 16
	gcmSize    = 12 + 16
	wrapStart  = 1 + idSize
	dataStart  = wrapStart + keySize + gcmSize
	minimum    = dataStart + gcmSize
	wrapUse    = "daypass/master-key/wrap/v1"
	idUse      = "daypass/master-key/id/v1"
	deriveUse  = "daypass/master-key/derive/v1"
	recordUse  = "daypass/sealed-record/v1"
	dataKeyUse = "daypass/data-key/v1"
)

// Key is a master key. Its methods may be called concurrently.
type Key struct {
	id   [idSize]byte
	wrap func() cipher.AEAD // under a key derived from the master key for wrapping alone
	root func() []byte      // what [Key.Derive] derives from
}

// newKey returns the master key with these 32 bytes. It keeps keys derived from them, not the bytes.
func newKey(master []byte) (*Key, error) {
	if len(master) != keySize {
		return nil, fmt.Errorf("a master key has %d bytes, not %d", keySize, len(master))
	}
	id, err := hkdf.Key(sha256.New, master, nil, idUse, idSize)
	if err != nil {
		return nil, fmt.Errorf("derive the master key's ID: %w", err)
	}
	wrapKey, err := hkdf.Key(sha256.New, master, nil, wrapUse, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive the wrapping key: %w", err)
	}
	wrap, err := gcm(wrapKey)
	if err != nil {
		return nil, err
	}
	root, err := hkdf.Key(sha256.New, master, nil, deriveUse, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive the root of derived keys: %w", err)
	}
	return &Key{
		id:   [idSize]byte(id),
		wrap: func() cipher.AEAD { return wrap },
		root: func() []byte { return root },
	}, nil
}

// Derive returns 32 bytes for a purpose: the same wherever the master key is, so that servers share them without
// keeping them. They change with the master key: for what may be forgotten, such as codes that are good for minutes.
func (k *Key) Derive(purpose string) ([]byte, error) {
	key, err := hkdf.Expand(sha256.New, k.root(), purpose, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive a key for %s: %w", purpose, err)
	}
	return key, nil
}

// gcm returns AES-256-GCM that draws its own nonces and puts them first.
func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("prepare AES: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("prepare GCM: %w", err)
	}
	return aead, nil
}

// Fingerprint returns a name for the key that tells nothing about it: 26 characters of lowercase base32. Keep it
// beside what the key seals, and compare it at start-up to tell a wrong key from a damaged store.
func (k *Key) Fingerprint() string { return fingerprint(k.id[:]) }

func fingerprint(id []byte) string {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding).EncodeToString(id)
}

// SealedBy returns the [Key.Fingerprint] of the key that a record says it was sealed by. Nothing vouches for it
// until [Key.Open] succeeds.
func SealedBy(sealed []byte) (string, error) {
	if err := check(sealed); err != nil {
		return "", err
	}
	return fingerprint(sealed[1:wrapStart]), nil
}

// check refuses bytes that cannot be a record of this version.
func check(sealed []byte) error {
	switch {
	case len(sealed) > 0 && sealed[0] != version:
		return fmt.Errorf("version %d of sealed records is unknown: %w", sealed[0], ErrDamaged)
	case len(sealed) < minimum:
		return fmt.Errorf("%d bytes are too few: %w", len(sealed), ErrDamaged)
	}
	return nil
}

// Seal encrypts plaintext for the record called name ("target/orders-db") in a context ("password"; what else the
// secret depends on, such as the host that it is for). Only the same name and context open it.
func (k *Key) Seal(name, context string, plaintext []byte) ([]byte, error) {
	dataKey := make([]byte, keySize)
	rand.Read(dataKey) // never fails: crypto/rand ends the process instead
	defer clear(dataKey)
	data, err := gcm(dataKey)
	if err != nil {
		return nil, fmt.Errorf("seal %q: %w", name, err)
	}
	sealed := make([]byte, 0, minimum+len(plaintext))
	sealed = k.appendWrapped(sealed, dataKey)
	return data.Seal(sealed, nil, plaintext, binding(name, context)), nil
}

// Open returns the plaintext that was sealed for name and context. The error wraps [ErrWrongKey] or [ErrDamaged].
func (k *Key) Open(name, context string, sealed []byte) ([]byte, error) {
	dataKey, err := k.unwrap(sealed)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	defer clear(dataKey)
	data, err := gcm(dataKey)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	plaintext, err := data.Open(nil, nil, sealed[dataStart:], binding(name, context))
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, ErrDamaged)
	}
	return plaintext, nil
}

// Rewrap returns the record as sealed by to instead of k. It changes the wrapped data key only: neither name nor
// context is needed, and the plaintext stays encrypted. The record may have been sealed by to already: then it
// comes back as it is, so that an interrupted rotation can be run again.
func (k *Key) Rewrap(sealed []byte, to *Key) ([]byte, error) {
	if check(sealed) == nil && [idSize]byte(sealed[1:wrapStart]) == to.id {
		if _, err := to.unwrap(sealed); err != nil {
			return nil, fmt.Errorf("rewrap: %w", err)
		}
		return append([]byte(nil), sealed...), nil
	}
	dataKey, err := k.unwrap(sealed)
	if err != nil {
		return nil, fmt.Errorf("rewrap: %w", err)
	}
	defer clear(dataKey)
	return append(to.appendWrapped(make([]byte, 0, len(sealed)), dataKey), sealed[dataStart:]...), nil
}

// appendWrapped appends everything before the ciphertext.
func (k *Key) appendWrapped(sealed, dataKey []byte) []byte {
	sealed = append(append(sealed, version), k.id[:]...)
	return k.wrap().Seal(sealed, nil, dataKey, k.header())
}

// unwrap returns the data key of a record.
func (k *Key) unwrap(sealed []byte) ([]byte, error) {
	if err := check(sealed); err != nil {
		return nil, err
	}
	if id := sealed[1:wrapStart]; [idSize]byte(id) != k.id {
		return nil, fmt.Errorf("by %s, not %s: %w", fingerprint(id), k.Fingerprint(), ErrWrongKey)
	}
	dataKey, err := k.wrap().Open(nil, nil, sealed[wrapStart:dataStart], k.header())
	if err != nil {
		return nil, ErrDamaged
	}
	return dataKey, nil
}

// header is what the wrapped data key is bound to: the bytes before it, and its use.
func (k *Key) header() []byte {
	return append(append([]byte(dataKeyUse), version), k.id[:]...)
}

// binding is what the ciphertext is bound to. The lengths keep ("ab", "c") apart from ("a", "bc").
func binding(name, context string) []byte {
	b := append([]byte(recordUse), version)
	b = append(binary.BigEndian.AppendUint64(b, uint64(len(name))), name...)
	return append(binary.BigEndian.AppendUint64(b, uint64(len(context))), context...)
}
