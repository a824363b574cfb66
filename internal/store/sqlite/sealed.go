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
func ReadSealed(ctx context.Context, path, name string) ([]byte, error) {
	ciphertext, err := readSealed(ctx, path, name)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return ciphertext, nil
}

func readSealed(ctx context.Context, path, name string) ([]byte, error) {
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
	if err := inspect(real); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	d, err := newDialect(real, Options{}, lock)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return store.ReadSealed(ctx, d, name)
}
