//go:build unix

package sqlite

import (
	"os"
	"syscall"
)

// flock locks a file for as long as it is open, or fails when somebody else has it. The kernel gives it up when
// the process dies.
func flock(file *os.File) error {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
