package store

import (
	"context"
	"database/sql"
	"errors"
)

// Statement is a write of which nothing is asked but that it happens.
type Statement struct {
	Text string
	Args []any
}

// queued is a statement that waits for the end of its group, or for the next read: sent together they cost one
// round trip to the database, and not one each.
type queued struct {
	Statement
	rows int64 // how many rows it must change; any number where it is negative
}

// errMissed is a queued statement that changed something else than it should. Which member sent it is found by
// running them again, one statement at a time.
var errMissed = errors.New("a statement changed something else than it should")

const anyRows = -1

// put runs a write whose count is not asked for, at once or with the group's others.
func (tx *Tx) put(text string, args ...any) error {
	_, err := tx.send(anyRows, text, args)
	return err
}

// change runs a write that must change one row, and reports whether it did. With the group's others it says that it
// will, and when it does not, the group is undone and its members run again, one statement at a time.
func (tx *Tx) change(text string, args ...any) (bool, error) { return tx.send(1, text, args) }

func (tx *Tx) send(rows int64, text string, args []any) (bool, error) {
	if tx.group == nil || tx.group.careful {
		changed, err := tx.write(text, args...)
		return changed == rows, err
	}
	tx.dirty = true
	tx.group.queued = append(tx.group.queued, queued{Statement{text, plain(args)}, rows})
	return true, nil
}

// flush sends what is queued. Reads and writes that are asked for their count come after it.
func (tx *Tx) flush() error {
	g := tx.group
	if g == nil || len(g.queued) == 0 {
		return nil
	}
	all := make([]Statement, len(g.queued))
	for i, q := range g.queued {
		all[i] = q.Statement
	}
	counts, err := tx.store.dialect.Send(tx.ctx, tx.session.conn, all, tx.session.exec)
	for i := 0; err == nil && i < len(counts); i++ {
		if want := g.queued[i].rows; want != anyRows && want != counts[i] {
			g.missed = true
			err = errMissed
		}
	}
	clear(g.queued)
	g.queued = g.queued[:0]
	if err != nil && !g.missed {
		g.note(err)
	}
	return err
}

// OneByOne is how a database without pipelines sends: every statement by exec.
func OneByOne(ctx context.Context, statements []Statement, exec func(context.Context, string, ...any) (sql.Result, error)) ([]int64, error) {
	counts := make([]int64, len(statements))
	for i, s := range statements {
		result, err := exec(ctx, s.Text, s.Args...)
		if err == nil {
			counts[i], err = result.RowsAffected()
		}
		if err != nil {
			return nil, err
		}
	}
	return counts, nil
}
