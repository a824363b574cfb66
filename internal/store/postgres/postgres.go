// Package postgres keeps the store in a PostgreSQL database that several processes share.
//
// It promises that an answered update survives as the server's own commits do (it refuses to work with asynchronous
// ones), that a server which cannot keep the store (too old, a standby, another encoding, another schema) is refused
// with what to do about it, and that nothing but its settings decides where it connects. How several processes stay
// one is in package store; it holds no statement of the store itself.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
)

// Options are the store's options and those of the connections.
type Options struct {
	store.Options

	Password secret.Text // empty where the server knows us otherwise
	CA       []byte      // certificates of the server's authority, PEM; those of the system where it is empty

	// Wrap goes around every connection of the database, for tests that inject faults.
	Wrap func(driver.Connector) driver.Connector
}

// readerConnections is how many views a process can have at a time.
const readerConnections = 4

// Create makes an empty store in the database, for `daypass init`. One that holds a store already is
// [store.ErrExists] and is left as it is.
func Create(ctx context.Context, url string, opt Options) error {
	return Fill(ctx, url, opt, func(d store.Dialect) error { return store.Create(ctx, d, opt.Options) })
}

// Fill is Create for a store that fn makes in the database. What it gets may hold the beginnings of a store that
// was never finished.
func Fill(ctx context.Context, url string, opt Options, fn func(store.Dialect) error) error {
	d, err := open(ctx, url, opt)
	if err != nil {
		return fmt.Errorf("create store %s: %w", Redacted(url), err)
	}
	err = d.Alone(ctx, func() error {
		found, err := d.holdsStore(ctx)
		if err == nil && found {
			err = fmt.Errorf("%w; it is left as it is", store.ErrExists)
		}
		if err != nil {
			return err
		}
		return fn(unguarded{d})
	})
	if err = errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("create store %s: %w", Redacted(url), err)
	}
	return nil
}

// unguarded is a dialect whose caller is alone already.
type unguarded struct{ *dialect }

// Alone runs fn.
func (unguarded) Alone(_ context.Context, fn func() error) error { return fn() }

// Hold gives fn the store in the database without opening it; meanwhile no server can start with it. Whether one runs
// is for fn to find out.
func Hold(ctx context.Context, url string, opt Options, fn func(store.Dialect) error) error {
	d, err := existing(ctx, url, opt)
	if err != nil {
		return fmt.Errorf("open store %s: %w", Redacted(url), err)
	}
	return errors.Join(d.Alone(ctx, func() error { return fn(unguarded{d}) }), d.Close())
}

// Open opens the store in the database, as one of the processes that share it. What is wrong with it is told as one
// of the errors of package store.
func Open(ctx context.Context, url string, opt Options) (*store.Store, error) {
	d, err := existing(ctx, url, opt)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", Redacted(url), err)
	}
	s, err := store.Open(ctx, d, opt.Options)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", Redacted(url), err)
	}
	return s, nil
}

// ReadSealed reads a sealed value of the store in the database.
func ReadSealed(ctx context.Context, url string, opt Options, name string) (ciphertext []byte, err error) {
	d, err := existing(ctx, url, opt)
	if err == nil {
		ciphertext, err = store.ReadSealed(ctx, d, name)
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", Redacted(url), err)
	}
	return ciphertext, nil
}

// Reseal replaces sealed values of the store in the database as [store.Reseal] does; no server may have it open.
func Reseal(ctx context.Context, url string, opt Options, change func(ciphertexts map[string][]byte) error) error {
	d, err := existing(ctx, url, opt)
	if err == nil {
		err = store.Reseal(ctx, d, change)
	}
	if err != nil {
		return fmt.Errorf("reseal store %s: %w", Redacted(url), err)
	}
	return nil
}

