package sqlite_test

import (
	"testing"

	"github.com/daypass/daypass/internal/store/storetest"
)

func TestSQLiteKeepsTheStoresPromises(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Database { return newFile(t) })
}
