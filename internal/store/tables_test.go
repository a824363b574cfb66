package store

import (
	"io/fs"
	"regexp"
	"slices"
	"testing"
)

// A table that a migration adds and that nobody thinks of would stay behind when a store moves.
func TestEveryTableMovesOrIsLeftOnPurpose(t *testing.T) {
	created := regexp.MustCompile(`(?m)^CREATE TABLE (\w+)`)
	known := left()
	for _, one := range tables() {
		known = append(known, one.name)
	}
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	found := 0
	for _, file := range files {
		text, err := migrations.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range created.FindAllStringSubmatch(string(text), -1) {
			found++
			if !slices.Contains(known, match[1]) {
				t.Errorf("%s makes the table %s, which tables and left do not name", file, match[1])
			}
		}
	}
	if found != len(known) {
		t.Errorf("the migrations make %d tables, and %d are named", found, len(known))
	}
}
