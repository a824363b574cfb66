package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/daypass/daypass/internal/store"
)

// ReadSealed reads a sealed value of the store at path, which must not be open. What is wrong with the store is
// told as by [Open].
func ReadSealed(ctx context.Context, path, name string) (ciphertext []byte, err error) {
	d, err := own(path, Options{})
	if err == nil {
		ciphertext, err = store.ReadSealed(ctx, d, name)
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return ciphertext, nil
}

// Reseal replaces sealed values of the store at path, which must not be open, as [store.Reseal] does. What is
// wrong with the store is told as by [Open], before change is called.
func Reseal(ctx context.Context, path string, opt Options, change func(ciphertexts map[string][]byte) error) error {
	d, err := own(path, opt)
	if err == nil {
		err = store.Reseal(ctx, d, change)
	}
	if err != nil {
		return fmt.Errorf("reseal store %s: %w", path, err)
	}
	return nil
}

// Hold gives fn the store at path without opening it; meanwhile nobody else can have it. What is wrong with the store
// is told as by [Open].
func Hold(ctx context.Context, path string, opt Options, fn func(store.Dialect) error) error {
	d, err := own(path, opt)
	if err != nil {
		return fmt.Errorf("open store %s: %w", path, err)
	}
	if err = d.checkVersion(ctx); err == nil {
		err = fn(d)
	}
	return errors.Join(err, d.Close())
}

// own takes the store at path without opening it.
func own(path string, opt Options) (*dialect, error) {
	// The real path, so that two links to one file are one file with one lock.
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w; make one with: daypass init", store.ErrAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrAccess, err)
	}
	lock, err := lockFile(real)
	if err != nil {
		return nil, err
	}
	// The lock comes first: opening and closing the file beside SQLite in one process would drop SQLite's locks.
	if err := inspect(real); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	d, err := newDialect(real, opt, lock)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}
