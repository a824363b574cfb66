//go:build unix

package agent

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// caught lists the signals to catch. SIGPIPE is among them so that a reader who leaves our standard error does not
// kill us before the leases are released; ignoring it instead would make the command ignore it too.
func caught() []os.Signal {
	return []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE}
}

// isForwarded reports whether a signal is passed on to the command.
func isForwarded(s os.Signal) bool { return s != syscall.SIGPIPE }

// isTyped reports whether a signal very likely comes from the terminal's keys: those go to the whole process group
// in the foreground, so that the command has it already and must not get it twice.
func isTyped(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	terminal, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer terminal.Close()
	foreground, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}
