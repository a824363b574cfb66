package relocation_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/postgres"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/internal/store/storetest"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/secret"
)

func TestMain(m *testing.M) { os.Exit(testbed.Main(m)) }

// home is a place where a store can be, or come to be.
type home interface {
	storetest.Database
	place() string
	hold(ctx context.Context, wrap wrapper, fn func(store.Dialect) error) error
	fill(ctx context.Context, wrap wrapper, fn func(store.Dialect) error) error
}

type wrapper = func(driver.Connector) driver.Connector

// database is a store in PostgreSQL, by its URL.
type database struct{ url string }

const login, password = "daypass", "sesame"

func newDatabase(t testing.TB, version int) database {
	t.Helper()
	server := testbed.SharedPostgres(t, version)
	name := server.Database(t)
	for _, text := range []string{
		"do $$ begin if not exists (select from pg_roles where rolname = '" + login + "') then create role " + login + " login password '" + password + "'; end if; end $$",
		"alter database " + name + " owner to " + login,
	} {
		must(t, server.Exec(context.WithoutCancel(t.Context()), name, text))
	}
	return database{fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", login, server.Address(), name)}
}

func (d database) Create(ctx context.Context, opt store.Options) error {
	return postgres.Create(ctx, d.url, postgres.Options{Options: opt, Password: secret.New(password)})
}

func (d database) Open(ctx context.Context, opt store.Options, wrap wrapper) (*store.Store, error) {
	return postgres.Open(ctx, d.url, postgres.Options{Options: opt, Password: secret.New(password), Wrap: wrap})
}

func (d database) Settles() bool { return true }

func (d database) SQL() (*sql.DB, error) {
	return sql.Open("pgx", strings.Replace(d.url, login+"@", login+":"+password+"@", 1))
}

func (d database) place() string { return d.url }

func (d database) hold(ctx context.Context, wrap wrapper, fn func(store.Dialect) error) error {
	return postgres.Hold(ctx, d.url, postgres.Options{Password: secret.New(password), Wrap: wrap}, fn)
}

func (d database) fill(ctx context.Context, wrap wrapper, fn func(store.Dialect) error) error {
	return postgres.Fill(ctx, d.url, postgres.Options{Password: secret.New(password), Wrap: wrap}, fn)
}

// file is a store in one.
type file struct{ path string }

func newFile(t testing.TB) file { return file{filepath.Join(t.TempDir(), "daypass.db")} }

func (f file) Create(ctx context.Context, opt store.Options) error {
	return sqlite.Create(ctx, f.path, sqlite.Options{Options: opt})
}

func (f file) Open(ctx context.Context, opt store.Options, wrap wrapper) (*store.Store, error) {
	return sqlite.Open(ctx, f.path, sqlite.Options{Options: opt, Ballast: -1, Wrap: wrap})
}

func (f file) Settles() bool         { return false }
func (f file) SQL() (*sql.DB, error) { return sql.Open("sqlite", f.path) }
func (f file) place() string         { return "sqlite://" + f.path }

func (f file) hold(ctx context.Context, wrap wrapper, fn func(store.Dialect) error) error {
	return sqlite.Hold(ctx, f.path, sqlite.Options{Ballast: -1, Wrap: wrap}, fn)
}

func (f file) fill(ctx context.Context, wrap wrapper, fn func(store.Dialect) error) error {
	return sqlite.Fill(ctx, f.path, sqlite.Options{Ballast: -1, Wrap: wrap}, fn)
}
