package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	sqlite "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/daypass/daypass/internal/store"
)

// backupID is in the header of backups in place of applicationID, "DaYB": no server opens one by mistake. A store
// that was put back without [Restore] would take a backup for the present, and the log of the store that was there
// before, if it was left lying, for the backup's own.
const backupID = 0x44615942

// headroom is what a copy leaves free on its disk, which may be that of the store.
const headroom = 16 << 20

// Copied is what a backup or a restore made.
type Copied struct {
	Facts store.Facts
	Bytes int64
	Aside string // where Restore moved the store that was there; empty where there was none
}

// Backup writes a copy of the store at path, as it is at one moment, to the new file to. The store may be open: its
// server goes on, and its log grows until the copy is written. The copy has mode 0600 and appears whole and durable,
// after it was verified, or not at all. watch, unless nil, is called now and then with how many bytes are written of
// about how many.
func Backup(ctx context.Context, path, to string, watch func(done, all int64)) (c Copied, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("back up the store %s to %s: %w", path, to, err)
		}
	}()
	if err := isFree(to); err != nil {
		return c, err
	}
	draft, err := newDraft(to)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, draft.discard()) }()
	if c.Facts, err = draft.fill(ctx, path, backupID, watch); err != nil {
		return c, err
	}
	c.Bytes, err = draft.place(to)
	return c, err
}

// Restoring is how [Restore] goes about it.
type Restoring struct {
	// Approve is called with what the copy holds, before anything is changed; an error ends it.
	Approve func(store.Facts) error
	// SetAside moves a store away that is there. Without it one that is there is [store.ErrExists].
	SetAside bool
	Watch    func(done, all int64) // as in [Backup]
}

// Restore puts a copy of the file from in the place of the store at path, which must not be open. The file may be a
// backup or the plain copy of a store, with its log beside it. The store knows from then on that it is older than
// the world: its next start opens a new epoch.
func Restore(ctx context.Context, from, path string, how Restoring) (c Copied, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("restore the store %s from %s: %w", path, from, err)
		}
	}()
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	lock, err := lockFile(path)
	if err != nil {
		return c, err
	}
	defer lock.Close()
	if err := isApart(from, path); err != nil {
		return c, err
	}
	if err := isFree(path); err != nil && !how.SetAside {
		return c, err
	}
	draft, err := newDraft(path)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, draft.discard()) }()
	if c.Facts, err = draft.fill(ctx, from, applicationID, how.Watch); err != nil {
		return c, err
	}
	if err := how.Approve(c.Facts); err != nil {
		return c, err
	}
	if err := draft.markRestored(ctx); err != nil {
		return c, err
	}
	if c.Aside, err = setAside(path, time.Now()); err != nil {
		return c, err
	}
	if c.Bytes, err = draft.place(path); err != nil && c.Aside != "" {
		err = fmt.Errorf("%w; the store that was there is %s now", err, c.Aside)
	}
	return c, err
}

// parts are the files of a store: the database, its log, and the log's index. The log must never be left without
// its database, nor beside another one.
var parts = [...]string{"", "-wal", "-shm"}

// isFree refuses a place where a store, or a part of one, lies.
func isFree(path string) error {
	for _, part := range parts {
		if _, err := os.Lstat(path + part); err == nil {
			return fmt.Errorf("%w: %s is there", store.ErrExists, path+part)
		} else if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w: %w", store.ErrAccess, err)
		}
	}
	return nil
}

// isApart refuses to restore a store from itself.
func isApart(from, path string) error {
	a, missing := os.Stat(from)
	b, err := os.Stat(path)
	if missing == nil && err == nil && os.SameFile(a, b) {
		return fmt.Errorf("%w: it is the store itself; move it away first, with its -wal file where there is one", store.ErrExists)
	}
	return nil
}

// setAside moves the parts of a store away and returns where. The database goes first: without it no server starts,
// so that none ever sees it without its log.
func setAside(path string, now time.Time) (aside string, err error) {
	aside = path + ".aside-" + now.UTC().Format("20060102T150405Z")
	moved := ""
	for _, part := range parts {
		err := os.Rename(path+part, aside+part)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("%w: set the present store aside: %w", store.ErrAccess, err)
		}
		if err == nil {
			moved = aside
		}
	}
	return moved, syncDir(filepath.Dir(path))
}

// inspectCopy refuses a database that is no store and, unless it may be one, a backup.
func inspectCopy(ctx context.Context, db *sql.DB, backup bool) error {
	var id uint32
	if err := db.QueryRowContext(ctx, "pragma application_id").Scan(&id); err != nil {
		return err
	}
	switch {
	case id == applicationID, id == backupID && backup:
		return nil
	case id == backupID:
		return store.ErrBackup
	}
	return fmt.Errorf("%w: it is an SQLite database of another application (id %#x)", store.ErrForeign, id)
}

// draft is a copy that is being made, beside the place where it will be.
type draft struct{ path string }

func newDraft(to string) (draft, error) {
	file, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".*.partial") // with mode 0600
	if err != nil {
		return draft{}, fmt.Errorf("%w: %w", store.ErrAccess, err)
	}
	return draft{file.Name()}, file.Close()
}

