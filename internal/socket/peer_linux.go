package socket

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxGroups is NGROUPS_MAX of Linux.
const maxGroups = 65536

// PeerOf asks the kernel who connected: the user and all groups of the process at that moment.
func PeerOf(conn net.Conn) (uid uint32, gids []uint32, err error) {
	local, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, nil, errors.New("not a connection of a socket")
	}
	raw, err := local.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	var asked error
	err = raw.Control(func(fd uintptr) {
		var peer *unix.Ucred
		if peer, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); asked != nil {
			return
		}
		uid = peer.Uid
		if gids, asked = peerGroups(int(fd)); asked == nil {
			gids = append(gids, peer.Gid)
		}
	})
	if err = errors.Join(err, asked); err != nil {
		return 0, nil, fmt.Errorf("ask who connected: %w", err)
	}
	return uid, gids, nil
}

// peerGroups reads SO_PEERGROUPS, which golang.org/x/sys names and has no function for. The database of users
// could tell what groups a user is in, but not what groups this process has.
func peerGroups(fd int) ([]uint32, error) {
	gids := make([]uint32, 64)
	for {
		size := uint32(len(gids) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&gids[0])), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // the kernel fills both; getsockopt has no wrapper for groups
		switch {
		case errno == 0:
			return gids[:size/4], nil
		case errno == unix.ERANGE && int(size/4) > len(gids) && size/4 <= maxGroups:
			gids = make([]uint32, size/4)
		case errno == unix.ENOPROTOOPT:
			return nil, nil // Linux before 4.13: the main group alone
		default:
			return nil, errno
		}
	}
}
