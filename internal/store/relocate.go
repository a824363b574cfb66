package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/daypass/daypass/ledger"
)

// Errors of moving a store. ErrMoved is one of opening it, too: it lives in another database now.
var (
	ErrMoved   = errors.New("the store has been moved")
	ErrHalfway = errors.New("the store is marked as moved and is not there yet")
	ErrServed  = errors.New("the store has been served since it moved")
)

// Where a store went, and the key that signed its ledger here. While these stand, metaKey says that it moved: no
// process of any version, not even one that has the store open and slept, signs another entry.
const (
	metaMoved    = "moved"
	metaMovedKey = "moved_key"
	movedTo      = "moved to " // what metaKey begins with then
)

// Relocation moves a store to another database. The steps are in this order, and a crash leaves what it says:
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
type Relocation struct {
	// From and To are dialects that nobody else has meanwhile; their Alone does not wait for itself.
	From, To Dialect
	// FromName and ToName are references to the databases, as people are told them and as the marks keep them.
	FromName, ToName string
	// Signer opens the ledger's key as a start would.
	Signer func(*Tx) (*ledger.Signer, error)
	// Watch is told how far it is, after each page; nobody is where it is nil.
	Watch func(Progress)
}

// Progress is how far a relocation is. Every row is copied and then read back: Done ends at twice the rows.
type Progress struct {
	Verifying bool
	Table     string
	Rows      int64 // of the table, so far
	Done, All int64
}

