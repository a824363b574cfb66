package testbed

import (
	"path/filepath"
	"testing"
)

// AWSPath returns the directory of the official AWS CLI that the tests run, for the PATH of a script.
func AWSPath(t testing.TB) string {
	t.Helper()
	dir, err := cached(AWSTools, "bin/aws", "scripts/install-aws")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "bin")
}