// existing opens a database that holds a store.
func existing(ctx context.Context, url string, opt Options) (*dialect, error) {
	d, err := open(ctx, url, opt)
	if err != nil {
		return nil, err
	}
	found, err := d.holdsStore(ctx)
	if err == nil && !found {
		err = fmt.Errorf("%w; make one with: daypass init", store.ErrAbsent)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// dialect is one database at a PostgreSQL server.
type dialect struct {
	writer *sql.DB
	reader *sql.DB
}

var _ store.Dialect = (*dialect)(nil)

func open(ctx context.Context, url string, opt Options) (*dialect, error) {
	config, err := configure(url, opt)
	if err != nil {
		return nil, err
	}
	d := &dialect{writer: pool(config, opt), reader: pool(forViews(config), opt)}
	d.writer.SetMaxOpenConns(2) // the writer's own, and one for migrations
	d.reader.SetMaxOpenConns(readerConnections)
	if err := d.check(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func pool(config *pgx.ConnConfig, opt Options) *sql.DB {
	connector := stdlib.GetConnector(*config, stdlib.OptionAfterConnect(settle))
	if opt.Wrap != nil {
		connector = opt.Wrap(connector)
	}
	return sql.OpenDB(connector)
}

func (d *dialect) Name() string     { return "postgres" }
func (d *dialect) Writer() *sql.DB  { return d.writer }
func (d *dialect) Reader() *sql.DB  { return d.reader }
func (d *dialect) Begin() string    { return "begin" }
func (d *dialect) Snapshot() string { return "begin isolation level repeatable read read only" }
func (d *dialect) Sole() bool       { return false }

func (d *dialect) Clock() string {
	return "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
}

func (d *dialect) Schema(text string) string {
	return strings.NewReplacer("-- +goose Up\n", "-- +goose Up\nSET LOCAL statement_timeout = 0;\n", "BYTES", "BYTEA", "SERIAL_KEY", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
		"POSITION_KEY", "BIGINT PRIMARY KEY").Replace(text)
}

// GoOn sets the sequence behind an identity column.
func (d *dialect) GoOn(table, column string) string {
	return fmt.Sprintf("select setval(pg_get_serial_sequence('%[1]s', '%[2]s'), coalesce(max(%[2]s), 0) + 1, false) from %[1]s", table, column)
}

// The server has its own room; nothing is kept aside for it here.
func (d *dialect) GiveRoom() bool  { return false }
func (d *dialect) TakeRoom() error { return nil }

// migrationLock is the advisory lock of those that change the schema: "DaYp" and the schema.
const migrationLock = 0x44615970 << 32

// Alone holds a lock of the session while fn runs.
func (d *dialect) Alone(ctx context.Context, fn func() error) (err error) {
	conn, err := d.reader.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }() // the lock ends with the session at the latest
	// Another's change of a big store takes as long as it takes.
	if _, err := conn.ExecContext(ctx, "set statement_timeout = 0; set lock_timeout = 0"); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "select pg_advisory_lock(hashtextextended(current_schema(), $1))", int64(migrationLock)); err != nil {
		return fmt.Errorf("wait for others to change the schema: %w", err)
	}
	defer func() {
		_, undo := conn.ExecContext(context.WithoutCancel(ctx), "select pg_advisory_unlock_all()")
		_, reset := conn.ExecContext(context.WithoutCancel(ctx), "reset statement_timeout; reset lock_timeout")
		err = errors.Join(err, undo, reset)
	}()
	return fn()
}

// Close closes the connections.
func (d *dialect) Close() error { return errors.Join(d.reader.Close(), d.writer.Close()) }

// Classify reads the server's condition codes (PostgreSQL, appendix A). What does not come from the server is
// unclear: a connection may break after the commit.
func (d *dialect) Classify(err error) store.Failure {
	refused, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || refused.Severity == "FATAL" || refused.Severity == "PANIC" || len(refused.Code) != 5 {
		return store.Unclear
	}
	switch refused.Code[:2] {
	case "22", "23", "42", "21", "54": // data, constraints, syntax and rights, cardinality, limits
		return store.Refused
	}
	switch refused.Code {
	case "53100": // disk full
		return store.Full
	case "40003": // statement completion unknown
		return store.Unclear
	}
	return store.Undone
}
