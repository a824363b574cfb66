package installation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/postgres"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/secret"
)

// storage is where a store is kept: a file of our own, or a database that several servers share.
type storage interface {
	// name is the store as it may be shown.
	name() string
	// exists reports whether there is a store; an error where nobody can tell.
	exists(ctx context.Context) (bool, error)
	create(ctx context.Context, opt store.Options) error
	open(ctx context.Context, opt store.Options) (*store.Store, error)
	// readSealed reads a sealed value of a store that this process has not opened.
	readSealed(ctx context.Context, name string) ([]byte, error)
	// reseal changes the sealed values of a store that nobody has open.
	reseal(ctx context.Context, change func(map[string][]byte) error) error
	// hold gives fn the store without opening it, and fill an empty database in which fn makes one.
	hold(ctx context.Context, fn func(store.Dialect) error) error
	fill(ctx context.Context, fn func(store.Dialect) error) error
}

// storageOf is what the field store of a configuration names.
func storageOf(cfg config.Config) (storage, error) {
	if config.InDatabase(cfg.Store) {
		return databaseOf(cfg)
	}
	path, err := config.StorePath(cfg.Store)
	return file{path}, err
}

// file is a store in a SQLite file.
type file struct{ path string }

func (f file) name() string { return f.path }

func (f file) exists(context.Context) (bool, error) {
	_, err := os.Lstat(f.path)
	return err == nil, nil
}

func (f file) create(ctx context.Context, opt store.Options) error {
	return f.fill(ctx, func(d store.Dialect) error { return store.Create(ctx, d, opt) })
}

func (f file) open(ctx context.Context, opt store.Options) (*store.Store, error) {
	return sqlite.Open(ctx, f.path, sqlite.Options{Options: opt})
}

func (f file) readSealed(ctx context.Context, name string) ([]byte, error) {
	return sqlite.ReadSealed(ctx, f.path, name)
}

func (f file) reseal(ctx context.Context, change func(map[string][]byte) error) error {
	return sqlite.Reseal(ctx, f.path, sqlite.Options{}, change)
}

func (f file) hold(ctx context.Context, fn func(store.Dialect) error) error {
	return sqlite.Hold(ctx, f.path, sqlite.Options{}, fn)
}

func (f file) fill(ctx context.Context, fn func(store.Dialect) error) error {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return fmt.Errorf("make the directory of the store: %w", err)
	}
	return sqlite.Fill(ctx, f.path, sqlite.Options{}, fn)
}

// database is a store in a PostgreSQL database.
type database struct {
	url string
	opt postgres.Options
}

// databaseOf reads what the connection needs: the files that daypass.yaml names.
func databaseOf(cfg config.Config) (storage, error) {
	d := database{url: cfg.Store}
	if err := postgres.Check(cfg.Store); err != nil {
		return d, err
	}
	password, err := config.ReadFile("store_password", cfg.StorePassword)
	if err != nil {
		return d, err
	}
	d.opt.Password = secret.New(strings.TrimRight(string(password), "\r\n"))
	d.opt.CA, err = config.ReadFile("store_ca", cfg.StoreCA)
	return d, err
}

func (d database) name() string { return postgres.Redacted(d.url) }

func (d database) with(opt store.Options) postgres.Options {
	all := d.opt
	all.Options = opt
	return all
}

func (d database) exists(ctx context.Context) (bool, error) {
	_, err := postgres.ReadSealed(ctx, d.url, d.opt, sealedLedgerKey)
	if errors.Is(err, store.ErrAbsent) {
		return false, nil
	}
	return err == nil, err
}

func (d database) create(ctx context.Context, opt store.Options) error {
	return postgres.Create(ctx, d.url, d.with(opt))
}

func (d database) open(ctx context.Context, opt store.Options) (*store.Store, error) {
	return postgres.Open(ctx, d.url, d.with(opt))
}

func (d database) readSealed(ctx context.Context, name string) ([]byte, error) {
	return postgres.ReadSealed(ctx, d.url, d.opt, name)
}

func (d database) reseal(ctx context.Context, change func(map[string][]byte) error) error {
	return postgres.Reseal(ctx, d.url, d.opt, change)
}

func (d database) hold(ctx context.Context, fn func(store.Dialect) error) error {
	return postgres.Hold(ctx, d.url, d.opt, fn)
}

func (d database) fill(ctx context.Context, fn func(store.Dialect) error) error {
	return postgres.Fill(ctx, d.url, d.opt, fn)
}
