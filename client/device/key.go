package device

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/daypass/daypass/dpop"
)

// maxKey bounds a key file, in bytes.
const maxKey = 16 << 10

const keyType = "PRIVATE KEY"

// Key reads the key in a file, and makes one of P-256 where there is no file. It never writes over one.
func Key(path string) (key *ecdsa.PrivateKey, made bool, err error) {
	key, err = ReadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	if key, err = makeKey(path); errors.Is(err, fs.ErrExist) {
		key, err = ReadKey(path) // somebody was faster
		return key, false, err
	}
	return key, err == nil, err
}

// ReadKey reads the key in a file that belongs to us and that nobody else can read.
func ReadKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := readOwn(path, 0o077, maxKey)
	if err != nil {
		return nil, fmt.Errorf("read the device's key: %w", err)
	}
	wrong := fmt.Errorf("read the device's key: %s holds no key of P-256 in PKCS #8 (PEM)", path) // never with what it holds
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyType {
		return nil, wrong
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, wrong
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, wrong
	}
	return key, nil
}

// makeKey makes a key and its file, whole on the disk before anybody knows of it.
func makeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the device's key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make the device's key: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the device's key: %w", err)
	}
	_, err = file.Write(pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: der}))
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return nil, fmt.Errorf("make the device's key: %w", errors.Join(err, os.Remove(path)))
	}
	return key, nil
}

// Thumbprint is the thumbprint of a key (RFC 7638, SHA-256).
func Thumbprint(key *ecdsa.PrivateKey) (string, error) {
	prover, err := dpop.NewProverOf(key)
	if err != nil {
		return "", err
	}
	return prover.Thumbprint(), nil
}

// readOwn reads a file that belongs to us, and that others do not have these rights to.
func readOwn(path string, forbidden fs.FileMode, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	if err := checkOwner(path, info, forbidden); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return text, err
}
