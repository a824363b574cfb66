//go:build unix

package keyring

import (
	"io/fs"
	"os"
	"syscall"
)

// isOurs reports whether we or root own the file. Root reads files of anybody, also those that somebody put there.
func isOurs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid())
}
