package keyring_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/daypass/daypass/internal/keyring"
)

// fixed is the master key of tests that need the same one: 1, 2, 3, …
func fixed() []byte {
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i + 1)
	}
	return key
}

func file(t testing.TB, content []byte, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "master.key")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t testing.TB, master []byte) *keyring.Key {
	t.Helper()
	key, err := keyring.Load("file://" + file(t, master, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func other(t testing.TB) *keyring.Key {
	t.Helper()
	key, err := keyring.Create(filepath.Join(t.TempDir(), "other.key"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestARecordOpensUnderItsNameAndContext(t *testing.T) {
	key := load(t, fixed())
	for _, plaintext := range [][]byte{{}, []byte("x"), []byte("hunter2"), bytes.Repeat([]byte{0}, 1<<20)} {
		sealed, err := key.Seal("target/a", "password", plaintext)
		if err != nil {
			t.Fatal(err)
		}
		got, err := key.Open("target/a", "password", sealed)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%d bytes: got %d, %v", len(plaintext), len(got), err)
		}
	}
}

// Keyring threat 1: whoever writes the store moves a record to another row.
func TestARecordDoesNotOpenUnderAnotherNameOrContext(t *testing.T) {
	key := load(t, fixed())
	sealed, err := key.Seal("target/ab", "c", []byte("hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	for _, try := range [][2]string{{"target/a", "bc"}, {"target/abc", ""}, {"", "target/abc"}, {"target/ab", "d"}, {"target/b", "c"}, {"target/ab", "c\x00"}, {"", ""}} {
		if _, err := key.Open(try[0], try[1], sealed); !errors.Is(err, keyring.ErrDamaged) {
			t.Errorf("%q: %v", try, err)
		}
	}
}

// Keyring threat 2: whoever writes the store changes a record.
func TestNoByteOfARecordCanChange(t *testing.T) {
	key := load(t, fixed())
	sealed, err := key.Seal("target/a", "password", []byte("hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			bad := bytes.Clone(sealed)
			bad[i] ^= flip
			want := keyring.ErrDamaged
			if i >= 1 && i < 17 {
				want = keyring.ErrWrongKey
			}
			if got, err := key.Open("target/a", "password", bad); !errors.Is(err, want) || got != nil {
				t.Fatalf("byte %d: got %q, %v; want %v", i, got, err, want)
			}
		}
		if _, err := key.Open("target/a", "password", sealed[:i]); !errors.Is(err, keyring.ErrDamaged) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := key.Open("target/a", "password", append(bytes.Clone(sealed), 0)); !errors.Is(err, keyring.ErrDamaged) {
		t.Errorf("one byte more: %v", err)
	}
}

// Keyring threat 2: parts of two records do not make a third.
func TestPartsOfTwoRecordsDoNotMix(t *testing.T) {
	key := load(t, fixed())
	a, _ := key.Seal("n", "c", []byte("first secret"))
	b, _ := key.Seal("n", "c", []byte("other secret"))
	for _, cut := range []int{17, 29, 77, 89} {
		mixed := append(bytes.Clone(a[:cut]), b[cut:]...)
		if cut == 17 { // both are of one key: this is b
			if got, err := key.Open("n", "c", mixed); err != nil || string(got) != "other secret" {
				t.Errorf("b: %q, %v", got, err)
			}
			continue
		}
		if _, err := key.Open("n", "c", mixed); !errors.Is(err, keyring.ErrDamaged) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

func TestAWrongMasterKeyIsToldFromDamage(t *testing.T) {
	right, wrong := load(t, fixed()), other(t)
	sealed, err := right.Seal("n", "c", []byte("hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.Open("n", "c", sealed); !errors.Is(err, keyring.ErrWrongKey) || errors.Is(err, keyring.ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if by, err := keyring.SealedBy(sealed); err != nil || by != right.Fingerprint() || by == wrong.Fingerprint() {
		t.Errorf("sealed by %s, %v", by, err)
	}
	if _, err := keyring.SealedBy(sealed[:40]); !errors.Is(err, keyring.ErrDamaged) {
		t.Errorf("a cut record: %v", err)
	}
}

// firstRecord is "hunter2", sealed by the fixed key for target/orders-db and password by the first version.
const firstRecord = "01eba036eef33888e65fbc600df6d235fce126f7e3e25ee52785af05a37b822328cbff9926a26b09434bf76e47553b55db71ab5f56b72adb" +
	"b1fbe546c1517b1f71e0a1631004e9ac20a2d7101e95021194ebff53cf3fb5956a7b1f755e556a0cf8ec3eb538e661daa41bca9cba5ac3bf"

// The fingerprint is stored: it must stay the same for ever, and so must records.
func TestTheFormatDoesNotChange(t *testing.T) {
	key := load(t, fixed())
	if got, want := key.Fingerprint(), "5oqdn3xthceomx54mag7nurv7q"; got != want {
		t.Errorf("fingerprint %s, want %s", got, want)
	}
	sealed, err := hex.DecodeString(firstRecord)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := key.Open("target/orders-db", "password", sealed); err != nil || string(got) != "hunter2" {
		t.Errorf("a record of the first version: %q, %v", got, err)
	}
}

func TestRewrapMovesARecordToANewKeyAndRunsTwice(t *testing.T) {
	from, to := load(t, fixed()), other(t)
	sealed, err := from.Seal("n", "c", []byte("hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	moved, err := from.Rewrap(sealed, to)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := to.Open("n", "c", moved); err != nil || string(got) != "hunter2" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := from.Open("n", "c", moved); !errors.Is(err, keyring.ErrWrongKey) {
		t.Errorf("the old key: %v", err)
	}
	if _, err := to.Open("n", "d", moved); !errors.Is(err, keyring.ErrDamaged) {
		t.Errorf("another context: %v", err)
	}
	again, err := from.Rewrap(moved, to)
	if err != nil || !bytes.Equal(again, moved) {
		t.Errorf("a second run: %v", err)
	}
	if _, err := to.Rewrap(sealed, other(t)); !errors.Is(err, keyring.ErrWrongKey) {
		t.Errorf("a record of neither key: %v", err)
	}
	for i := range 77 {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := from.Rewrap(bad, to); err == nil {
			t.Fatalf("byte %d changed, and rewrapped", i)
		}
		bad = bytes.Clone(moved)
		bad[i] ^= 1
		if _, err := from.Rewrap(bad, to); err == nil {
			t.Fatalf("byte %d changed, and rewrapped again", i)
		}
	}
}

// Keyring threat 5: equal secrets must not show as equal records, nor repeat a nonce.
func TestEqualSecretsGiveDifferentRecords(t *testing.T) {
	key := load(t, fixed())
	seen := map[string]bool{}
	for range 1000 {
		sealed, err := key.Seal("n", "c", []byte("hunter2"))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range [][]byte{sealed[17:29], sealed[29:61], sealed[77:89], sealed[89:]} {
			if seen[string(part)] {
				t.Fatalf("%x came twice", part)
			}
			seen[string(part)] = true
		}
	}
}

// Keyring threat 4: a key or a plaintext in a log.
func TestNothingPrintsAKey(t *testing.T) {
	master := fixed()
	path := file(t, []byte(base64.StdEncoding.EncodeToString(master)), 0o600)
	key, err := keyring.Load("file://" + path)
	if err != nil {
		t.Fatal(err)
	}
	holder := struct{ inner *keyring.Key }{key}
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&b, verb+"\n", key)
		fmt.Fprintf(&b, verb+"\n", *key)
		fmt.Fprintf(&b, verb+"\n", holder)
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "key", key, "value", *key, "holder", holder)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "key", key)
	sealed, _ := key.Seal("n", "c", []byte("hunter2"))
	_, err = key.Open("m", "c", sealed)
	fmt.Fprintln(&b, err)
	_, err = keyring.Load("file://" + file(t, append(master, 9), 0o600))
	fmt.Fprintln(&b, err)
	_, err = keyring.Load("file://user:canary@/x")
	fmt.Fprintln(&b, err)
	_, err = keyring.Load("http://user:canary@host:bad port/x")
	fmt.Fprintln(&b, err)
	for _, leak := range []string{
		string(master), hex.EncodeToString(master), base64.StdEncoding.EncodeToString(master), "hunter2", "canary",
		strings.Trim(fmt.Sprint(master), "[]"), strings.Trim(fmt.Sprintf("%#v", master[:8]), "[]byte{}"),
	} {
		if strings.Contains(b.String(), leak) {
			t.Errorf("%q shows in %s", leak, b.String())
		}
	}
}

// Keyring threat 3: somebody else reads or plants the key file.
func TestLoadTakesOnlyAPrivateFileWithAWholeKey(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(fixed())
	good := map[string][]byte{
		"base64": []byte(text), "base64 and newline": []byte(text + "\n"), "base64 and CRLF": []byte(text + "\r\n"), "raw": fixed(),
	}
	want := load(t, fixed()).Fingerprint()
	for name, content := range good {
		if got := load(t, content).Fingerprint(); got != want {
			t.Errorf("%s: key %s, want %s", name, got, want)
		}
	}
	bad := map[string][]byte{
		"empty": {}, "31 bytes": fixed()[:31], "33 bytes": append(fixed(), 33), "64 raw bytes": append(fixed(), fixed()...),
		"two newlines": []byte(text + "\n\n"), "a space before": []byte(" " + text), "a newline within": []byte(text[:10] + "\n" + text[10:]),
		"URL base64": []byte(base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xfb, 0xff}, 16))), "unpadded": []byte(text[:43]),
		"loose last bits": []byte(text[:42] + "B="), "16 bytes as base64": []byte(base64.StdEncoding.EncodeToString(fixed()[:16])),
		"hexadecimal": []byte(hex.EncodeToString(fixed())), "a password of 32 characters": []byte("correct horse battery staple etc"),
		"zeros": make([]byte, 32), "zeros as base64": []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))),
		"a long file": bytes.Repeat([]byte("A"), 1<<20), "two keys": []byte(text + "\n" + text + "\n"),
	}
	for name, content := range bad {
		if _, err := keyring.Load("file://" + file(t, content, 0o600)); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777} {
		if _, err := keyring.Load("file://" + file(t, []byte(text), mode)); err == nil || !strings.Contains(err.Error(), "want 0600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	for _, mode := range []fs.FileMode{0o600, 0o400, 0o700} {
		if _, err := keyring.Load("file://" + file(t, []byte(text), mode)); err != nil {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestLoadRefusesWhatIsNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := keyring.Load("file://" + dir); err == nil {
		t.Error("a directory: loaded")
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Load("file://" + pipe); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a pipe: %v", err)
	}
	if _, err := keyring.Load("file://" + filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
}

func TestLoadRefusesAFileOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to somebody else")
	}
	path := file(t, fixed(), 0o600)
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Skipf("this system does not let root give files away: %v", err)
	}
	if _, err := keyring.Load("file://" + path); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("got %v", err)
	}
}

func TestAReferenceIsFileAndAnAbsolutePath(t *testing.T) {
	for reference, want := range map[string]string{"file:///a/b.key": "/a/b.key", "file:///a%20b": "/a b", "FILE:///a": "/a"} {
		if got, err := keyring.Path(reference); err != nil || got != want {
			t.Errorf("%s: %q, %v", reference, got, err)
		}
	}
	for _, reference := range []string{
		"", "/a", "file:a", "file://a", "file://host/a", "file:///a/../b", "file:///a//b", "file:///a/", "file:///a?x=1", "file:///a?",
		"file:///a#x", "file://u:p@/a", "awskms:///k", "file:///%zz", "file://", "file:///a/./b", "https://host/a",
	} {
		if got, err := keyring.Path(reference); err == nil {
			t.Errorf("%q: %q", reference, got)
		}
	}
}

func TestCreateMakesAPrivateFileOnceAndLoadReadsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	key, err := keyring.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 || info.Size() != 45 {
		t.Errorf("%v, %v", info, err)
	}
	loaded, err := keyring.Load("file://" + path)
	if err != nil || loaded.Fingerprint() != key.Fingerprint() {
		t.Errorf("loaded: %v", err)
	}
	before, _ := os.ReadFile(path)
	if _, err := keyring.Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the second Create changed the file")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Create(link); !errors.Is(err, fs.ErrExist) {
		t.Errorf("through a link that leads nowhere: %v", err)
	}
	if _, err := keyring.Create(filepath.Join(t.TempDir(), "no", "dir")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in no directory: %v", err)
	}
}

func TestOneOfManyCreatesWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	var made sync.Map
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			if key, err := keyring.Create(path); err == nil {
				made.Store(i, key.Fingerprint())
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	var winners []any
	made.Range(func(_, fingerprint any) bool { winners = append(winners, fingerprint); return true })
	loaded, err := keyring.Load("file://" + path)
	if err != nil || len(winners) != 1 || winners[0] != loaded.Fingerprint() {
		t.Errorf("winners %v, loaded %v", winners, err)
	}
}

func TestRecordsOpenOnlyWhereTheyWereSealed(t *testing.T) {
	key, next := load(t, fixed()), other(t)
	rapid.Check(t, func(t *rapid.T) {
		name, context := rapid.String().Draw(t, "name"), rapid.String().Draw(t, "context")
		plaintext := rapid.SliceOf(rapid.Byte()).Draw(t, "plaintext")
		sealed, err := key.Seal(name, context, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		opener := key
		if rapid.Bool().Draw(t, "rewrapped") {
			opener = next
			if sealed, err = key.Rewrap(sealed, next); err != nil {
				t.Fatal(err)
			}
		}
		tryName, tryContext := rapid.String().Draw(t, "try name"), rapid.String().Draw(t, "try context")
		_, err = opener.Open(tryName, tryContext, sealed)
		if (err == nil) != (tryName == name && tryContext == context) {
			t.Fatalf("%q %q: %v", tryName, tryContext, err)
		}
		if got, err := opener.Open(name, context, sealed); err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("%v", err)
		}
	})
}

