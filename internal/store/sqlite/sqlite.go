// Package sqlite keeps the store in one SQLite file: write-ahead log, full sync, one owner.
//
// It promises that an answered update survives the loss of power, that two processes never own one file, and that
// a file which is not a sound store of this version is refused with what to do about it. It holds no statement of
// the store itself: those are in package store, the same for every database.
package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	sqlite "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/daypass/daypass/internal/store"
)

// Options are the store's options and those of the file.
type Options struct {
	store.Options

	// Ballast is how many bytes are kept aside, in the file <path>.ballast, for the ends of leases on a full disk.
	// 0 is 16 MiB; a negative number is none.
	Ballast int64

	// Wrap goes around every connection of the database, for tests that inject faults.
	Wrap func(driver.Connector) driver.Connector
}

const (
	defaultBallast = 16 << 20

	// applicationID is in the header of our files: "DaYp".
	applicationID = 0x44615970

	// minVersion is the first SQLite without the WAL-reset bug, which could corrupt a database.
	minVersion = "3.51.3"
)

// The page caches, in KiB: small, because memory must not grow with the store. The operating system caches the
// file beside them.
const (
	writerCache = 8 << 10
	readerCache = 2 << 10
)

// Create makes an empty store at path, for `daypass init`. It appears whole or not at all. A file that is there
// already is [store.ErrExists].
func Create(ctx context.Context, path string, opt Options) error {
	return Fill(ctx, path, opt, func(d store.Dialect) error { return store.Create(ctx, d, opt.Options) })
}

