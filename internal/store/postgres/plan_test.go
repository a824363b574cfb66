package postgres_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/store/storetest"
)

// asked is a statement with the arguments it came with.
type asked struct {
	question storetest.Question
	text     string
	args     []driver.NamedValue
}

// Statistics come minutes after leases do, and a plan may be older than both. Whenever a plan was made, a question
// reads about as many pages as it has leases to look at.
func TestEveryQuestionIsAnsweredByItsIndexWithAndWithoutStatistics(t *testing.T) {
	for _, version := range []int{15, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) { plans(t, newDatabase(t, version)) })
	}
}

func plans(t *testing.T, db database) {
	storetest.Create(t, db)
	raw := connections(t, db)
	conn, err := raw.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	run := func(text string) {
		t.Helper()
		_, err := conn.ExecContext(t.Context(), text)
		must(t, err)
	}
	for _, table := range []string{"leases", "tallies", "decisions", "ledger_leaves"} {
		run("alter table " + table + " set (autovacuum_enabled = false)")
	}
	statements := collect(t, db)
	run("set plan_cache_mode = force_generic_plan")
	for i, s := range statements { // planned now, and not again before statistics come
		run(fmt.Sprintf("prepare asked_%d as %s", i, s.text))
		explain(t, conn, fmt.Sprintf("explain (costs off) execute asked_%d%s", i, literals(s.args)))
	}
	must(t, storetest.Crowd(t.Context(), raw, "int8send(i)"))
	look := func(when string) {
		for i, s := range statements {
			plan, pages := measure(t, conn, fmt.Sprintf("execute asked_%d%s", i, literals(s.args)))
			if most := 50 + 4*s.question.Rows; pages > most {
				t.Errorf("%s, %s: %d pages read, want at most %d\n%s\n%v\n%s", s.question.Name, when, pages, most, s.text, s.args, plan)
			}
		}
	}
	look("planned when the store was empty")
	run("set plan_cache_mode = force_custom_plan")
	look("planned without statistics")
	run("set plan_cache_mode = force_generic_plan")
	for i, s := range statements {
		run(fmt.Sprintf("deallocate asked_%d", i))
		run(fmt.Sprintf("prepare asked_%d as %s", i, s.text))
	}
	look("planned without statistics for any arguments")
	run("analyze")
	look("planned with statistics for any arguments")
	run("set plan_cache_mode = force_custom_plan")
	look("planned with statistics")
}

// connections are such as the store's writer has.
func connections(t *testing.T, db database) *sql.DB {
	t.Helper()
	var writers driver.Connector
	s := storetest.Serve(t, db, func(c driver.Connector) driver.Connector {
		if writers == nil {
			writers = c
		}
		return c
	})
	must(t, s.Stop())
	raw := sql.OpenDB(writers)
	t.Cleanup(func() { _ = raw.Close() })
	return raw
}

// collect has the store of another database, which has a crowd, asked everything.
func collect(t *testing.T, like database) (all []asked) {
	t.Helper()
	db := databaseAt(t, like.server)
	storetest.Create(t, db)
	raw, err := db.SQL()
	must(t, err)
	defer raw.Close()
	must(t, storetest.Crowd(t.Context(), raw, "int8send(i)"))
	must(t, errOf(raw.ExecContext(t.Context(), "analyze")))
	faults := &storetest.Faults{}
	s := storetest.Serve(t, db, faults.Wrap)
	known := map[string]bool{}
	key, err := hex.DecodeString("0000000000000001")
	must(t, err)
	for _, q := range storetest.Questions(key) {
		faults.Watch(func(text string, args []driver.NamedValue) {
			if verb, _, _ := strings.Cut(text, " "); slices.Contains([]string{"select", "update", "insert", "delete"}, verb) && !known[text] {
				known[text] = true
				all = append(all, asked{q, text, args})
			}
		})
		if err := s.Update(t.Context(), q.Ask); err != nil {
			t.Fatalf("%s: %v", q.Name, err)
		}
		faults.Watch(nil)
	}
	if len(all) < 25 {
		t.Fatalf("only %d statements", len(all))
	}
	return all
}

// literals are the arguments as a statement has them.
func literals(args []driver.NamedValue) string {
	if len(args) == 0 {
		return ""
	}
	all := make([]string, len(args))
	for i, arg := range args {
		switch v := arg.Value.(type) {
		case []byte:
			all[i] = fmt.Sprintf(`'\x%x'`, v)
		case string:
			all[i] = "'" + strings.ReplaceAll(v, "'", "''") + "'"
		default:
			all[i] = fmt.Sprint(v)
		}
	}
	return "(" + strings.Join(all, ", ") + ")"
}

// measure runs a statement, undoes it, and counts the pages that it read.
func measure(t *testing.T, conn *sql.Conn, text string) (plan string, pages int) {
	t.Helper()
	must(t, errOf(conn.ExecContext(t.Context(), "begin")))
	defer func() { must(t, errOf(conn.ExecContext(context.WithoutCancel(t.Context()), "rollback"))) }()
	plan = explain(t, conn, "explain (analyze, buffers, costs off, timing off, summary off, format json) "+text)
	var told []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	must(t, json.Unmarshal([]byte(plan), &told))
	return plan, told[0].Plan.Hit + told[0].Plan.Read
}

func explain(t *testing.T, conn *sql.Conn, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rows, err := conn.QueryContext(ctx, text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	defer rows.Close()
	var all strings.Builder
	for rows.Next() {
		var line string
		must(t, rows.Scan(&line))
		all.WriteString(line + "\n")
	}
	must(t, rows.Err())
	return all.String()
}

func errOf(_ sql.Result, err error) error { return err }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
