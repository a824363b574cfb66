package keyring

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
)

// maxFile is more than any form of the key takes.
const maxFile = 256

// Path returns the path in a reference to a key file: "file:///var/lib/daypass/master.key". Other references are
// refused: key services are not supported yet.
func Path(reference string) (string, error) {
	u, err := url.Parse(reference)
	if err != nil {
		return "", errors.New("master key reference: not a URL such as file:///path") // the text may hold a password
	}
	if u.Scheme != "file" {
		return "", fmt.Errorf("master key reference: %q is not supported, only file:///path", u.Scheme)
	}
	if u.Host != "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" ||
		!filepath.IsAbs(u.Path) || filepath.Clean(u.Path) != u.Path {
		return "", fmt.Errorf("master key reference: %q is not file:// and an absolute path without dots", u.Redacted())
	}
	return u.Path, nil
}

// Load reads the master key that a reference names. The file holds 32 bytes as standard base64, with or without a
// newline after it (what [Create] writes and "openssl rand -base64 32" prints), or 32 raw bytes. It is refused
// when anybody but its owner has rights to it, or when neither we nor root own it. An absent file is
// fs.ErrNotExist.
func Load(reference string) (*Key, error) {
	path, err := Path(reference)
	if err != nil {
		return nil, err
	}
	text, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("read the master key: %w", err)
	}
	master, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the master key %q: %w", path, err)
	}
	defer clear(master)
	return newKey(master)
}

// read returns the file's bytes after looking at who may read it. It looks at the open file: what is at the path
// may change in between.
func read(path string) ([]byte, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a regular file", path) // opening a pipe would wait for a writer
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%q is not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%q has mode %04o: others than its owner have rights to it; want 0600", path, info.Mode().Perm())
	case !isOurs(info):
		return nil, fmt.Errorf("%q belongs to another user, who may know it", path)
	}
	return io.ReadAll(io.LimitReader(file, maxFile))
}

// parse returns the key in a file.
func parse(text []byte) ([]byte, error) {
	master := text
	if len(text) != keySize {
		line := bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
		decoded, err := base64.StdEncoding.Strict().DecodeString(string(line))
		if err != nil || len(decoded) != keySize || bytes.ContainsAny(line, "\r\n") {
			return nil, fmt.Errorf("it is neither %d bytes as base64 nor %d raw bytes: it has %d", keySize, keySize, len(text))
		}
		master = decoded
	} else if isText(text) {
		// Half a key in hexadecimal, a password: 32 random bytes do not look like this.
		return nil, fmt.Errorf("it has %d bytes, but of text: want %d random bytes, raw or as base64", keySize, keySize)
	}
	if bytes.Count(master, master[:1]) == keySize {
		return nil, errors.New("all its bytes are equal: it is not random")
	}
	return master, nil
}

func isText(b []byte) bool {
	for _, c := range b {
		if (c < ' ' || c > '~') && c != '\n' && c != '\r' && c != '\t' {
			return false
		}
	}
	return true
}

// Create makes a new master key and writes it to a new file at path with mode 0600, durably. It refuses a path
// where something is (fs.ErrExist), and leaves no file behind when it fails.
func Create(path string) (*Key, error) {
	master := make([]byte, keySize)
	rand.Read(master) // never fails: crypto/rand ends the process instead
	defer clear(master)
	key, err := newKey(master)
	if err != nil {
		return nil, err
	}
	if err := write(path, master); err != nil {
		return nil, fmt.Errorf("create the master key: %w", err)
	}
	return key, nil
}

func write(path string, master []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // O_EXCL follows no link either
	if err != nil {
		return err
	}
	_, err = file.WriteString(base64.StdEncoding.EncodeToString(master) + "\n")
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		err = errors.Join(err, os.Remove(path)) // nobody has used the key yet
	}
	return err
}

// syncDir makes a new name in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
