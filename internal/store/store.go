// Package store keeps what Daypass knows: leases, decisions, locks, access revisions, and the ledger. A lease and
// its ledger entry are one atomic commit, in one SQL text for every database.
//
// It promises:
//
//   - [Store.Update] returns nil only after its changes are durable, and an error only when they were undone;
//     the one exception, a commit of unknown outcome, ends [Store.Run] and with it the process.
//   - Nothing but [Tx.Move] changes the state of a lease, and it changes it only as package lease allows.
//   - Limits, due work and pages cost the same with a thousand leases and with a million, and so does starting.
//
// One goroutine, the one in Run, owns the write connection. It takes what is queued, applies it in one
// transaction together with the ledger's new leaves, tree and signed checkpoint, syncs once, and releases all
// that waited. Readers use snapshots.
//
// The package imports nothing of what it serves: no target, policy or broker.
package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/ledger"
)

// Errors of opening a store. Each comes wrapped with the path and with what to do.
var (
	ErrAbsent   = errors.New("the store does not exist")
	ErrExists   = errors.New("the store exists already")
	ErrForeign  = errors.New("not a store of daypass")
	ErrDamaged  = errors.New("the store is damaged")
	ErrNewer    = errors.New("the store was written by a newer daypass")
	ErrAccess   = errors.New("wrong permissions")
	ErrInUse    = errors.New("the store is in use by another process")
	ErrWrongKey = errors.New("wrong ledger key")
	ErrTooOld   = errors.New("the database engine is too old")
)

// ErrStale says that a lease changed since it was read. It comes as [fault.Conflict].
var ErrStale = errors.New("the lease has changed since it was read")

// ErrUnknown says that a commit may or may not have happened. Run returns it; the next start finds out.
var ErrUnknown = errors.New("the outcome of a commit is unknown")

// Options are what a store needs from outside. The zero value of everything but Signer is usable.
type Options struct {
	Signer *ledger.Signer   // signs the ledger's checkpoints; the store is bound to its key
	Log    *slog.Logger     // nothing is logged where it is nil
	Now    func() time.Time // the clock of ledger entries; time.Now where it is nil
	Name   string           // of this process among those of one store, for people
	// NextSigner is asked when another process has made another key sign the ledger. Only where a database has
	// several writers.
	NextSigner func(*Tx) (*ledger.Signer, error)
	Queue      int               // how many updates may wait; 4,096 where it is 0
	Sealed     map[string][]byte // what Create puts into the new store, as [Tx.PutSealed] does; Open ignores it

	Committed func(updates int) // told after each commit how many updates shared it, by the writer: it must not block
}

// Store is an open store. Its methods may be called concurrently.
type Store struct {
	dialect  Dialect
	signer   atomic.Pointer[ledger.Signer] // changed by the writer, with the commit of a rotation
	log      *slog.Logger
	now      func() time.Time
	told     func(updates int) // Options.Committed, or nil
	instance string
	boot     atomic.Int64
	epoch    atomic.Int64

	queue   chan *mutation
	later   chan *mutation // of UpdateLater
	readers chan *session
	running atomic.Bool
	stopped chan struct{} // closed when Run has ended and nothing more will be answered
	closed  chan struct{} // closed by Close
	name    string
	next    func(*Tx) (*ledger.Signer, error)
	writer  *writer // owned by Open until Run starts, then by Run's goroutine
}

// Defaults of [Options] and the size of a group.
const (
	defaultQueue = 4096
	maxGroup     = 512
	laterGroup   = 32 // of UpdateLater: what comes meanwhile waits for no more
	readerCount  = 4
)

func (opt Options) withDefaults() Options {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Queue == 0 {
		opt.Queue = defaultQueue
	}
	return opt
}

// Instance is the name of this installation: 6 characters of lowercase base32, made when the store was.
func (s *Store) Instance() string { return s.instance }

// Boot counts how often the store was opened. It was made durable before Open returned.
func (s *Store) Boot() int64 { return s.boot.Load() }

