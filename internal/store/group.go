package store

import (
	"errors"
	"time"

	"github.com/daypass/daypass/internal/lease"
)

// group is what one transaction holds beside its rows: the leaves that its members appended, the tallies that
// they moved, and what was read once for all of them. It is thrown away with the transaction.
type group struct {
	writer *writer
	number int64 // among the groups of this process
	full   bool  // the disk is full: only ends of leases are recorded
	wrote  bool  // a member has written
	leaves []leaf
	tree   tree // the ledger's tree after finish

	bases   map[Scope]Tally  // tallies as stored, where someone asked
	deltas  map[Scope]*Tally // what the group adds to them
	journal []moved          // how deltas came to be, to undo one member's part

	sweep   int       // how many used IDs may be forgotten, of those that count no more since sweepTo
	sweepTo time.Time // zero where nobody used one up

	careful bool     // every statement at once and every member behind a savepoint
	queued  []queued // writes that were not sent yet
	missed  bool     // one of them did not do what it should

	seen seen // what was read once for all members

	rotation *Rotation // the change of the ledger's key that a member asked for

	after []func() // what becomes true with the commit

	farewell bool // this process goes: nobody is to ask for it any more

	broken  error // the first error that ended the transaction
	spoiled error // the first that left nothing to do but go back to the last savepoint
}

// leaf is an entry that waits for the end of its group.
type leaf struct {
	bytes    []byte
	previous int64
}

// seen is what every member asks for and few change. An only owner of a database keeps it from group to group.
type seen struct {
	locks     *[]Lock   // the locks that stand, nil until read
	locksFrom time.Time // those that stand from then on
	active    *string   // the active revision, nil until read
}

// moved is one change of a tally.
type moved struct {
	scope    Scope
	from, to lease.State
}

func newGroup(w *writer, careful bool) *group {
	w.groups++
	return &group{writer: w, careful: careful, number: w.groups, full: w.full, tree: w.tree, seen: w.seen, bases: map[Scope]Tally{}, deltas: map[Scope]*Tally{}}
}

// note remembers an error after which the transaction cannot be committed.
func (g *group) note(err error) {
	switch refused := g.writer.store.dialect.Classify(err) == Refused; {
	case !refused && g.broken == nil:
		g.broken = err
	case refused && g.spoiled == nil:
		g.spoiled = err
	}
}

// verdictOf is what an error says of a transaction that was not committed.
func (g *group) verdictOf(err error) verdict {
	switch g.writer.store.dialect.Classify(err) {
	case Full:
		return noRoom
	case Refused:
		return split
	default:
		return undone
	}
}

// run calls the members' functions. Without care, the first that fails after writing asks for a redo.
func (g *group) run(tx *Tx, members []*mutation) (verdict, error) {
	for _, m := range members {
		if g.careful {
			if err := g.runCarefully(tx, m); err != nil {
				return g.verdictOf(err), err
			}
		} else {
			tx.renew()
			m.err = g.writer.call(tx, m)
			if (m.err != nil && tx.dirty || g.spoiled != nil || g.missed) && g.broken == nil {
				return redo, nil
			}
			g.wrote = g.wrote || tx.dirty
		}
		if g.broken != nil {
			return g.verdictOf(g.broken), g.broken
		}
	}
	return done, nil
}

// runCarefully calls one member's function behind a savepoint. Its own error is only that the savepoint failed.
func (g *group) runCarefully(tx *Tx, m *mutation) error {
	if _, err := tx.exec("savepoint member"); err != nil {
		return err
	}
	tx.renew()
	before := g.mark()
	m.err = g.writer.call(tx, m)
	if g.broken != nil {
		return nil // the caller looks at it
	}
	if m.err == nil {
		m.err = g.spoiled // passed over, but what it did is undone
	}
	if m.err != nil && (tx.dirty || g.spoiled != nil) {
		g.spoiled = nil
		g.undo(before)
		if _, err := tx.exec("rollback to savepoint member"); err != nil {
			return err
		}
	}
	g.wrote = g.wrote || m.err == nil && tx.dirty
	_, err := tx.exec("release savepoint member")
	return err
}

// mark is how far the group has come.
type mark struct {
	leaves, journal, after int
	rotation               *Rotation
}

func (g *group) mark() mark { return mark{len(g.leaves), len(g.journal), len(g.after), g.rotation} }

// undo forgets what came after a mark.
func (g *group) undo(to mark) {
	for _, m := range g.journal[to.journal:] {
		g.deltas[m.scope].add(m.to, -1)
		g.deltas[m.scope].add(m.from, 1)
	}
	g.leaves, g.journal, g.after = g.leaves[:to.leaves], g.journal[:to.journal], g.after[:to.after]
	g.seen, g.rotation = seen{}, to.rotation
}

func (g *group) count(scope Scope, from, to lease.State) {
	delta := g.deltas[scope]
	if delta == nil {
		delta = &Tally{}
		g.deltas[scope] = delta
	}
	delta.add(from, -1)
	delta.add(to, 1)
	g.journal = append(g.journal, moved{scope, from, to})
}

// finish writes what the group holds for all its members: the tallies and the ledger.
func (g *group) finish(tx *Tx) (verdict, error) {
	err := g.writeTallies(tx)
	if err == nil {
		err = g.sweepSpent(tx)
	}
	if err == nil {
		err = g.writeLedger(tx)
	}
	if err == nil && g.signs(tx.store) {
		err = tx.sign(tx.store.Boot())
	}
	if err == nil {
		err = tx.flush()
	}
	if err == nil {
		return done, nil
	}
	if g.broken != nil {
		err = errors.Join(err, g.broken)
		return g.verdictOf(g.broken), err
	}
	if !g.careful {
		return redo, nil // a member's write that waited for this may be what was refused
	}
	return split, err
}

// signs reports whether the group is one that others may ask for.
func (g *group) signs(s *Store) bool {
	return !s.dialect.Sole() && !g.farewell && s.Boot() > 0 // no boot yet: the group that makes it joins
}

// renew readies the transaction for the next member.
func (tx *Tx) renew() {
	tx.dirty, tx.decided, tx.committed = false, "", [32]byte{}
}
