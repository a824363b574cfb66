package store

import (
	"context"
	"database/sql"
)

// Dialect is one opened database and all that differs between databases. Statements are not part of it: their
// text is the same everywhere.
type Dialect interface {
	// Name is the dialect as goose knows it: "sqlite3" or "postgres".
	Name() string
	// Writer and Reader give connections. The store takes one from Writer and keeps it.
	Writer() *sql.DB
	Reader() *sql.DB
	// Begin is the statement that starts a transaction that will write, Snapshot that of one that reads one moment.
	Begin() string
	Snapshot() string
	// Clock is the expression of the database's own time, in microseconds since 1970.
	Clock() string
	// Schema replaces the words BYTES, SERIAL_KEY and POSITION_KEY in the text of a migration.
	Schema(text string) string
	// Send runs writes in their order on a connection of Writer, in as few round trips as it can, and returns how many
	// rows each changed. Where the database has no pipelines it uses exec; see [OneByOne].
	Send(ctx context.Context, conn *sql.Conn, statements []Statement,
		exec func(context.Context, string, ...any) (sql.Result, error)) ([]int64, error)
	// GoOn is the query, of one number, that makes a table number new rows after those that it has, by a column that is a
	// SERIAL_KEY. It is empty where the database does so by itself.
	GoOn(table, column string) string
	// Classify says what a failed statement or commit means for what was asked.
	Classify(err error) Failure
	// Alone runs fn while no other process runs one of its own on this database.
	Alone(ctx context.Context, fn func() error) error
	// Sole reports whether no other process writes to the database, so that what this one wrote may be cached.
	Sole() bool
	// GiveRoom frees reserved space on a full disk and reports whether there was any. TakeRoom reserves it
	// again and fails where there is no room.
	GiveRoom() bool
	TakeRoom() error
	// Close closes both pools and gives up the ownership.
	Close() error
}

// Failure is what an error of the database means.
type Failure int

// The failures.
const (
	// Refused: the statement had no effect. A constraint, say. The transaction can go on from its last savepoint.
	Refused Failure = iota
	// Full: there is no room. A statement or commit that says so has not happened.
	Full
	// Undone: the transaction is lost, and a commit that says so has certainly not happened.
	Undone
	// Unclear: the transaction is lost; of a commit nobody can tell.
	Unclear
)
