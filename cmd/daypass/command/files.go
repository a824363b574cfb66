package command

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/terminal"
)

// ReadAccess reads the access files below a directory, by path. Links that lead out of it are refused.
func ReadAccess(dir string) (map[string]string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, terminal.Usage(fmt.Sprintf("access directory: %v", err))
	}
	defer root.Close()
	files, size := map[string]string{}, 0
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if hidden := name != "." && strings.HasPrefix(entry.Name(), "."); hidden && entry.IsDir() {
			return fs.SkipDir
		} else if hidden || entry.IsDir() || !isAccessFile(name) {
			return nil
		}
		text, err := readWithin(root, name, api.MaxAccess-size)
		files[name], size = text, size+len(text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read access directory %q: %w", dir, err)
	}
	if len(files) == 0 {
		return nil, terminal.Usage(fmt.Sprintf("access directory %q holds no file *.yaml or *.cedar", dir))
	}
	return files, nil
}

// isAccessFile reports whether a file belongs to an access configuration.
func isAccessFile(name string) bool {
	switch path.Ext(name) {
	case ".yaml", ".cedar":
		return true
	}
	return false
}

// readWithin reads a file of at most limit bytes.
func readWithin(root *os.Root, name string, limit int) (string, error) {
	file, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if err == nil && len(text) > limit {
		err = errors.New("the files have more than " + fmt.Sprint(api.MaxAccess) + " bytes together")
	}
	return string(text), err
}
