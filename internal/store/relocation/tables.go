package relocation

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/daypass/daypass/internal/store"
)

// table is one whose rows move with the store. The columns are asked for, so that a migration of the schema needs
// no change here; a new table does.
type table struct {
	name string
	key  []string // its primary key
	// serial is that the database numbers its rows.
	serial bool
}

// tables are all but the ledger's head, which makes a database a store, and what is said of processes that live.
func tables() []table {
	return []table{
		{"meta", []string{"name"}, false},
		{"leases", []string{"seq"}, true},
		{"lease_actors", []string{"issuer_url", "subject", "lease"}, false},
		{"tallies", []string{"subject", "issuer_url", "target", "role"}, false},
		{"ledger_leaves", []string{"position"}, false},
		{"ledger_tiles", []string{"level", "n"}, false},
		{"ledger_rotations", []string{"size"}, false},
		{"decisions", []string{"seq"}, true},
		{"locks", []string{"seq"}, true},
		{"revisions", []string{"seq"}, true},
		{"issuer_keys", []string{"url"}, false},
		{"sealed", []string{"name"}, false},
		{"target_marks", []string{"name"}, false},
		{"posture", []string{"source", "id"}, false},
		{"posture_sources", []string{"source"}, false},
		{"posture_leases", []string{"source", "id", "lease"}, false},
		{"spent", []string{"kind", "id"}, false},
		{"devices", []string{"issuer_url", "name"}, false},
	}
}

// left are the tables whose rows do not move.
func left() []string { return []string{"ledger_head", "replicas", "keepers"} }

// A page is what is in memory at a time, and what is one transaction.
const (
	pageRows   = 1000
	pageBytes  = 4 << 20
	insertRows = 50    // of one statement
	clearRows  = 20000 // of one statement
)

// row is the values of a row: int64, string, []byte or nil.
type row []any

// place is a point in a table: behind the row with this key. nil is its beginning.
type place []any

// page reads rows from a place on, in the order of the key, and the place behind them; nil at the end.
func (t table) page(tx store.Rows, columns []string, from place) (page []row, next place, err error) {
	where := ""
	if from != nil {
		where = ` where (` + strings.Join(t.key, ", ") + `) > ` + tuples(1, len(t.key))
	}
	text := fmt.Sprintf(`select %s from %s%s order by %s limit %d`,
		strings.Join(append(append([]string{}, t.key...), columns...), ", "), t.name, where, strings.Join(t.key, ", "), pageRows)
	bytes, full := 0, false
	err = tx.Each(text, from, func(rows *sql.Rows) error {
		if full {
			return nil
		}
		values := make([]any, len(t.key)+len(columns))
		into := make([]any, len(values))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, value := range values {
			switch v := value.(type) {
			case nil, int64:
			case string:
				bytes += len(v)
			case []byte:
				bytes += len(v)
				if v == nil {
					values[i] = []byte{} // and not NULL
				}
			default:
				return fmt.Errorf("table %s: a value is a %T", t.name, v)
			}
		}
		page, next = append(page, values[len(t.key):]), values[:len(t.key)]
		full = bytes >= pageBytes
		return nil
	})
	if err == nil && len(page) < pageRows && !full {
		next = nil
	}
	return page, next, err
}

// insert writes rows.
func (t table) insert(tx store.Rows, columns []string, rows []row) error {
	for len(rows) > 0 {
		n := 1
		if len(rows) >= insertRows {
			n = insertRows
		}
		args := make([]any, 0, n*len(columns))
		for _, r := range rows[:n] {
			args = append(args, r...)
		}
		_, err := tx.Write(`insert into `+t.name+` (`+strings.Join(columns, ", ")+`) values `+tuples(n, len(columns)), args...)
		if err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
		rows = rows[n:]
	}
	return nil
}

// each page of a table goes to fn, in the order of the key, and each is a snapshot of its own: nobody writes
// meanwhile, and a long one would hold the database back.
func (t table) pages(ctx context.Context, s *store.Idle, fn func(tx store.Rows, columns []string, page []row) error) error {
	var columns []string
	var from place
	for {
		err := s.View(ctx, func(tx store.Rows) (err error) {
			if columns == nil {
				if columns, err = tx.Columns(t.name); err != nil {
					return err
				}
			}
			page, next, err := t.page(tx, columns, from)
			if err != nil {
				return fmt.Errorf("read table %s: %w", t.name, err)
			}
			from = next
			return fn(tx, columns, page)
		})
		if err != nil || from == nil {
			return err
		}
	}
}

// clear makes the destination an empty schema: an attempt that was cut short has left rows. What has a head is a
// store, and is not touched.
func (m *mover) clear(ctx context.Context) error {
	if err := m.to.Migrate(ctx); err != nil {
		return err
	}
	err := m.to.Update(ctx, func(tx store.Rows) error {
		var heads int
		err := tx.One(`select count(*) from ledger_head`, nil, &heads)
		if err == nil && heads > 0 {
			err = store.ErrExists
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, t := range tables() {
		keys := strings.Join(t.key, ", ")
		text := fmt.Sprintf(`delete from %s where (%s) in (select %s from %s limit %d)`, t.name, keys, keys, t.name, clearRows)
		for rows := int64(clearRows); rows == clearRows; {
			err := m.to.Update(ctx, func(tx store.Rows) (err error) {
				rows, err = tx.Write(text)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return m.to.Update(ctx, func(tx store.Rows) error {
		_, err := tx.Write(`delete from replicas`)
		if err == nil {
			_, err = tx.Write(`delete from keepers`)
		}
		return err
	})
}

// copy writes every table of the source to the destination, and returns the sums of what it read.
func (m *mover) copy(ctx context.Context) (map[string]sum, error) {
	err := m.from.View(ctx, func(tx store.Rows) error {
		for _, t := range tables() {
			var n int64
			if err := tx.One(`select count(*) from `+t.name, nil, &n); err != nil {
				return err
			}
			m.done.All += 2 * n
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	sums := map[string]sum{}
	for _, t := range tables() {
		var read sum
		m.done.Table, m.done.Rows = t.name, 0
		err := t.pages(ctx, m.from, func(_ store.Rows, columns []string, page []row) error {
			for _, r := range page {
				read.add(columns, r)
			}
			err := m.to.Update(ctx, func(tx store.Rows) error { return t.insert(tx, columns, page) })
			m.tell(len(page))
			return err
		})
		if err == nil && t.serial {
			err = m.goOn(ctx, t)
		}
		if err != nil {
			return nil, err
		}
		sums[t.name] = read
	}
	return sums, nil
}

// goOn makes the destination number new rows of a table after those that it has.
func (m *mover) goOn(ctx context.Context, t table) error {
	text := m.To.GoOn(t.name, t.key[0])
	if text == "" {
		return nil
	}
	return m.to.Update(ctx, func(tx store.Rows) error {
		var next int64
		return tx.One(text, nil, &next)
	})
}

func (m *mover) tell(rows int) {
	m.done.Rows += int64(rows)
	m.done.Done += int64(rows)
	if m.Watch != nil {
		m.Watch(m.done)
	}
}

// tuples is the text of n tuples of width parameters.
func tuples(n, width int) string {
	all := make([]string, n)
	for i := range all {
		one := make([]string, width)
		for j := range one {
			one[j] = fmt.Sprint("$", i*width+j+1)
		}
		all[i] = "(" + strings.Join(one, ", ") + ")"
	}
	return strings.Join(all, ", ")
}
