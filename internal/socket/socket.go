// Package socket is the socket for local administration: the file that it listens on, and who connects to it.
//
// It owns how the file is made and what it may replace (socket.go), and what the kernel says of a peer (peer_linux.go). It
// promises that nothing but a socket that nobody listens on is ever removed, and that who calls is told by the kernel at
// each connection and by nothing that the peer says. It knows no requests; it must not import the edge.
package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/fault"
)

// Listen makes the socket for local administration. Who may connect is the file's business (mode 0660, the
// first administrators' group); who may administer is told by the kernel at each connection.
func Listen(path string, admins config.Admins, log *slog.Logger) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the socket: %w", err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	if len(admins.GIDs) > 0 {
		if err := os.Chown(path, -1, int(admins.GIDs[0])); err != nil {
			log.Warn("the socket cannot be given to the administrators' group", "gid", admins.GIDs[0], "err", err)
		}
	}
	// Until here the file has the mode of our umask, which gives nobody more than the owner the right to connect.
	if err := os.Chmod(path, 0o660); err != nil { //nolint:gosec // the group of admins.gids may connect; the kernel tells who does
		return nil, errors.Join(fmt.Errorf("set the mode of socket %s: %w", path, err), listener.Close())
	}
	return listener, nil
}

// removeStale removes a socket that nobody listens on any more. Anything else in its place is left alone.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket %s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fault.WithHint(fmt.Errorf("%s is there and is no socket", path), "name another path in socket, or move the file away")
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		return errors.Join(fault.WithHint(fmt.Errorf("another server listens on socket %s", path), "stop it, or name another path in socket"), conn.Close())
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the stale socket %s: %w", path, err)
	}
	return nil
}

// MayManage reports whether a user of these groups is an administrator. Where nobody is named, root and our own
// user are.
func MayManage(admins config.Admins, uid uint32, gids []uint32) bool {
	if len(admins.UIDs) == 0 && len(admins.GIDs) == 0 {
		return uid == 0 || int(uid) == os.Geteuid()
	}
	return slices.Contains(admins.UIDs, uid) ||
		slices.ContainsFunc(gids, func(gid uint32) bool { return slices.Contains(admins.GIDs, gid) })
}
