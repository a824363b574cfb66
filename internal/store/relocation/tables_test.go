package relocation

import (
	"database/sql"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/internal/store/storetest"
)

// A table that a migration adds and that nobody thinks of would stay behind when a store moves.
func TestEveryTableMovesOrIsLeftOnPurpose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "daypass.db")
	if err := sqlite.Create(t.Context(), path, sqlite.Options{Options: store.Options{Signer: storetest.Signer(t)}}); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := db.QueryContext(t.Context(), `select name from sqlite_master where type = 'table' and name not like 'sqlite%'`)
	if err != nil {
		t.Fatal(err)
	}
	var made []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		made = append(made, name)
	}
	if err := errors.Join(rows.Err(), rows.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	known := append(left(), "goose_db_version") // by which the schema's version is known
	for _, one := range tables() {
		known = append(known, one.name)
	}
	slices.Sort(made)
	slices.Sort(known)
	if !slices.Equal(made, known) {
		t.Errorf("the store has the tables\n%q\nand tables and left name\n%q", made, known)
	}
}
