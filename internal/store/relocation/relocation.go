// Package relocation moves a store from one database to another, and takes a move back.
//
// It owns the order of the steps, and promises that whatever ends them early, at no moment two databases can be
// served; that nothing is lost, since every row is read back and compared before the source is given up; and that the
// same call again goes on. Its memory does not grow with the store.
//
// It works on stores that no server has open, by package store alone: it knows the tables, and neither databases nor
// files, and must import no dialect.
package relocation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// Errors of moving a store.
var (
	ErrHalfway = errors.New("the store is marked as moved and is not there yet")
	ErrServed  = errors.New("the store has been served since it moved")
)

// Plan is a move of a store to another database. The steps are in this order, and a crash leaves what it says:
//
//  1. The destination gets the schema, and every table but the ledger's head, in pages. A crash leaves a
//     destination without a head, which is no store: nobody opens it, and the next attempt empties it.
//  2. Everything is read back and compared. A crash leaves the same.
//  3. The source is marked as moved. From here on it is served no more; a crash leaves no store that is, and the
//     next attempt takes the mark back and begins again.
//  4. The destination gets its head: it is the store. In a file it gets its name only now, so that a crash leaves
//     what step 3 does.
//
// So at no moment can both be served.
type Plan struct {
	// From and To are dialects that nobody else has meanwhile; their Alone does not wait for itself.
	From, To store.Dialect
	// FromName and ToName are references to the databases, as people are told them and as the marks keep them.
	FromName, ToName string
	// Signer opens the ledger's key as a start would.
	Signer func(*store.Tx) (*ledger.Signer, error)
	// Watch is told how far it is, after each page; nobody is where it is nil.
	Watch func(Progress)
}

// Progress is how far a move is. Every row is copied and then read back: Done ends at twice the rows.
type Progress struct {
	Verifying bool
	Table     string
	Rows      int64 // of the table, so far
	Done, All int64
}

// Moved is what was moved.
type Moved struct {
	Instance   string
	Key        string           // the verifier key that the ledger is signed with
	Checkpoint string           // of the ledger, signed
	Entries    int64            // of the ledger
	Rows       map[string]int64 // by table
}

// head is where a ledger ends.
type head struct {
	size       int64
	checkpoint string
}

// mover is a move under way.
type mover struct {
	Plan
	from, to *store.Idle
	head     head
	signer   *ledger.Signer
	instance string
	done     Progress
}

// Run moves a store, and returns after everything in the destination was verified and the source was marked.
// The destination must hold none. An error wraps [store.ErrUnknown] where nobody
// can tell whether a step was done, and [ErrHalfway] where the source is marked and the destination is not known to be
// a store.
func Run(ctx context.Context, p Plan) (Moved, error) {
	m := &mover{Plan: p, from: store.NewIdle(p.From), to: store.NewIdle(p.To)}
	defer func() { m.from.Close(); m.to.Close() }()
	if err := m.ready(ctx); err != nil {
		return Moved{}, fmt.Errorf("read %s: %w", p.FromName, err)
	}
	if err := m.clear(ctx); err != nil {
		return Moved{}, fmt.Errorf("ready %s: %w", p.ToName, err)
	}
	copied, err := m.copy(ctx)
	if err != nil {
		return Moved{}, fmt.Errorf("copy to %s: %w", p.ToName, err)
	}
	if err := m.verify(ctx, copied); err != nil {
		return Moved{}, fmt.Errorf("verify %s: %w; %s is as it was", p.ToName, err, p.FromName)
	}
	last := context.WithoutCancel(ctx) // who gives up now should have done so earlier: it is a moment, and ends in one place
	if err := mark(last, m.from, m.head, p.ToName); err != nil {
		return Moved{}, fmt.Errorf("mark %s as moved: %w", p.FromName, err)
	}
	if err := m.crown(last); err != nil {
		return Moved{}, fmt.Errorf("finish %s: %w: %w", p.ToName, ErrHalfway, err)
	}
	rows := map[string]int64{}
	for name, sum := range copied {
		rows[name] = sum.rows
	}
	return Moved{m.instance, m.signer.VerifierKey(), m.head.checkpoint, m.head.size, rows}, nil
}

