package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/storetest"
)

func TestAFileThatIsNotASoundStoreIsRefusedWithWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, path string)
		want  error
		hint  string
	}{
		"absent":             {func(t *testing.T, path string) { remove(t, path) }, store.ErrAbsent, "daypass init"},
		"readable by others": {func(t *testing.T, path string) { chmod(t, path, 0o644) }, store.ErrAccess, "chmod 600"},
		"read only":          {func(t *testing.T, path string) { chmod(t, path, 0o400) }, store.ErrAccess, "chmod 600"},
		"empty":              {func(t *testing.T, path string) { truncate(t, path, 0) }, store.ErrDamaged, "daypass init"},
		"cut in its header":  {func(t *testing.T, path string) { truncate(t, path, 50) }, store.ErrDamaged, "restore a backup"},
		"cut in half":        {func(t *testing.T, path string) { truncate(t, path, 40_000) }, store.ErrDamaged, "restore a backup"},
		"a directory": {func(t *testing.T, path string) {
			remove(t, path)
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, store.ErrForeign, "not a file"},
		"text": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("not a database\n", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, store.ErrForeign, "name another file"},
		"a database of another application": {func(t *testing.T, path string) { edit(t, path, `pragma application_id = 7`) }, store.ErrForeign, "name another file"},
		"a newer schema": {func(t *testing.T, path string) {
			edit(t, path, `insert into goose_db_version (version_id, is_applied) values (9999, 1)`)
		}, store.ErrNewer, "newer daypass"},
		"without an instance":       {func(t *testing.T, path string) { edit(t, path, `delete from meta where name = 'instance'`) }, store.ErrForeign, "instance"},
		"a ledger without its end":  {func(t *testing.T, path string) { edit(t, path, `delete from ledger_leaves where position > 0`) }, store.ErrDamaged, "restore a backup"},
		"a ledger with another end": {func(t *testing.T, path string) { edit(t, path, `update ledger_leaves set leaf = 'x'`) }, store.ErrDamaged, "restore a backup"},
		"a ledger with another tree": {func(t *testing.T, path string) {
			edit(t, path, `update ledger_tiles set hashes = zeroblob(length(hashes))`)
		}, store.ErrDamaged, "restore a backup"},
		"a ledger without tiles":      {func(t *testing.T, path string) { edit(t, path, `delete from ledger_tiles`) }, store.ErrDamaged, "restore a backup"},
		"a ledger with a longer head": {func(t *testing.T, path string) { edit(t, path, `update ledger_head set size = size + 1`) }, store.ErrDamaged, "restore a backup"},
		"a checkpoint that nobody signed": {func(t *testing.T, path string) {
			edit(t, path, `update ledger_head set checkpoint = replace(checkpoint, 'daypass.test/ledger', 'daypass.test/other')`)
		}, store.ErrDamaged, "restore a backup"},
	} {
		t.Run(name, func(t *testing.T) {
			file := newFile(t)
			storetest.Create(t, file)
			s := storetest.Serve(t, file, nil)
			storetest.Insert(t, s.Store, storetest.NewLease("reader", "db"))
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			c.spoil(t, file.path)
			_, err := file.Open(t.Context(), store.Options{Signer: storetest.Signer(t)}, nil)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.hint) || !strings.Contains(err.Error(), file.path) {
				t.Errorf("got %v; want %v with %q", err, c.want, c.hint)
			}
			// A refusal must give the file back.
			if _, again := file.Open(t.Context(), store.Options{Signer: storetest.Signer(t)}, nil); errors.Is(again, store.ErrInUse) {
				t.Errorf("after the refusal: %v", again)
			}
		})
	}
}

func TestAStoreHasOneOwner(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	s := storetest.Serve(t, file, nil)
	link := file
	link.path = filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(file.path, link.path); err != nil {
		t.Fatal(err)
	}
	for _, again := range []storetest.Database{file, link} {
		if _, err := again.Open(t.Context(), store.Options{Signer: storetest.Signer(t)}, nil); !errors.Is(err, store.ErrInUse) {
			t.Errorf("opened twice: %v", err)
		}
	}
	storetest.Insert(t, s.Store, storetest.NewLease("reader", "db"))
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	storetest.Serve(t, link, nil)
}

func TestCreateReplacesNothing(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	before, err := os.ReadFile(file.path)
	if err != nil {
		t.Fatal(err)
	}
	err = file.Create(t.Context(), store.Options{Signer: storetest.Signer(t)})
	after, readErr := os.ReadFile(file.path)
	if !errors.Is(err, store.ErrExists) || readErr != nil || string(before) != string(after) {
		t.Errorf("created over a store: %v", err)
	}
}

func TestCreateIsAllOrNothing(t *testing.T) {
	file := newFile(t)
	if err := os.WriteFile(file.path+".new", []byte("what a crash left"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := file.Create(ctx, store.Options{Signer: storetest.Signer(t)}); err == nil {
		t.Fatal("created with a context that had ended")
	}
	if _, err := os.Stat(file.path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("half a store was left: %v", err)
	}
	storetest.Create(t, file)
	info, err := os.Stat(file.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the store has mode %v: %v", info.Mode(), err)
	}
	if _, err := os.Stat(file.path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the draft was left: %v", err)
	}
}

func TestAStoreFromADirectoryWithAnOddNameOpens(t *testing.T) {
	file := newFile(t)
	dir := filepath.Join(t.TempDir(), "a b?c#d%41 é")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file.path = filepath.Join(dir, "day pass.db")
	storetest.Create(t, file)
	s := storetest.Serve(t, file, nil)
	storetest.Insert(t, s.Store, storetest.NewLease("reader", "db"))
	if _, err := os.Stat(file.path); err != nil {
		t.Error(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// edit changes the file behind the store's back, as somebody with the disk in hand could.
func edit(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}
