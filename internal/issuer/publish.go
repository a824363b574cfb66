package issuer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// publish keeps the copies of the documents, where a directory is configured.
func (i *Issuer) publish(k *keys) error {
	if i.cfg.Publish == "" {
		return nil
	}
	return WriteTo(i.cfg.Publish, k.documents)
}

// WriteTo writes documents below a directory that exists, each at its path: what a bucket or a web server then serves
// at the issuer's URL. Readers see the old file or the new one, never a part. Files that are right are left alone.
func WriteTo(directory string, documents []Document) error {
	for _, d := range documents {
		path := filepath.Join(directory, filepath.FromSlash(d.Path))
		if err := replaceFile(path, d.Body); err != nil {
			return fmt.Errorf("publish %s: %w", path, err)
		}
	}
	return nil
}

func replaceFile(path string, body []byte) error {
	if held, err := os.ReadFile(path); err == nil && bytes.Equal(held, body) {
		return nil
	}
	directory := filepath.Dir(path)
	if err := os.Mkdir(directory, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	file, err := os.CreateTemp(directory, ".daypass-*")
	if err != nil {
		return err
	}
	_, err = file.Write(body)
	if err == nil {
		err = file.Chmod(0o644) // the world reads them
	}
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
