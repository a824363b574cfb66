package testbed

import (
	"path/filepath"
	"testing"
)

// AWSPath returns the directory of the official AWS CLI that the tests run, for the PATH of a script.
func AWSPath(t testing.TB) string {
	t.Helper()
	dir, err := FindAWS()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// FindAWS is [AWSPath] outside of tests.
func FindAWS() (string, error) {
	dir, err := cached(AWSTools, "bin/aws", "scripts/install-aws")
	return filepath.Join(dir, "bin"), err
}
