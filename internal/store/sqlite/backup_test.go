package sqlite_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/internal/store/storetest"
)

func approve(store.Facts) error { return nil }

// names are the files of a directory.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

// place is a store's file in a directory of its own.
func place(t *testing.T) file {
	return file{path: filepath.Join(t.TempDir(), "daypass.db"), ballast: 1 << 20}
}

func TestABackupOfABusyStoreIsWholeAndKeepsTheServerGoing(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	s := storetest.Serve(t, file, nil)
	known := storetest.Insert(t, s.Store, storetest.NewLease("reader", "db"))[0]
	var busy errgroup.Group
	ctx, stop := context.WithCancel(t.Context())
	for range 8 {
		busy.Go(func() error {
			for ctx.Err() == nil {
				if err := storetest.Acquire(context.WithoutCancel(t.Context()), s.Store); err != nil {
					return err
				}
			}
			return nil
		})
	}
	to := filepath.Join(t.TempDir(), "backup")
	made, err := sqlite.Backup(t.Context(), file.path, to, nil)
	stop()
	if err := errors.Join(err, busy.Wait()); err != nil {
		t.Fatal(err)
	}
	if got := names(t, filepath.Dir(to)); !slices.Equal(got, []string{"backup"}) {
		t.Errorf("beside the backup lie %v", got)
	}
	if info, err := os.Stat(to); err != nil || info.Mode() != 0o600 || info.Size() != made.Bytes {
		t.Errorf("the backup is %v: %v", info, err)
	}
	if made.Facts.Instance != s.Instance() || made.Facts.Live == 0 || made.Facts.Key != storetest.Signer(t).VerifierKey() {
		t.Errorf("the backup tells %+v", made.Facts)
	}

	back := place(t)
	restored, err := sqlite.Restore(t.Context(), to, back.path, sqlite.Restoring{Approve: approve})
	if err != nil {
		t.Fatal(err)
	}
	if restored.Facts.Entries != made.Facts.Entries || restored.Aside != "" {
		t.Errorf("restored %+v from %+v", restored, made)
	}
	again := storetest.Serve(t, back, nil)
	storetest.View(t, again.Store, func(tx *store.Tx) error { _, err := tx.Lease(known.ID); return err })
	audit(t, back, again.Store)
}

