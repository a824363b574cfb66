package sqlite_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/storetest"
)

// limited caps the pages of a database, so that SQLite itself says that it is full.
func limited(pages int64) func(driver.Connector) driver.Connector {
	return func(c driver.Connector) driver.Connector { return limitedConnector{c, pages} }
}

type limitedConnector struct {
	driver.Connector
	pages int64
}

func (c limitedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	_, err = conn.(driver.ExecerContext).ExecContext(ctx, "pragma max_page_count = "+strconv.FormatInt(c.pages, 10), nil)
	return conn, err
}

// pages is how many pages the file has, after a checkpoint.
func pages(t *testing.T, file file) int64 {
	t.Helper()
	info, err := os.Stat(file.path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size() / 4096
}

func TestAFullDatabaseRefusesLeasesAndLosesNothing(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	s := storetest.Serve(t, file, nil)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s = storetest.Serve(t, file, limited(pages(t, file)+40))
	made := fillUp(t, s.Store)
	// Full means refused, not broken: the writer runs, reads work, nothing half-done is left.
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.InsertLease(new(storetest.NewLease("reader", "db")))
		return err
	})
	if !fault.Is(err, fault.StoreUnavailable) {
		t.Errorf("on a full disk: %v", err)
	}
	audit(t, file, s.Store)
	if err := s.Stop(); err != nil {
		t.Errorf("a full disk ended Run: %v", err)
	}
	s = storetest.Serve(t, file, nil) // room again
	for _, l := range made {
		storetest.View(t, s.Store, func(tx *store.Tx) error { _, err := tx.Lease(l.ID); return err })
	}
	storetest.Insert(t, s.Store, storetest.NewLease("reader", "db"))
	audit(t, file, s.Store)
}

// fillUp records leases until the store says that it is full.
func fillUp(t *testing.T, s *store.Store) (made []store.Lease) {
	t.Helper()
	for range 100_000 {
		l := storetest.NewLease("reader", "db")
		err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.InsertLease(&l); return err })
		if fault.Is(err, fault.StoreUnavailable) {
			return made
		}
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, l)
	}
	t.Fatal("the store never became full")
	return nil
}

// A real file system of 8 MiB, filled to the last block by somebody else.
func TestOnAFullDiskLeasesEndInTheRoomOfTheBallast(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,mode=0700"); err != nil {
		t.Fatalf("mount a tmpfs of 8 MiB: %v; this test needs CAP_SYS_ADMIN: run it as root, or with unshare -Ur -m", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	file := file{path: dir + "/daypass.db", ballast: 2 << 20}
	storetest.Create(t, file)
	s := storetest.Serve(t, file, nil)
	l := storetest.Move(t, s.Store, storetest.Insert(t, s.Store, storetest.NewLease("reader", "db"))[0], storetest.Start(), lease.Granted)
	hog := hogDisk(t, dir+"/hog")
	fillUp(t, s.Store)
	if _, err := os.Stat(file.path + ".ballast"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ballast was not given up: %v", err)
	}
	l = storetest.Move(t, s.Store, l, storetest.Start(), lease.Ended, lease.Proved)
	if l.State != lease.Revoked {
		t.Errorf("the lease is %s", l.State)
	}
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.InsertLease(new(storetest.NewLease("reader", "db")))
		return err
	})
	if !fault.Is(err, fault.StoreUnavailable) {
		t.Errorf("a lease was recorded in the room of the ballast: %v", err)
	}
	audit(t, file, s.Store)
	if err := s.Stop(); err != nil {
		t.Errorf("a full disk ended Run: %v", err)
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	s = storetest.Serve(t, file, nil)
	if _, err := os.Stat(file.path + ".ballast"); err != nil {
		t.Errorf("the ballast was not taken again: %v", err)
	}
	storetest.Insert(t, s.Store, storetest.NewLease("reader", "db"))
	audit(t, file, s.Store)
	if err := s.Stop(); err != nil { // before the unmount
		t.Error(err)
	}
}

// hogDisk fills the file system and returns the file that does.
func hogDisk(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	block := make([]byte, 4096)
	for {
		if _, err := file.Write(block); errors.Is(err, syscall.ENOSPC) {
			return path
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func audit(t *testing.T, file file, s *store.Store) {
	t.Helper()
	db, err := file.SQL()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := storetest.Audit(t.Context(), s, db, storetest.Signer(t)); err != nil {
		t.Fatal(err)
	}
}
