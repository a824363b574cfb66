package sqlite_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"path/filepath"
	"testing"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/internal/store/storetest"
)

// file is a store in a directory of the test.
type file struct {
	path    string
	ballast int64
}

var _ storetest.Database = file{}

func newFile(t testing.TB) file {
	return file{path: filepath.Join(t.TempDir(), "daypass.db"), ballast: 1 << 20}
}

func (f file) Create(ctx context.Context, opt store.Options) error {
	return sqlite.Create(ctx, f.path, sqlite.Options{Options: opt})
}

func (f file) Open(ctx context.Context, opt store.Options, wrap func(driver.Connector) driver.Connector) (*store.Store, error) {
	return sqlite.Open(ctx, f.path, sqlite.Options{Options: opt, Ballast: f.ballast, Wrap: wrap})
}

// Settles: a file has nobody to ask.
func (f file) Settles() bool { return false }

func (f file) SQL() (*sql.DB, error) { return sql.Open("sqlite", f.path) }
