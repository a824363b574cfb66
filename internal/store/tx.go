package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/daypass/daypass/internal/fault"
)

// Tx is one transaction as a caller sees it: in [Store.Update] a part of a group's, in [Store.View] a snapshot.
// It belongs to the goroutine that runs the caller's function and is dead after it.
//
// It holds the context of its transaction, as sql.Tx does, because it lives exactly as long.
type Tx struct {
	ctx     context.Context
	store   *Store
	session *session
	group   *group // nil in a View
	dirty   bool   // a statement that writes was sent
	lost    bool   // a View's database failed, and not its statement
	// commitment of the decision put last, for the entry of the lease that it allowed
	decided   string
	committed [32]byte
}

var errReadOnly = errors.New("a view cannot write")

// exec runs a statement. Its failure may end the whole group; see group.note.
func (tx *Tx) exec(text string, args ...any) (sql.Result, error) {
	result, err := tx.session.exec(tx.ctx, text, plain(args)...)
	if err != nil && tx.group != nil {
		tx.group.note(err)
	}
	return result, err
}

// write runs a statement that changes something and returns how many rows it changed.
func (tx *Tx) write(text string, args ...any) (int64, error) {
	if tx.group == nil {
		return 0, fault.Wrap(fault.Internal, "write the store", "", errReadOnly)
	}
	tx.dirty = true
	if err := tx.flush(); err != nil {
		return 0, err
	}
	result, err := tx.exec(text, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// one reads one row into dest and returns sql.ErrNoRows where there is none.
func (tx *Tx) one(text string, args []any, dest ...any) error {
	return tx.oneRow(text, args, func(scan func(...any) error) error { return scan(dest...) })
}

// oneRow is one for what needs more than a list of destinations.
func (tx *Tx) oneRow(text string, args []any, read func(scan func(...any) error) error) error {
	if err := tx.flush(); err != nil {
		return err
	}
	return tx.oneRowAside(text, args, read)
}

// oneRowAside is oneRow for what no queued write touches.
func (tx *Tx) oneRowAside(text string, args []any, read func(scan func(...any) error) error) error {
	stmt, err := tx.session.prepare(tx.ctx, text)
	if err == nil {
		err = read(stmt.QueryRowContext(tx.ctx, plain(args)...).Scan)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		tx.note(err)
	}
	return err
}

// note remembers what an error says of the transaction.
func (tx *Tx) note(err error) {
	if tx.group != nil {
		tx.group.note(err)
		return
	}
	tx.lost = tx.lost || tx.store.dialect.Classify(err) != Refused
}

// each calls scan for every row. scan must not use the transaction: the statement is still open.
func (tx *Tx) each(text string, args []any, scan func(*sql.Rows) error) (err error) {
	if err := tx.flush(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tx.note(err)
		}
	}()
	stmt, err := tx.session.prepare(tx.ctx, text)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(tx.ctx, plain(args)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// plain makes texts what every database can keep: valid UTF-8 without zero bytes. Some come from outside, such as a
// target's errors and what a caller asks for.
func plain(args []any) []any {
	for i, arg := range args {
		text, ok := arg.(string)
		if !ok || utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 {
			continue
		}
		args[i] = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	}
	return args
}

// failed gives a database error its operation and kind. Without a kind of its own it is internal: it will not
// go away by trying again.
func failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return fault.Wrap(fault.Internal, op, "", err)
}

// missing is the answer for a thing that is not there.
func missing(op, what string) error { return fault.New(fault.NotFound, op, "no such "+what) }

// micros is a time as the store writes it.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// instant is a time as the store read it.
func instant(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// flag is a boolean as the store writes it.
func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// blob keeps empty bytes from becoming NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
