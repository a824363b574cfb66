package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/daypass/daypass/internal/testbed"
)

// withStores adds to the commands of a script:
//
//	database VARIABLE   makes a role and a database as docs/howto/several-servers.md says, and sets a variable to the reference
//	                    to a store in it, and ADMIN_STORE to what psql connects with; its password goes into the file store-password
func withStores(t *testing.T, commands map[string]func(*testscript.TestScript, bool, []string), postgres *testbed.Postgres) map[string]func(*testscript.TestScript, bool, []string) {
	commands["database"] = func(ts *testscript.TestScript, _ bool, args []string) {
		name := "store" + strings.TrimPrefix(ts.Getenv("DATABASE"), "t")
		ctx := context.WithoutCancel(t.Context())
		ts.Check(postgres.Exec(ctx, "postgres", documentedSQL(t, name)...))
		ts.Defer(func() {
			if err := postgres.Exec(ctx, "postgres", "drop database "+name+" with (force)", "drop role "+name); err != nil {
				t.Error(err)
			}
		})
		ts.Check(os.WriteFile(ts.MkAbs("store-password"), []byte("sesame\n"), 0o600))
		ts.Setenv("ADMIN_STORE", postgres.Superuser(name))
		ts.Setenv(args[0], fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", name, postgres.Address(), name))
	}
	return commands
}

// documentedSQL is what the how-to has people run at PostgreSQL, for a role and a database of another name.
func documentedSQL(t *testing.T, name string) (statements []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/howto/several-servers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```sql\n")
	if !found {
		t.Fatal("the how-to has no SQL")
	}
	sql, _, _ := strings.Cut(rest, "```")
	sql = strings.NewReplacer("daypass", name, "PASSWORD", "sesame").Replace(sql)
	for statement := range strings.SplitSeq(sql, ";\n") {
		if strings.TrimSpace(statement) != "" {
			statements = append(statements, statement)
		}
	}
	return statements
}
