package storetest

import (
	"context"
	"database/sql/driver"
	"errors"
	"sync"
)

// ErrInjected is what an injected fault answers. No dialect knows it, so that a commit which answers it is of
// unknown outcome.
var ErrInjected = errors.New("injected fault")

// Fault is what happens to one statement.
type Fault int

// The faults.
const (
	None       Fault = iota
	NotDone          // it fails and did not happen
	DoneLost         // it happens, and its answer is lost
	KilledNow        // the process dies before it
	KilledThen       // the process dies after it
)

// Faults sits between the store and its driver and decides the fate of every statement that is executed or
// queried, in the order in which they come.
type Faults struct {
	// Kill ends the process, for KilledNow and KilledThen.
	Kill func()

	mu     sync.Mutex
	decide func(text string) Fault
	watch  func(text string, args []driver.NamedValue)
}

// Watch sets what is shown every statement that is executed or queried from now on, with its arguments, one call at a
// time; nil for nothing.
func (f *Faults) Watch(watch func(text string, args []driver.NamedValue)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watch = watch
}

// Decide sets what decides from now on; nil lets everything pass. It is called with the statement's text, one call
// at a time.
func (f *Faults) Decide(decide func(text string) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.decide = decide
}

// Wrap goes around a connector.
func (f *Faults) Wrap(c driver.Connector) driver.Connector { return &faultyConnector{c, f} }

func (f *Faults) next(text string, args []driver.NamedValue) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watch != nil {
		f.watch(text, args)
	}
	if f.decide == nil {
		return None
	}
	return f.decide(text)
}

// through runs a statement with its fate.
func through[T any](f *Faults, text string, args []driver.NamedValue, run func() (T, error)) (result T, err error) {
	fate := f.next(text, args)
	switch fate {
	case NotDone:
		return result, ErrInjected
	case KilledNow:
		f.Kill()
	}
	result, err = run()
	switch fate {
	case DoneLost:
		var lost T
		return lost, ErrInjected
	case KilledThen:
		f.Kill()
	}
	return result, err
}

type faultyConnector struct {
	driver.Connector
	faults *Faults
}

func (c *faultyConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &faultyConn{conn, c.faults}, nil
}

// faultyConn passes on what database/sql asks of a connection. The drivers in question have all of it.
type faultyConn struct {
	driver.Conn
	faults *Faults
}

func (c *faultyConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	stmt, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	return &faultyStmt{stmt, text, c.faults}, nil
}

func (c *faultyConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

func (c *faultyConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	return through(c.faults, text, args, func() (driver.Result, error) {
		return c.Conn.(driver.ExecerContext).ExecContext(ctx, text, args)
	})
}

func (c *faultyConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	return through(c.faults, text, args, func() (driver.Rows, error) {
		return c.Conn.(driver.QueryerContext).QueryContext(ctx, text, args)
	})
}

type faultyStmt struct {
	driver.Stmt
	text   string
	faults *Faults
}

func (s *faultyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return through(s.faults, s.text, args, func() (driver.Result, error) {
		return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
	})
}

func (s *faultyStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return through(s.faults, s.text, args, func() (driver.Rows, error) {
		rows, err := s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
		return rows, err
	})
}