func (d draft) discard() error {
	return removeAll(d.path, d.path+"-journal", d.path+"-wal", d.path+"-shm")
}

// fill copies the store at path as it is at one moment, and verifies the copy.
func (d draft) fill(ctx context.Context, path string, id uint32, watch func(done, all int64)) (f store.Facts, err error) {
	if err := d.copy(ctx, path, id == applicationID, watch); err != nil {
		return f, explain(ctx, err)
	}
	if err := d.verify(ctx, id); err != nil {
		return f, explain(ctx, err)
	}
	err = d.idle(func(idle *store.Idle) error {
		return idle.View(ctx, func(rows store.Rows) (err error) {
			f, err = rows.Examine()
			return err
		})
	})
	return f, err
}

// markRestored makes the copy say that it is one, once its schema is that of this program.
func (d draft) markRestored(ctx context.Context) error {
	return d.idle(func(idle *store.Idle) error {
		if err := idle.Migrate(ctx); err != nil { // which refuses a copy of a newer daypass's store
			return err
		}
		return idle.Update(ctx, store.Rows.MarkRestored)
	})
}

// idle gives fn the store in the copy.
func (d draft) idle(fn func(*store.Idle) error) error {
	dialect, err := newDialect(d.path, Options{Ballast: -1}, nil)
	if err != nil {
		return err
	}
	idle := store.NewIdle(dialect)
	err = fn(idle)
	idle.Close()
	return errors.Join(err, dialect.Close())
}

// copy writes what one snapshot sees, row by row: what was deleted is not in it, nor the room it left.
func (d draft) copy(ctx context.Context, path string, backup bool, watch func(done, all int64)) (err error) {
	if info, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", store.ErrAbsent, err)
	} else if err != nil {
		return fmt.Errorf("%w: %w", store.ErrAccess, err)
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: it is not a file", store.ErrForeign)
	}
	source, err := openRaw(path, "ro", cacheSize(writerCache))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	if err := inspectCopy(ctx, source, backup); err != nil {
		return err
	}
	var pages, free, size int64
	for pragma, into := range map[string]*int64{"page_count": &pages, "freelist_count": &free, "page_size": &size} {
		if err := source.QueryRowContext(ctx, "pragma "+pragma).Scan(into); err != nil {
			return err
		}
	}
	all := (pages - free) * size
	if room, known := freeRoom(filepath.Dir(d.path)); known && room < all+headroom {
		return fmt.Errorf("%w: %d MiB are free in %s and %d MiB are needed", errNoRoom, room>>20, filepath.Dir(d.path), (all+headroom)>>20)
	}
	defer d.watch(all, watch)()
	_, err = source.ExecContext(ctx, "vacuum into $1", d.path)
	return err
}

// watch tells how far the copy is until the function that it returns is called.
func (d draft) watch(all int64, watch func(done, all int64)) (stop func()) {
	if watch == nil {
		return func() {}
	}
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if info, err := os.Stat(d.path); err == nil {
				watch(min(info.Size(), all), all)
			}
		}
	}()
	return func() { close(done); <-gone }
}

// verify makes sure that the copy is a sound database, and says in its header what it is.
func (d draft) verify(ctx context.Context, id uint32) (err error) {
	db, err := openRaw(d.path, "rw", cacheSize(writerCache), "synchronous(full)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "pragma application_id = "+strconv.FormatUint(uint64(id), 10)); err != nil {
		return err
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "pragma integrity_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", store.ErrDamaged, verdict)
	}
	return nil
}

// place gives the draft its name, which nobody may have taken meanwhile, and returns its size.
func (d draft) place(to string) (size int64, err error) {
	file, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	info, err := file.Stat()
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return 0, err
	}
	// Link and not rename: it refuses to replace what someone else has put there meanwhile.
	switch err := os.Link(d.path, to); {
	case errors.Is(err, os.ErrExist):
		return 0, fmt.Errorf("%w: %s is there", store.ErrExists, to)
	case err != nil: // a file system without links
		if err := errors.Join(isFree(to), os.Rename(d.path, to)); err != nil {
			return 0, err
		}
	}
	return info.Size(), syncDir(filepath.Dir(to))
}

func openRaw(path, mode string, pragmas ...string) (*sql.DB, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	query := url.Values{"mode": {mode}, "_pragma": append([]string{"busy_timeout(10000)"}, pragmas...)}
	c, err := sqlite.NewConnector((&url.URL{Scheme: "file", Path: absolute, RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(1)
	return db, nil
}

var errNoRoom = errors.New("there is no room")

// explain says what an error of the database means for a copy.
func explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", ctx.Err())
	}
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_FULL:
		return fmt.Errorf("%w: %w", errNoRoom, err)
	case lib.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", store.ErrForeign, err)
	case lib.SQLITE_CORRUPT:
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	case lib.SQLITE_CANTOPEN, lib.SQLITE_READONLY, lib.SQLITE_PERM, lib.SQLITE_AUTH:
		return fmt.Errorf("%w: %w; run it as the user that runs daypass", store.ErrAccess, err)
	}
	return err
}
