//go:build !unix

package sqlite

import (
	"errors"
	"os"
)

// flock refuses: without a lock that dies with its process, two processes could own one store.
func flock(*os.File) error {
	return errors.New("the embedded store needs a Unix system; use a PostgreSQL store here")
}
