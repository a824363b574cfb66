package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSecretsCannotBeReadOutsideTheirDirectory(t *testing.T) {
	dir := t.TempDir()
	inside := filepath.Join(dir, "secrets")
	if err := os.MkdirAll(filepath.Join(inside, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"outside": "out", "secrets/in": "in\n", "secrets/sub/deep": "deep", "secrets/empty": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(inside, "big"), make([]byte, maxSecret+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": "../outside", "absolute": filepath.Join(dir, "outside"), "near": "in", "up": ".."} {
		if err := os.Symlink(to, filepath.Join(inside, link)); err != nil {
			t.Fatal(err)
		}
	}
	s := secrets{inside}
	if data, err := s.certificates("in"); err == nil {
		t.Errorf("a password passes for a certificate: %d bytes", len(data))
	}
	for name, want := range map[string]string{"in": "in", "sub/deep": "deep", "near": "in", filepath.Join(inside, "in"): "in"} {
		if text, err := s.text(name); err != nil || text.Reveal() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"../outside", "link", "absolute", "up/outside", "/etc/passwd", "sub/../../outside", "", ".", "sub", "none", "empty", "big"} {
		if text, err := s.text(name); err == nil {
			t.Errorf("%q gives %d bytes", name, len(text.Reveal()))
		}
	}
}

func TestWhoMayAdministerAtTheSocket(t *testing.T) {
	me := uint32(os.Geteuid())
	for _, c := range []struct {
		what   string
		admins Admins
		uid    uint32
		gids   []uint32
		want   bool
	}{
		{"root by default", Admins{}, 0, nil, true},
		{"our own user by default", Admins{}, me, nil, true},
		{"another by default", Admins{}, me + 4711, []uint32{0}, false},
		{"a named user", Admins{UIDs: []uint32{7}}, 7, nil, true},
		{"root when others are named", Admins{UIDs: []uint32{7}}, 0, nil, false},
		{"a member of a named group", Admins{GIDs: []uint32{50}}, 7, []uint32{7, 50}, true},
		{"no member", Admins{GIDs: []uint32{50}}, 7, []uint32{7}, false},
	} {
		if got := mayManage(c.admins, c.uid, c.gids); got != c.want {
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
	uid, gids, err := peerOf(conn)
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
	if _, err := listenSocket(file, Admins{}, nil); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("in place of a file: %v", err)
	}
	path := filepath.Join(dir, "s")
	first, err := listenSocket(path, Admins{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := listenSocket(path, Admins{}, nil); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("in place of a living one: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	first.Close()
	again, err := listenSocket(path, Admins{}, nil)
	if err != nil {
		t.Fatalf("in place of a stale one: %v", err)
	}
	again.Close()
}

func TestPartsEndInOrder(t *testing.T) {
	var ended []string // one part after the other: no lock is needed
	part := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			<-ctx.Done()
			ended = append(ended, name)
			return nil
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := inOrder(ctx, part("edge"), part("revoker"), part("store")); err != nil || strings.Join(ended, " ") != "edge revoker store" {
		t.Errorf("%v, %v", ended, err)
	}
	ended = nil
	broken := errors.New("broken")
	err := inOrder(t.Context(), part("edge"), part("revoker"), func(context.Context) error { return broken })
	if !errors.Is(err, broken) || strings.Join(ended, " ") != "edge revoker" {
		t.Errorf("a part that fails: %v, %v", ended, err)
	}
}

func TestTheIssuerOfATokenIsReadWithoutBelievingIt(t *testing.T) {
	for token, want := range map[string]string{
		"e30.eyJpc3MiOiJodHRwczovL2EifQ.x":           "https://a",
		"e30.eyJpc3MiOiJhIiwieCI6eyJpc3MiOiJiIn19.x": "a",
		"e30.eyJpc3MiOiJhIiwiaXNzIjoiYiJ9.x":         "", // twice
		"e30.eyJpc3MiOjF9.x":                         "",
		"e30.W10.x":                                  "",
		"e30":                                        "",
		"..":                                         "",
		"e30.!.x":                                    "",
		"e30." + strings.Repeat("A", 20<<10) + ".x":        "",
		"e30.eyJpc3MiOiJhIn0eyJpc3MiOiJiIn0.trailing-data": "",
		"e30.e30.x": "",
		// JWT-SVIDs: {"sub":"spiffe://a/b"}, the same with {"iss":"https://c"}, and with other subjects
		"e30.eyJzdWIiOiJzcGlmZmU6Ly9hL2IifQ.x":                           "spiffe://a",
		"e30.eyJpc3MiOiJodHRwczovL2MiLCJzdWIiOiJzcGlmZmU6Ly9hL2IifQ.x":   "https://c spiffe://a",
		"e30.eyJpc3MiOiJodHRwczovL2MiLCJzdWIiOiJ4IHNwaWZmZTovL2EvYiJ9.x": "https://c",
		"e30.eyJzdWIiOiJ4In0.x":                                          "",
	} {
		got, err := claimedIssuers(token)
		if strings.Join(got, " ") != want || (err == nil) != (want != "") {
			t.Errorf("%.60s: %q, %v", token, got, err)
		}
	}
}

// While the store is away, revocations go on at the targets by what was last known of the other servers. Without
// having known anything, nobody's connections are ended.
func TestTheOtherServersAreThoseOfTheLastTimeWhileTheStoreIsAway(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Store: "sqlite://" + filepath.Join(dir, "daypass.db"), MasterKey: "file://" + filepath.Join(dir, "master.key")}
	if _, err := Init(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	cfg.fill()
	s := &Server{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	s.figures = newFigures(s)
	if err := s.openStore(t.Context()); err != nil {
		t.Fatal(err)
	}
	knows, blank := &builder{store: s.store, log: s.log}, &builder{store: s.store, log: s.log}
	if boots, err := knows.peers(t.Context()); err != nil || len(boots) != 0 {
		t.Fatalf("a file has one owner, and its peers are %v, %v", boots, err)
	}
	knows.others.boots = []int64{7}
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	if boots, err := knows.peers(t.Context()); err != nil || !slices.Equal(boots, []int64{7}) {
		t.Errorf("with the store away its peers are %v, %v", boots, err)
	}
	if boots, err := blank.peers(t.Context()); err == nil {
		t.Errorf("without having asked, its peers are %v", boots)
	}
}
