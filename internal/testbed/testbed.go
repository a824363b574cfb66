// Package testbed runs real servers for tests, the demo and benchmarks: PostgreSQL 15 and 18, and a TCP proxy
// that breaks connections on purpose; and keeps their logs readable while they are written.
//
// It owns the processes it starts and the directories they write to: everything listens on a free port of the
// loopback address, lives below a temporary directory and dies with the process that started it. A server whose
// binaries are missing is an error that says what to install; nothing is skipped. Only tests, the demo and
// benchmarks import this package, and it imports nothing above the ground floor.
package testbed

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// freePort finds a port that nobody listens on now. Another process may take it before its user does, so that
// starting a server tries a few.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// root returns the directory that holds go.mod, at or above the working directory.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod at or above the working directory")
		}
		dir = parent
	}
}

// scratchPrefix names temporary directories with the process that owns them, so that [sweep] can tell which
// owners are gone: a killed test run cannot tidy up after itself.
const scratchPrefix = "daypass-testbed-"

// scratch makes a directory that others may pass through, since servers run as users of their own.
func scratch() (string, error) {
	sweep()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", scratchPrefix, os.Getpid()))
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// sweep removes what dead owners left.
func sweep() {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), scratchPrefix+"*"))
	for _, dir := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), scratchPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			os.RemoveAll(dir)
		}
	}
}
