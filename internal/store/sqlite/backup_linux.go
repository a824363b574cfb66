package sqlite

import "syscall"

// freeRoom is how many bytes we may write to the disk of a directory.
func freeRoom(dir string) (int64, bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return int64(min(s.Bavail, 1<<40)) * s.Bsize, true
}
