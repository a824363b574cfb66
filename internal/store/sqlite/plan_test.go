package sqlite_test

import (
	"database/sql"
	"database/sql/driver"
	"slices"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/store/storetest"
)

// SQLite plans by the schema and by what `analyze` found, which nobody runs here: so what it does with an empty store it
// does with every one.
func TestEveryQuestionIsAnsweredByAnIndex(t *testing.T) {
	db := newFile(t)
	storetest.Create(t, db)
	raw, err := db.SQL()
	must(t, err)
	defer raw.Close()
	must(t, storetest.Crowd(t.Context(), raw, "cast(i as blob)"))
	faults := &storetest.Faults{}
	s := storetest.Serve(t, db, faults.Wrap)
	// The primary key is walked where nothing is asked for that an index has.
	walks := []string{"list everything", "list in a state", "retention"}
	for _, q := range storetest.Questions([]byte("1")) {
		texts := map[string][]any{}
		faults.Watch(func(text string, args []driver.NamedValue) {
			if strings.HasPrefix(text, "select") || strings.HasPrefix(text, "update") || strings.HasPrefix(text, "delete") {
				texts[text] = make([]any, len(args))
			}
		})
		must(t, s.Update(t.Context(), q.Ask))
		faults.Watch(nil)
		if len(texts) == 0 {
			t.Fatalf("%s: nothing was asked", q.Name)
		}
		for text, args := range texts {
			plan := planOf(t, raw, text, args)
			if !slices.Contains(walks, q.Name) && (strings.Contains(plan, "SCAN leases\n") || strings.Contains(plan, "SCAN decisions\n")) {
				t.Errorf("%s: %s\n%s", q.Name, text, plan)
			}
			if strings.Contains(text, "key_hash =") && !strings.Contains(plan, "USING INDEX leases_key (key_hash=? AND (issuer_url,subject)<(?,?))") {
				t.Errorf("%s: %s\n%s", q.Name, text, plan)
			}
			if strings.Contains(text, "is not distinct from") && !strings.Contains(plan, "=? AND seq<?)") {
				t.Errorf("%s: a page is not found by its cursor: %s\n%s", q.Name, text, plan)
			}
		}
	}
}

func planOf(t *testing.T, db *sql.DB, text string, args []any) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "explain query plan "+text, args...)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var id, parent, unused int
		var detail string
		must(t, rows.Scan(&id, &parent, &unused, &detail))
		plan.WriteString(detail + "\n")
	}
	must(t, rows.Err())
	return plan.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
