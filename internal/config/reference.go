package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/daypass/daypass/internal/keyring"
	"github.com/daypass/daypass/internal/store/postgres"
)

// InDatabase reports whether a reference names a store in a PostgreSQL database.
func InDatabase(reference string) bool { return strings.HasPrefix(reference, "postgres") }

// CheckStore refuses a reference that names no store, without looking for it.
func CheckStore(reference string) error {
	if InDatabase(reference) {
		return postgres.Check(reference)
	}
	_, err := StorePath(reference)
	return err
}

// StorePath returns the file of a store in one.
func StorePath(reference string) (string, error) {
	u, err := url.Parse(reference)
	switch {
	case err != nil:
		return "", errors.New("the reference to the store cannot be read")
	case u.Scheme != "sqlite" || u.Host != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !filepath.IsAbs(u.Path):
		return "", errors.New("the reference names no file")
	}
	return filepath.Clean(u.Path), nil
}

// ReadFile reads the file of a file:/// reference, nothing where the field is empty.
func ReadFile(field, reference string) ([]byte, error) {
	if reference == "" {
		return nil, nil
	}
	path, err := keyring.Path(reference)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return text, nil
}

// IsFile reports whether a text refers to a file, with file:/// and an absolute path.
func IsFile(reference string) bool { return strings.HasPrefix(reference, "file:") }
