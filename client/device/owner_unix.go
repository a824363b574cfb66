//go:build unix

package device

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkOwner refuses a file of somebody else's, and one that others have rights to.
func checkOwner(path string, info fs.FileInfo, forbidden fs.FileMode) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, not to us", path, stat.Uid)
	}
	if info.Mode().Perm()&forbidden != 0 {
		return fmt.Errorf("%s has mode %04o, which gives rights to others: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return nil
}