// Relocated is what a relocation moved.
type Relocated struct {
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

// mover is a relocation under way.
type mover struct {
	Relocation
	from, to *Store
	head     head
	signer   *ledger.Signer
	instance string
	done     Progress
}

// Relocate moves a store, and returns after everything in the destination was verified and the source was marked.
// The destination must hold none. An error wraps [ErrUnknown]
// where nobody can tell whether a step was done, and [ErrHalfway] where the source is marked and the destination is not
// known to be a store.
func Relocate(ctx context.Context, r Relocation) (_ Relocated, err error) {
	m := &mover{Relocation: r, from: beside(r.From), to: beside(r.To)}
	defer func() { m.from.rest(); m.to.rest() }()
	if err := m.ready(ctx); err != nil {
		return Relocated{}, fmt.Errorf("read %s: %w", r.FromName, err)
	}
	if err := m.clear(ctx); err != nil {
		return Relocated{}, fmt.Errorf("ready %s: %w", r.ToName, err)
	}
	copied, err := m.copy(ctx)
	if err != nil {
		return Relocated{}, fmt.Errorf("copy to %s: %w", r.ToName, err)
	}
	if err := m.verify(ctx, copied); err != nil {
		return Relocated{}, fmt.Errorf("verify %s: %w; %s is as it was", r.ToName, err, r.FromName)
	}
	last := context.WithoutCancel(ctx) // who gives up now should have done so earlier: it is a moment, and ends in one place
	if err := m.from.mark(last, m.head, r.ToName); err != nil {
		return Relocated{}, fmt.Errorf("mark %s as moved: %w", r.FromName, err)
	}
	if err := m.crown(last); err != nil {
		return Relocated{}, fmt.Errorf("finish %s: %w: %w", r.ToName, ErrHalfway, err)
	}
	rows := map[string]int64{}
	for name, sum := range copied {
		rows[name] = sum.rows
	}
	return Relocated{m.instance, m.signer.VerifierKey(), m.head.checkpoint, m.head.size, rows}, nil
}

// ready makes sure that the source is a sound store that nobody serves, and takes back the mark that an attempt
// before this one left.
func (m *mover) ready(ctx context.Context) error {
	if err := m.from.migrate(ctx); err != nil {
		return err
	}
	if err := m.from.unmark(ctx, m.ToName, false); err != nil {
		return err
	}
	return m.from.View(ctx, func(tx *Tx) (err error) {
		if err := tx.alone(); err != nil {
			return err
		}
		if m.signer, err = m.Signer(tx); err != nil {
			return err
		}
		facts, err := tx.examine()
		if err != nil {
			return err
		}
		if facts.Key != m.signer.VerifierKey() {
			return fmt.Errorf("%w: the store's ledger is signed with %s, and the key that is sealed in it is %s",
				ErrWrongKey, facts.Key, m.signer.VerifierKey())
		}
		m.instance = facts.Instance
		m.head, err = tx.head()
		return err
	})
}

// crown makes the destination a store, and looks at it as a start would.
func (m *mover) crown(ctx context.Context) error {
	err := m.to.apart(ctx, func(tx *Tx) error {
		_, err := tx.write(`insert into ledger_head (id, size, checkpoint) values (1, $1, $2)`, m.head.size, m.head.checkpoint)
		return err
	})
	if err != nil {
		return err
	}
	return m.to.View(ctx, func(tx *Tx) error {
		_, err := tx.examine()
		return err
	})
}

// TakeBack undoes a relocation after which nothing was served: the destination is marked as moved back, and then
// the source serves again. At no moment can both be served; what was interrupted is run again. To is nil where the
// destination has no store. lost says that it had one, which nobody will ever serve: then what the source knows may
// be older than what the targets hold, and its next start opens a new epoch.
func TakeBack(ctx context.Context, r Relocation, lost bool) (err error) {
	from := beside(r.From)
	defer from.rest()
	var here, there head
	err = from.View(ctx, func(tx *Tx) error {
		moved, err := tx.meta(metaMoved)
		if err == nil && moved != r.ToName {
			err = fmt.Errorf("%s is not marked as moved to %s: it serves as it did, and there is nothing to undo", r.FromName, r.ToName)
		}
		if err == nil {
			here, err = tx.head()
		}
		return err
	})
	if err != nil {
		return err
	}
	if r.To != nil {
		to := beside(r.To)
		defer to.rest()
		moved := ""
		err := to.View(ctx, func(tx *Tx) (err error) {
			if moved, err = tx.meta(metaMoved); err == nil {
				there, err = tx.head()
			}
			return err
		})
		switch {
		case err != nil:
			return fmt.Errorf("read %s: %w", r.ToName, err)
		case there != here:
			return fmt.Errorf("%w: the ledger of %s has %d entries and that of %s has %d; what happened there would be forgotten",
				ErrServed, r.ToName, there.size, r.FromName, here.size)
		case moved == "":
			err = to.mark(ctx, there, r.FromName)
		case moved != r.FromName:
			err = movedError(moved)
		}
		if err != nil {
			return fmt.Errorf("mark %s as moved back: %w", r.ToName, err)
		}
	}
	return from.unmark(ctx, r.ToName, lost)
}

// mark says in a store, which has this head still, that it has moved.
func (s *Store) mark(ctx context.Context, at head, to string) error {
	return s.apart(ctx, func(tx *Tx) error {
		// An update and no question, so that it takes the baton.
		rows, err := tx.write(`update ledger_head set size = size where id = 1 and size = $1 and checkpoint = $2`, at.size, at.checkpoint)
		if err == nil && rows != 1 {
			err = fmt.Errorf("%w: a server has written to it meanwhile", ErrInUse)
		}
		if err == nil {
			err = tx.alone()
		}
		if err != nil {
			return err
		}
		key, err := tx.meta(metaKey)
		for _, set := range [][2]string{{metaMoved, to}, {metaMovedKey, key}, {metaKey, movedTo + to}} {
			if err == nil {
				err = tx.setMeta(set[0], set[1])
			}
		}
		return err
	})
}

// unmark takes the mark of a move to a place back, and refuses that of a move elsewhere. A store without one is
// left as it is.
func (s *Store) unmark(ctx context.Context, to string, restored bool) error {
	moved := ""
	err := s.View(ctx, func(tx *Tx) (err error) {
		moved, err = tx.meta(metaMoved)
		return err
	})
	switch {
	case err != nil || moved == "":
		return err
	case moved != to:
		return movedError(moved)
	}
	return s.apart(ctx, func(tx *Tx) error {
		key, err := tx.meta(metaMovedKey)
		if err == nil {
			err = tx.setMeta(metaKey, key)
		}
		if err == nil && restored {
			err = tx.setMeta(metaRestored, unopened)
		}
		if err == nil {
			_, err = tx.write(`delete from meta where name in ($1, $2)`, metaMoved, metaMovedKey)
		}
		return err
	})
}

// moved refuses a store that has moved.
func (tx *Tx) moved() error {
	to, err := tx.meta(metaMoved)
	if err == nil && to != "" {
		err = movedError(to)
	}
	return err
}

func movedError(to string) error {
	return fmt.Errorf("%w to %s; name that one in `store`. The ways back: daypass store migrate --help", ErrMoved, to)
}

// MovedTo returns the place that a store was moved to, as [Relocation] named it; empty where it was not.
func MovedTo(ctx context.Context, d Dialect) (to string, err error) {
	s := beside(d)
	defer s.rest()
	err = s.View(ctx, func(tx *Tx) (err error) {
		to, err = tx.meta(metaMoved)
		return err
	})
	return to, err
}

// head reads where the ledger ends.
func (tx *Tx) head() (h head, err error) {
	err = tx.one(`select size, checkpoint from ledger_head where id = 1`, nil, &h.size, &h.checkpoint)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%w: its ledger has no head", ErrForeign)
	}
	return h, err
}

// apart runs fn in a transaction of its own, on a database that no server has open: no ledger, no group. An error
// wraps [ErrUnknown] where nobody can tell whether it was committed.
func (s *Store) apart(ctx context.Context, fn func(*Tx) error) error {
	session := s.writer.session
	if err := session.begin(ctx, s.dialect.Writer(), s.dialect.Begin()); err != nil {
		return unavailable("write the store", err)
	}
	err := fn(&Tx{ctx: ctx, store: s, session: session, group: &group{writer: s.writer}})
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

// beside is a store that is not open, for work that one goroutine does: with one reader, because whoever holds the
// database needs a connection too.
func beside(d Dialect) *Store {
	s := newStore(d, Options{})
	s.readers = make(chan *session, 1)
	s.readers <- &session{}
	return s
}

// rest closes the connections of a store that is beside, and leaves its dialect open.
func (s *Store) rest() {
	(<-s.readers).close()
	s.writer.session.close()
}
