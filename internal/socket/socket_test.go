package socket_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/socket"
)

func TestWhoMayAdministerAtTheSocket(t *testing.T) {
	me := uint32(os.Geteuid())
	for _, c := range []struct {
		what   string
		admins config.Admins
		uid    uint32
		gids   []uint32
		want   bool
	}{
		{"root by default", config.Admins{}, 0, nil, true},
		{"our own user by default", config.Admins{}, me, nil, true},
		{"another by default", config.Admins{}, me + 4711, []uint32{0}, false},
		{"a named user", config.Admins{UIDs: []uint32{7}}, 7, nil, true},
		{"root when others are named", config.Admins{UIDs: []uint32{7}}, 0, nil, false},
		{"a member of a named group", config.Admins{GIDs: []uint32{50}}, 7, []uint32{7, 50}, true},
		{"no member", config.Admins{GIDs: []uint32{50}}, 7, []uint32{7}, false},
	} {
		if got := socket.MayManage(c.admins, c.uid, c.gids); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestTheKernelTellsWhoConnected(t *testing.T) {
	dir, err := os.MkdirTemp("", "dp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	other, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	uid, gids, err := socket.PeerOf(conn)
	if err != nil || int(uid) != os.Geteuid() {
		t.Fatalf("uid %d, %v", uid, err)
	}
	mine, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, gid := range append(mine, os.Getegid()) {
		if !slices.Contains(gids, uint32(gid)) {
			t.Errorf("group %d is missing in %v", gid, gids)
		}
	}
}

func TestASocketDoesNotReplaceWhatIsThere(t *testing.T) {
	dir, err := os.MkdirTemp("", "dp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := socket.Listen(file, config.Admins{}, nil); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("in place of a file: %v", err)
	}
	path := filepath.Join(dir, "s")
	first, err := socket.Listen(path, config.Admins{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := socket.Listen(path, config.Admins{}, nil); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("in place of a living one: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	first.Close()
	again, err := socket.Listen(path, config.Admins{}, nil)
	if err != nil {
		t.Fatalf("in place of a stale one: %v", err)
	}
	again.Close()
}