// ready makes sure that the source is a sound store that nobody serves, and takes back the mark that an attempt
// before this one left.
func (m *mover) ready(ctx context.Context) error {
	if err := m.from.Migrate(ctx); err != nil {
		return err
	}
	if err := unmark(ctx, m.from, m.ToName, false); err != nil {
		return err
	}
	return m.from.View(ctx, func(rows store.Rows) (err error) {
		if err := rows.Alone(); err != nil {
			return err
		}
		if m.signer, err = m.Signer(rows.Tx); err != nil {
			return err
		}
		facts, err := rows.Examine()
		if err != nil {
			return err
		}
		if facts.Key != m.signer.VerifierKey() {
			return fmt.Errorf("%w: the store's ledger is signed with %s, and the key that is sealed in it is %s",
				store.ErrWrongKey, facts.Key, m.signer.VerifierKey())
		}
		m.instance = facts.Instance
		m.head, err = headOf(rows)
		return err
	})
}

// crown makes the destination a store, and looks at it as a start would.
func (m *mover) crown(ctx context.Context) error {
	err := m.to.Update(ctx, func(rows store.Rows) error {
		_, err := rows.Write(`insert into ledger_head (id, size, checkpoint) values (1, $1, $2)`, m.head.size, m.head.checkpoint)
		return err
	})
	if err != nil {
		return err
	}
	return m.to.View(ctx, func(rows store.Rows) error {
		_, err := rows.Examine()
		return err
	})
}

// TakeBack undoes a move after which nothing was served: the destination is marked as moved back, and then the
// source serves again. At no moment can both be served; what was interrupted is run again. To is nil where the
// destination has no store. lost says that it had one, which nobody will ever serve: then what the source knows may
// be older than what the targets hold, and its next start opens a new epoch.
func TakeBack(ctx context.Context, p Plan, lost bool) error {
	from := store.NewIdle(p.From)
	defer from.Close()
	here, err := markedAs(ctx, from, p)
	if err == nil && p.To != nil {
		err = giveUp(ctx, p, here)
	}
	if err != nil {
		return err
	}
	return unmark(ctx, from, p.ToName, lost)
}

// markedAs returns where the ledger of a source ended that was moved as planned, and refuses another one.
func markedAs(ctx context.Context, from *store.Idle, p Plan) (at head, err error) {
	err = from.View(ctx, func(rows store.Rows) error {
		moved, err := rows.MovedTo()
		if err == nil && moved != p.ToName {
			err = fmt.Errorf("%s is not marked as moved to %s: it serves as it did, and there is nothing to undo", p.FromName, p.ToName)
		}
		if err == nil {
			at, err = headOf(rows)
		}
		return err
	})
	return at, err
}

// giveUp marks the destination as moved back, unless its ledger went on from where that of the source ended.
func giveUp(ctx context.Context, p Plan, here head) error {
	to := store.NewIdle(p.To)
	defer to.Close()
	var there head
	err := to.View(ctx, func(rows store.Rows) (err error) {
		there, err = headOf(rows)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", p.ToName, err)
	case there != here:
		return fmt.Errorf("%w: the ledger of %s has %d entries and that of %s has %d; what happened there would be forgotten",
			ErrServed, p.ToName, there.size, p.FromName, here.size)
	}
	if err := mark(ctx, to, there, p.FromName); err != nil {
		return fmt.Errorf("mark %s as moved back: %w", p.ToName, err)
	}
	return nil
}

// mark says in a store, which has this head still, that it has moved.
func mark(ctx context.Context, s *store.Idle, at head, to string) error {
	return s.Update(ctx, func(rows store.Rows) error {
		if err := rows.Alone(); err != nil {
			return err
		}
		now, err := headOf(rows)
		if err == nil && now != at {
			err = fmt.Errorf("%w: a server has written to it meanwhile", store.ErrInUse)
		}
		if err != nil {
			return err
		}
		return rows.MarkMoved(to)
	})
}

// unmark takes the mark of a move back. restored says that what the store knows may be older than the world.
func unmark(ctx context.Context, s *store.Idle, to string, restored bool) error {
	moved := ""
	err := s.View(ctx, func(rows store.Rows) (err error) {
		moved, err = rows.MovedTo()
		return err
	})
	if err != nil || moved == "" { // nothing is written where there is nothing to undo
		return err
	}
	return s.Update(ctx, func(rows store.Rows) error {
		err := rows.UnmarkMoved(to)
		if err == nil && restored {
			err = rows.MarkRestored()
		}
		return err
	})
}

// headOf reads where a store's ledger ends.
func headOf(rows store.Rows) (h head, err error) {
	err = rows.One(`select size, checkpoint from ledger_head where id = 1`, nil, &h.size, &h.checkpoint)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%w: its ledger has no head", store.ErrForeign)
	}
	return h, err
}
