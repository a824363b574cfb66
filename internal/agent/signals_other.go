//go:build !unix

package agent

import (
	"os"
	"syscall"
)

// caught lists the signals to catch.
func caught() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }

// isForwarded reports whether a signal is passed on to the command.
func isForwarded(os.Signal) bool { return true }

// isTyped reports whether a signal comes from the console's keys, which reach the command as well.
func isTyped(s os.Signal) bool { return s == os.Interrupt }