func TestAStartFromABackupOpensOneEpoch(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	s := storetest.Serve(t, file, nil)
	before := s.Epoch()
	storetest.View(t, s.Store, func(tx *store.Tx) error {
		if at, err := tx.RestoredAt(); err != nil || !at.IsZero() {
			t.Errorf("a store that was never restored says it was at %v: %v", at, err)
		}
		return nil
	})
	to := filepath.Join(t.TempDir(), "backup")
	if _, err := sqlite.Backup(t.Context(), file.path, to, nil); err != nil {
		t.Fatal(err)
	}
	back := place(t)
	if _, err := sqlite.Restore(t.Context(), to, back.path, sqlite.Restoring{Approve: approve}); err != nil {
		t.Fatal(err)
	}
	for start := range 2 {
		again := storetest.Serve(t, back, nil)
		if again.Epoch() != before+1 {
			t.Errorf("start %d after the restore has epoch %d, the backup had %d", start, again.Epoch(), before)
		}
		storetest.View(t, again.Store, func(tx *store.Tx) error {
			if at, err := tx.RestoredAt(); err != nil || at.IsZero() {
				t.Errorf("a restored store says it was so at %v: %v", at, err)
			}
			return nil
		})
		if err := again.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// A backup in the store's place would be taken for the present, and a log that lies there for its own.
func TestABackupIsNotOpenedBeforeItIsRestored(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	to := filepath.Join(t.TempDir(), "backup")
	if _, err := sqlite.Backup(t.Context(), file.path, to, nil); err != nil {
		t.Fatal(err)
	}
	_, err := sqlite.Open(t.Context(), to, sqlite.Options{Options: store.Options{Signer: storetest.Signer(t)}})
	if !errors.Is(err, store.ErrBackup) || !strings.Contains(err.Error(), "daypass store restore") {
		t.Errorf("a server opens a backup: %v", err)
	}
	if _, err := sqlite.Backup(t.Context(), to, to+"2", nil); !errors.Is(err, store.ErrBackup) {
		t.Errorf("a backup of a backup: %v", err)
	}
}

// What kill -9 leaves is a database with a log; the newest commits are in the log alone.
func TestABackupOfAKilledStoreHasWhatItsLogHolds(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	s := storetest.Serve(t, file, nil)
	newest := storetest.Insert(t, s.Store, storetest.NewLease("reader", "db"))[0]
	killed := place(t)
	for _, part := range []string{"", "-wal"} {
		text, err := os.ReadFile(file.path + part)
		if err == nil {
			err = os.WriteFile(killed.path+part, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(t.TempDir(), "backup")
	if _, err := sqlite.Backup(t.Context(), killed.path, to, nil); err != nil {
		t.Fatal(err)
	}
	// The plain copy with its log is restored as well, and a log that was left behind is not taken for the backup's.
	for from, aside := range map[string]bool{to: true, killed.path: false} {
		back := place(t)
		if err := os.WriteFile(back.path+"-wal", []byte("of another store"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := sqlite.Restore(t.Context(), from, back.path, sqlite.Restoring{Approve: approve}); !errors.Is(err, store.ErrExists) {
			t.Errorf("restored beside a log: %v", err)
		}
		done, err := sqlite.Restore(t.Context(), from, back.path, sqlite.Restoring{Approve: approve, SetAside: true})
		if err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadFile(done.Aside + "-wal"); err != nil || string(left) != "of another store" {
			t.Errorf("the log was set aside as %q: %v (aside %v)", left, err, aside)
		}
		again := storetest.Serve(t, back, nil)
		storetest.View(t, again.Store, func(tx *store.Tx) error { _, err := tx.Lease(newest.ID); return err })
		audit(t, back, again.Store)
		if err := again.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestABackupThatCannotBeMadeLeavesNothing(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	s := storetest.Serve(t, file, nil)
	for range 50 {
		if err := storetest.Acquire(context.WithoutCancel(t.Context()), s.Store); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile(file.path)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx     context.Context
		prepare func(t *testing.T, path, to string)
		want    error
	}{
		"no store":               {t.Context(), func(t *testing.T, path, _ string) { os.Remove(path) }, store.ErrAbsent},
		"not a database":         {t.Context(), func(t *testing.T, path, _ string) { os.WriteFile(path, make([]byte, 8192), 0o600) }, store.ErrForeign},
		"a file in the place":    {t.Context(), func(t *testing.T, _, to string) { os.WriteFile(to, []byte("mine"), 0o600) }, store.ErrExists},
		"no directory":           {t.Context(), func(t *testing.T, _, to string) { os.Remove(filepath.Dir(to)) }, store.ErrAccess},
		"an interrupt":           {ended, func(t *testing.T, _, _ string) {}, context.Canceled},
		"a store with bad pages": {t.Context(), func(t *testing.T, path, _ string) { spoil(t, path) }, store.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			from := place(t)
			if err := os.WriteFile(from.path, sound, 0o600); err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(t.TempDir(), "backup")
			c.prepare(t, from.path, to)
			if _, err := sqlite.Backup(c.ctx, from.path, to, nil); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if _, err := os.Stat(filepath.Dir(to)); err != nil {
				return
			}
			if left := names(t, filepath.Dir(to)); len(left) > 1 || len(left) == 1 && name != "a file in the place" {
				t.Errorf("it left %v", left)
			}
		})
	}
}

// spoil overwrites pages in the middle of a database.
func spoil(t *testing.T, path string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		_, err = file.WriteAt(slices.Repeat([]byte{0xa5}, 8*4096), 10*4096)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestARestoreThatIsRefusedChangesNothing(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	to := filepath.Join(t.TempDir(), "backup")
	if _, err := sqlite.Backup(t.Context(), file.path, to, nil); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(file.path)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(store.Facts) error { return store.ErrWrongKey }
	for name, c := range map[string]struct {
		from string
		how  sqlite.Restoring
		want error
	}{
		"a store is there":    {to, sqlite.Restoring{Approve: approve}, store.ErrExists},
		"the wrong key":       {to, sqlite.Restoring{Approve: refuse, SetAside: true}, store.ErrWrongKey},
		"no backup":           {to + "2", sqlite.Restoring{Approve: approve, SetAside: true}, store.ErrAbsent},
		"the store by itself": {file.path, sqlite.Restoring{Approve: approve, SetAside: true}, store.ErrExists},
	} {
		if _, err := sqlite.Restore(t.Context(), c.from, file.path, c.how); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	after, err := os.ReadFile(file.path)
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("the store has changed: %v", err)
	}
	s := storetest.Serve(t, file, nil)
	_, err = sqlite.Restore(t.Context(), to, file.path, sqlite.Restoring{Approve: approve, SetAside: true})
	if !errors.Is(err, store.ErrInUse) {
		t.Errorf("beside a server that runs: %v", err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if left := names(t, filepath.Dir(file.path)); !slices.Equal(left, []string{"daypass.db", "daypass.db.ballast", "daypass.db.lock"}) {
		t.Errorf("the refusals left %v", left)
	}
}
