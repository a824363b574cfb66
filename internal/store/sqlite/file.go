package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/daypass/daypass/internal/store"
)

// The parts of SQLite's file header that are looked at (https://www.sqlite.org/fileformat.html, section 1.3).
const (
	headerSize      = 100
	headerMagic     = "SQLite format 3\x00"
	headerPageSize  = 16
	headerPages     = 28
	headerApplicant = 68
)

// inspect refuses what SQLite would open and should not, with what to do about it. The caller owns the file.
func inspect(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrAccess, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: it is not a file", store.ErrForeign)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		return fmt.Errorf("%w: its mode is %04o and must be 0600; fix it with: chmod 600 %s", store.ErrAccess, mode, path)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w: %w; give it to the user that runs daypass, on a disk that can be written: chown %d %s",
			store.ErrAccess, err, os.Getuid(), path)
	}
	defer file.Close()
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(file, header); err != nil {
		return fmt.Errorf("%w: it is cut off after %d bytes; restore a backup, or remove it and run: daypass init",
			store.ErrDamaged, info.Size())
	}
	if string(header[:len(headerMagic)]) != headerMagic {
		return fmt.Errorf("%w: it is not an SQLite database; name another file in `store`", store.ErrForeign)
	}
	switch id := binary.BigEndian.Uint32(header[headerApplicant:]); id {
	case applicationID:
	case backupID:
		return fmt.Errorf("%w; move it out of the store's place, then run there: daypass store restore FILE", store.ErrBackup)
	default:
		return fmt.Errorf("%w: it is an SQLite database of another application (id %#x); name another file in `store`",
			store.ErrForeign, id)
	}
	return inspectSize(path, header, info.Size())
}

// inspectSize finds a file that lost its end. While there is a log, the log may still hold what the file lacks.
func inspectSize(path string, header []byte, size int64) error {
	if log, err := os.Stat(path + "-wal"); err == nil && log.Size() > 0 {
		return nil
	}
	pageSize := int64(binary.BigEndian.Uint16(header[headerPageSize:]))
	if pageSize == 1 {
		pageSize = 65536 // does not fit into the field
	}
	pages := int64(binary.BigEndian.Uint32(header[headerPages:]))
	if size < pages*pageSize {
		return fmt.Errorf("%w: it is cut off: %d bytes of %d; restore a backup", store.ErrDamaged, size, pages*pageSize)
	}
	return nil
}

func (d *dialect) ballastPath() string { return d.path + ".ballast" }

// GiveRoom removes the ballast file.
func (d *dialect) GiveRoom() bool {
	return d.ballast > 0 && os.Remove(d.ballastPath()) == nil
}

// TakeRoom makes the ballast file unless it is there.
func (d *dialect) TakeRoom() error {
	if d.ballast <= 0 {
		return nil
	}
	if info, err := os.Stat(d.ballastPath()); err == nil && info.Size() == d.ballast {
		return nil
	}
	err := d.fillBallast()
	if err != nil {
		err = errors.Join(err, removeAll(d.ballastPath()))
	}
	return err
}

// fillBallast writes the ballast file. It writes a quarter more and cuts that off again, so that taking the last
// room for the ballast does not at once make the disk full.
func (d *dialect) fillBallast() (err error) {
	file, err := os.OpenFile(d.ballastPath(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	chunk := make([]byte, 256<<10)
	for written := int64(0); written < d.ballast+d.ballast/4; written += int64(len(chunk)) {
		if _, err := file.Write(chunk); err != nil {
			return err
		}
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return file.Truncate(d.ballast)
}

// lockFile takes the ownership of a store, through a file beside it: locks on the file itself are SQLite's.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; the user that runs daypass must be able to write to %s",
			store.ErrAccess, err, filepath.Dir(path))
	}
	if err := flock(file); err != nil {
		return nil, errors.Join(fmt.Errorf("%w; stop that one first, or name another file in `store`: %w", store.ErrInUse, err), file.Close())
	}
	return file, nil
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
