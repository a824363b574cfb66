// Package secretdir reads the files below secrets_dir, which access files refer to.
//
// It owns what a reference may lead to. It promises that whoever may write access files reads no other files through
// us: a reference cannot leave the directory, by dots or by links; and that what is to be certificates holds nothing
// else, since certificates are shown to workloads. It knows nothing of who asks for a file.
package secretdir

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/daypass/daypass/secret"
)

// maxSecret bounds a file below secrets_dir: a password, a key, a bundle of certificates.
const maxSecret = 1 << 20

// Dir is secrets_dir.
type Dir struct{ path string }

// New returns the directory of that path. It need not be there before something is read.
func New(path string) Dir { return Dir{path} }

// Read returns a file's bytes.
func (d Dir) Read(name string) ([]byte, error) {
	relative := name
	if filepath.IsAbs(name) {
		var err error
		if relative, err = filepath.Rel(d.path, name); err != nil {
			return nil, d.refuse(name, errors.New("it is not below secrets_dir"))
		}
	}
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, d.refuse(name, err)
	}
	defer root.Close()
	if info, err := root.Stat(relative); err != nil {
		return nil, d.refuse(name, err)
	} else if !info.Mode().IsRegular() {
		return nil, d.refuse(name, errors.New("it is not a regular file")) // opening a pipe would wait for a writer
	}
	file, err := root.Open(relative)
	if err != nil {
		return nil, d.refuse(name, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	switch {
	case err != nil:
		return nil, d.refuse(name, err)
	case len(data) > maxSecret:
		return nil, d.refuse(name, fmt.Errorf("it has more than %d bytes", maxSecret))
	case len(data) == 0:
		return nil, d.refuse(name, errors.New("it is empty"))
	}
	return data, nil
}

// Text returns a file as a secret, without the newline that editors put at its end.
func (d Dir) Text(name string) (secret.Text, error) {
	data, err := d.Read(name)
	if err != nil {
		return secret.Text{}, err
	}
	return secret.New(strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")), nil
}

// Certificates returns the certificates in a file, as PEM, and refuses a file that holds anything else: some are
// handed to workloads, and whoever names the file could name a key or a password instead.
func (d Dir) Certificates(name string) ([]byte, error) {
	data, err := d.Read(name)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, d.refuse(name, errors.New("it holds something else than certificates"))
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, d.refuse(name, errors.New("it holds a certificate that cannot be read"))
		}
		if err := pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			return nil, d.refuse(name, err)
		}
		data = rest
	}
	if out.Len() == 0 {
		return nil, d.refuse(name, errors.New("it holds no certificate in PEM"))
	}
	return out.Bytes(), nil
}

func (d Dir) refuse(name string, err error) error {
	if lookup, ok := errors.AsType[*fs.PathError](err); ok {
		err = lookup.Err
	}
	return fmt.Errorf("file %q below secrets_dir %s: %w", name, d.path, err)
}
