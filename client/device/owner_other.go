//go:build !unix

package device

import "io/fs"

// checkOwner knows nothing of the rights to files where they are not those of Unix.
func checkOwner(string, fs.FileInfo, fs.FileMode) error { return nil }
