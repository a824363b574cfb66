package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Idle is a store that no server has open, in the hands of one goroutine that looks at it or moves it as a whole.
// Its tables are read and written as they are: there is no group, no entry is made in the ledger, and nothing of the
// store is kept in memory.
type Idle struct{ store *Store }

// NewIdle is a store without a server. Whether there is none is for [Rows.Alone] to find out.
func NewIdle(d Dialect) *Idle {
	s := newStore(d, Options{})
	// One reader: whoever holds the database needs a connection too.
	s.readers = make(chan *session, 1)
	s.readers <- &session{}
	return &Idle{s}
}

// Close closes the connections, and leaves the dialect open.
func (i *Idle) Close() {
	(<-i.store.readers).close()
	i.store.writer.session.close()
}

// Migrate brings the schema up to date, and refuses one of a newer daypass.
func (i *Idle) Migrate(ctx context.Context) error { return i.store.migrate(ctx) }

// View runs fn on a snapshot, as [Store.View] does.
func (i *Idle) View(ctx context.Context, fn func(Rows) error) error {
	return i.store.View(ctx, func(tx *Tx) error { return fn(Rows{tx}) })
}

// Update runs fn in a transaction of its own. An error wraps [ErrUnknown] where nobody can tell whether it was
// committed.
func (i *Idle) Update(ctx context.Context, fn func(Rows) error) error {
	s := i.store
	session := s.writer.session
	if err := session.begin(ctx, s.dialect.Writer(), s.dialect.Begin()); err != nil {
		return unavailable("write the store", err)
	}
	err := fn(Rows{&Tx{ctx: ctx, store: s, session: session, group: &group{writer: s.writer}}})
	if err == nil {
		_, err = session.exec(ctx, "commit")
		if err != nil && s.dialect.Classify(err) == Unclear {
			err = fmt.Errorf("commit to the store: %w: %w", ErrUnknown, err)
		}
	}
	if err != nil {
		session.close() // ends the transaction
	}
	return err
}

// Rows is a transaction on the tables of an idle store.
type Rows struct{ *Tx }

// One reads one row into dest and returns [sql.ErrNoRows] where there is none.
func (r Rows) One(text string, args []any, dest ...any) error { return r.one(text, args, dest...) }

// Each calls scan for every row. scan must not use the transaction: the statement is still open.
func (r Rows) Each(text string, args []any, scan func(*sql.Rows) error) error {
	return r.each(text, args, scan)
}

// Write runs a statement that changes something and returns how many rows it changed.
func (r Rows) Write(text string, args ...any) (int64, error) { return r.write(text, args...) }

// Columns returns the names of a table's columns.
func (r Rows) Columns(table string) ([]string, error) {
	stmt, err := r.session.prepare(r.ctx, `select * from `+table+` where 1 = 0`)
	if err != nil {
		return nil, err
	}
	rows, err := stmt.QueryContext(r.ctx)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	return names, errors.Join(err, rows.Err())
}

// Alone refuses a store that a server has open, with [ErrInUse]. In an Update no server can open it before the end of
// the transaction.
func (r Rows) Alone() error {
	if r.group != nil {
		// An update and no question, so that it takes the baton.
		if _, err := r.write(`update ledger_head set size = size where id = 1`); err != nil {
			return failed("take the lock of the ledger's head", err)
		}
	}
	return r.alone()
}