// Epoch counts how often the store was declared to be a restored copy; see [Tx.NewEpoch].
func (s *Store) Epoch() int64 { return s.epoch.Load() }

// Waiting is how many updates are queued.
func (s *Store) Waiting() int { return len(s.queue) + len(s.later) }

// Close gives up the connections and the ownership of the store. Call it once, after Run has returned.
func (s *Store) Close() error {
	close(s.closed)
	for range readerCount {
		(<-s.readers).close()
	}
	s.writer.session.close()
	return s.dialect.Close()
}

// View runs fn on a snapshot. Its Tx reads only and ends with fn; fn must not keep it. Where the database fails it
// meanwhile, an internal error of fn is [fault.StoreUnavailable]: it goes away by trying again.
func (s *Store) View(ctx context.Context, fn func(*Tx) error) error {
	var reader *session
	select {
	case reader = <-s.readers:
	case <-ctx.Done():
		return unavailable("read the store", ctx.Err())
	case <-s.closed:
		return unavailable("read the store", errStopped)
	}
	defer func() { s.readers <- reader }()
	if err := s.beginView(ctx, reader); err != nil {
		return unavailable("read the store", err)
	}
	tx := &Tx{ctx: ctx, session: reader, store: s}
	defer func() {
		// A context that has ended must not keep the snapshot open: it would hold the log back for ever.
		brief, cancel := s.briefly(context.WithoutCancel(ctx))
		defer cancel()
		if _, err := reader.exec(brief, "rollback"); err != nil {
			reader.close()
		}
	}()
	err := fn(tx)
	if tx.lost && fault.Is(err, fault.Internal) {
		return unavailable("read the store", err)
	}
	return err
}

func (s *Store) beginView(ctx context.Context, reader *session) error {
	ctx, cancel := s.briefly(ctx)
	defer cancel()
	return reader.begin(ctx, s.dialect.Reader(), s.dialect.Snapshot())
}

// briefly bounds what takes no time, where it goes over a network: an answer that is lost there never comes, and nobody
// hangs up.
func (s *Store) briefly(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.dialect.Sole() {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, groupTime)
}

// unavailable is the answer where nothing was recorded.
func unavailable(op string, err error) error {
	return fault.Wrap(fault.StoreUnavailable, op, "the store is not available", err)
}

// session is one connection with its prepared statements. One goroutine uses it at a time.
type session struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func (c *session) open(ctx context.Context, db *sql.DB) error {
	if c.conn != nil {
		return nil
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	c.conn, c.stmts = conn, map[string]*sql.Stmt{}
	return nil
}

// begin starts a transaction. A connection that died while it was idle, as after a restart of the database, is
// simply made again: nothing was asked for on it yet.
func (c *session) begin(ctx context.Context, db *sql.DB, text string) error {
	for fresh := c.conn == nil; ; fresh = true {
		if err := c.open(ctx, db); err != nil {
			return err
		}
		_, err := c.exec(ctx, text)
		if err == nil {
			return nil
		}
		c.close() // a connection that cannot begin is of no use
		if fresh {
			return err
		}
	}
}

func (c *session) close() {
	if c.conn == nil {
		return
	}
	for _, stmt := range c.stmts {
		_ = stmt.Close() // the connection ends below, and its statements with it
	}
	// It does not go back to the pool: nobody knows what was begun on it.
	_ = c.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = c.conn.Close() // nothing is left on it that could be lost
	c.conn, c.stmts = nil, nil
}

// prepare returns the statement of a text, prepared once per connection. Texts are constants, so that the map
// stays small.
func (c *session) prepare(ctx context.Context, text string) (*sql.Stmt, error) {
	if stmt, ok := c.stmts[text]; ok {
		return stmt, nil
	}
	stmt, err := c.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	c.stmts[text] = stmt
	return stmt, nil
}

func (c *session) exec(ctx context.Context, text string, args ...any) (sql.Result, error) {
	stmt, err := c.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}
