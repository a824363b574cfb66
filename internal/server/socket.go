package server

import (
	"context"
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
	"github.com/daypass/daypass/internal/httpapi"
)

// listenSocket makes the socket for local administration. Who may connect is the file's business (mode 0660, the
// first administrators' group); who may administer is told by the kernel at each connection.
func listenSocket(path string, admins config.Admins, log *slog.Logger) (net.Listener, error) {
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

// peers returns what gives each connection of the socket its peer. A peer that the kernel does not tell is nobody.
func (s *Server) peers() func(context.Context, net.Conn) context.Context {
	const nobody = ^uint32(0)
	return func(ctx context.Context, conn net.Conn) context.Context {
		uid, gids, err := peerOf(conn)
		if err != nil {
			s.log.Warn("the kernel does not tell who connected to the socket", "err", err)
			return httpapi.WithPeer(ctx, httpapi.Peer{UID: nobody})
		}
		return httpapi.WithPeer(ctx, httpapi.Peer{UID: uid, MayManage: mayManage(s.cfg.Admins, uid, gids)})
	}
}

// mayManage reports whether a user of these groups is an administrator. Where nobody is named, root and our own
// user are.
func mayManage(admins config.Admins, uid uint32, gids []uint32) bool {
	if len(admins.UIDs) == 0 && len(admins.GIDs) == 0 {
		return uid == 0 || int(uid) == os.Geteuid()
	}
	return slices.Contains(admins.UIDs, uid) ||
		slices.ContainsFunc(gids, func(gid uint32) bool { return slices.Contains(admins.GIDs, gid) })
}

func withHint(err error, hint string) error { return fault.WithHint(err, hint) }