// Fill is Create for a store that fn makes in the empty database that it gets.
func Fill(ctx context.Context, path string, opt Options, fn func(store.Dialect) error) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("create store %s: %w; it is left as it is", path, store.ErrExists)
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("create store %s: %w: %w", path, store.ErrAccess, err)
	}
	lock, err := lockFile(path)
	if err != nil {
		return fmt.Errorf("create store %s: %w", path, err)
	}
	defer lock.Close()
	draft := path + ".new"
	if err := removeAll(draft, draft+"-wal", draft+"-shm", draft+"-journal"); err != nil {
		return fmt.Errorf("create store %s: %w: %w", path, store.ErrAccess, err)
	}
	// SQLite would make the file with the mode of its umask.
	file, err := os.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("create store %s: %w: %w", path, store.ErrAccess, err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("create store %s: %w", path, err)
	}
	if err := fill(ctx, draft, opt, fn); err != nil {
		return errors.Join(fmt.Errorf("create store %s: %w", path, err), removeAll(draft, draft+"-wal", draft+"-shm"))
	}
	// Link and not rename: it refuses to replace what someone else has put there meanwhile.
	if err := os.Link(draft, path); err != nil {
		return errors.Join(fmt.Errorf("create store %s: %w", path, err), os.Remove(draft))
	}
	if err := os.Remove(draft); err != nil {
		return fmt.Errorf("create store %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func removeAll(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// fill has fn make the store in an empty file and closes it, so that everything is in that one file.
func fill(ctx context.Context, path string, opt Options, fn func(store.Dialect) error) (err error) {
	d, err := newDialect(path, opt, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if _, err := d.writer.ExecContext(ctx, "pragma application_id = "+strconv.Itoa(applicationID)); err != nil {
		return err
	}
	return fn(d)
}

// Open opens the store at path and becomes its owner until Close. What is wrong with it is told as one of the
// errors of package store.
func Open(ctx context.Context, path string, opt Options) (*store.Store, error) {
	s, err := open(ctx, path, opt)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return s, nil
}

func open(ctx context.Context, path string, opt Options) (*store.Store, error) {
	d, err := own(path, opt)
	if err != nil {
		return nil, err
	}
	if err := d.checkVersion(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := d.TakeRoom(); err != nil && opt.Log != nil {
		opt.Log.Warn("no room for the ballast file: a full disk will also stop the ends of leases", "err", err)
	}
	return store.Open(ctx, d, opt.Options)
}

// dialect is SQLite on one file.
type dialect struct {
	path    string
	ballast int64
	lock    *os.File // nil while the store is being created
	writer  *sql.DB
	reader  *sql.DB
}

var _ store.Dialect = (*dialect)(nil)

func newDialect(path string, opt Options, lock *os.File) (*dialect, error) {
	d := &dialect{path: path, ballast: opt.Ballast, lock: lock}
	if d.ballast == 0 {
		d.ballast = defaultBallast
	}
	writer, err := connector(path, opt, "synchronous(full)", "journal_mode(wal)", "wal_autocheckpoint(4000)",
		"journal_size_limit(67108864)", cacheSize(writerCache), "temp_store(memory)")
	if err != nil {
		return nil, err
	}
	reader, err := connector(path, opt, "query_only(1)", cacheSize(readerCache), "temp_store(memory)")
	if err != nil {
		return nil, err
	}
	d.writer, d.reader = sql.OpenDB(writer), sql.OpenDB(reader)
	d.writer.SetMaxOpenConns(1)
	return d, nil
}

func cacheSize(kib int) string { return "cache_size(-" + strconv.Itoa(kib) + ")" }

func connector(path string, opt Options, pragmas ...string) (driver.Connector, error) {
	query := url.Values{"mode": {"rw"}, "_pragma": append([]string{"busy_timeout(10000)"}, pragmas...)}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	c, err := sqlite.NewConnector((&url.URL{Scheme: "file", Path: absolute, RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	if opt.Wrap != nil {
		c = opt.Wrap(c)
	}
	return c, nil
}

// checkVersion refuses an engine with a known way to lose data. Drivers of other versions may be linked in.
func (d *dialect) checkVersion(ctx context.Context) error {
	var version string
	if err := d.reader.QueryRowContext(ctx, "select sqlite_version()").Scan(&version); err != nil {
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	if older(version, minVersion) {
		return fmt.Errorf("%w: SQLite %s can corrupt a database; at least %s is needed", store.ErrTooOld, version, minVersion)
	}
	return nil
}

// older reports whether version a comes before version b, both of numbers and dots.
func older(a, b string) bool {
	have, want := strings.Split(a, "."), strings.Split(b, ".")
	for i := range want {
		if i == len(have) {
			return true
		}
		h, _ := strconv.Atoi(have[i]) // what is no number counts as 0, the oldest
		w, _ := strconv.Atoi(want[i])
		if h != w {
			return h < w
		}
	}
	return false
}

func (d *dialect) Name() string     { return "sqlite3" }
func (d *dialect) Writer() *sql.DB  { return d.writer }
func (d *dialect) Reader() *sql.DB  { return d.reader }
func (d *dialect) Begin() string    { return "begin immediate" }
func (d *dialect) Sole() bool       { return true }
func (d *dialect) Snapshot() string { return "begin" }
func (d *dialect) Clock() string    { return "cast(unixepoch('subsec') * 1000000 as integer)" }

// Send has nowhere to send to.
func (d *dialect) Send(ctx context.Context, _ *sql.Conn, statements []store.Statement,
	exec func(context.Context, string, ...any) (sql.Result, error)) ([]int64, error) {
	return store.OneByOne(ctx, statements, exec)
}

// GoOn has nothing to do: a new row gets the number after the largest.
func (d *dialect) GoOn(_, _ string) string { return "" }

// Alone has nobody to keep out: a file has one owner.
func (d *dialect) Alone(_ context.Context, fn func() error) error { return fn() }

func (d *dialect) Schema(text string) string {
	return strings.NewReplacer("BYTES", "BLOB", "SERIAL_KEY", "INTEGER PRIMARY KEY", "POSITION_KEY", "INTEGER PRIMARY KEY").Replace(text)
}

// Classify reads SQLite's result codes. What it does not know is unclear: an I/O error at a commit may come after
// the commit record has reached the disk.
func (d *dialect) Classify(err error) store.Failure {
	refused, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return store.Unclear
	}
	switch refused.Code() & 0xff {
	case lib.SQLITE_FULL:
		// Said of a write to the log that comes before the commit record is complete.
		return store.Full
	case lib.SQLITE_CONSTRAINT, lib.SQLITE_ERROR, lib.SQLITE_MISMATCH, lib.SQLITE_RANGE, lib.SQLITE_TOOBIG, lib.SQLITE_MISUSE:
		return store.Refused
	case lib.SQLITE_READONLY, lib.SQLITE_BUSY, lib.SQLITE_LOCKED, lib.SQLITE_CANTOPEN, lib.SQLITE_PERM, lib.SQLITE_AUTH:
		return store.Undone
	}
	return store.Unclear
}

// Close closes the file, then gives up its ownership.
func (d *dialect) Close() error {
	err := errors.Join(d.reader.Close(), d.writer.Close())
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
	}
	return err
}