// Keyring threat 2: hostile bytes from the store.
func FuzzOpen(f *testing.F) {
	key := load(f, fixed())
	record, err := hex.DecodeString(firstRecord) // the same in every fuzzing process
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record, "target/orders-db", "password")
	f.Add(record[:88], "target/orders-db", "password")
	f.Add([]byte{}, "", "")
	f.Fuzz(func(t *testing.T, sealed []byte, name, context string) {
		got, err := key.Open(name, context, sealed)
		if err == nil && (string(got) != "hunter2" || name != "target/orders-db" || context != "password" || !bytes.Equal(sealed, record)) {
			t.Fatalf("opened %x as %q", sealed, got)
		}
		if err != nil && !errors.Is(err, keyring.ErrDamaged) && !errors.Is(err, keyring.ErrWrongKey) {
			t.Fatalf("an error without a class: %v", err)
		}
		if moved, err := key.Rewrap(sealed, key); err == nil && !bytes.Equal(moved, sealed) {
			t.Fatal("rewrapping to the same key changed the record")
		}
	})
}

func BenchmarkSealAndOpen(b *testing.B) {
	key := load(b, fixed())
	for b.Loop() {
		sealed, err := key.Seal("target/orders-db", "password", []byte("hunter2"))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := key.Open("target/orders-db", "password", sealed); err != nil {
			b.Fatal(err)
		}
	}
}
