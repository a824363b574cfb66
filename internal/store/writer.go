package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/daypass/daypass/internal/fault"
)

// mutation is one call of Update on its way through the writer.
type mutation struct {
	fn    func(*Tx) error
	state atomic.Int32
	err   error      // owned by the writer until done has been sent
	done  chan error // has room for the one answer
}

// Where a mutation is. The step out of waiting is a compare-and-set: either the writer takes it or its caller
// gives it up.
const (
	waiting int32 = iota
	taken
	abandoned
)

// errFull is the cause of what is refused on a full disk.
var errFull = errors.New("the disk is full")

// errStopped is the cause of what comes after Run has ended.
var errStopped = errors.New("the store has stopped")

// Update runs fn in a transaction and returns after the transaction is durable. An error of fn undoes what fn
// did, alone, and is returned. So does a statement that the database refuses, also where fn passes over it.
//
// fn runs on the writer's goroutine, together with the functions of other callers in one transaction, so it must
// not block or call Update or View, and it may run MORE THAN ONCE: a group runs without savepoints, and when one
// of its members fails after it wrote, all are undone and run again, each behind a savepoint. So fn assigns to
// what it captured and never adds to it.
//
// A full queue is [fault.TooMany] at once. When ctx ends before the writer has taken fn, nothing was done; after
// that Update waits for the outcome, however ctx fares. [fault.StoreUnavailable] means that nothing was done,
// except after [ErrUnknown], which ends Run.
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) error {
	const op = "update the store"
	if err := ctx.Err(); err != nil {
		return unavailable(op, err)
	}
	m := &mutation{fn: fn, done: make(chan error, 1)}
	select {
	case <-s.stopped:
		return unavailable(op, errStopped)
	default:
	}
	select {
	case s.queue <- m:
	default:
		return &fault.Error{Op: op, Kind: fault.TooMany, Public: "too many requests are waiting", RetryAfter: time.Second}
	}
	return s.await(ctx, op, m)
}

// UpdateLater is [Store.Update] for one of very many changes that nobody waits for, such as the ends of leases. These
// have a queue of their own, which waits for room instead of refusing. The writer takes from the two in turn, and of
// this one few at a time, so that who comes to the other waits for few of them, however many there are.
func (s *Store) UpdateLater(ctx context.Context, fn func(*Tx) error) error {
	const op = "update the store"
	m := &mutation{fn: fn, done: make(chan error, 1)}
	select {
	case s.later <- m:
	case <-ctx.Done():
		return unavailable(op, ctx.Err())
	case <-s.stopped:
		return unavailable(op, errStopped)
	}
	return s.await(ctx, op, m)
}

// await waits for the outcome of a mutation that is queued.
func (s *Store) await(ctx context.Context, op string, m *mutation) error {
	select {
	case err := <-m.done:
		return err
	case <-ctx.Done():
		if m.state.CompareAndSwap(waiting, abandoned) {
			return unavailable(op, ctx.Err())
		}
	case <-s.stopped:
		if m.state.CompareAndSwap(waiting, abandoned) {
			return unavailable(op, errStopped)
		}
	}
	return <-m.done
}

// Run is the writer. It returns nil after ctx has ended and what was queued has been answered, and an error when
// the process must stop: a commit whose outcome is unknown. It can run once.
func (s *Store) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("run the store: it runs or has run already")
	}
	defer close(s.stopped)
	group := make([]*mutation, 0, maxGroup)
	beat, stop := s.writer.heartbeat()
	defer stop()
	last := s.later // the queue that the last group came from
	for {
		first, from := s.pick(last)
		if first == nil {
			select {
			case first = <-s.queue:
				from = s.queue
			case first = <-s.later:
				from = s.later
			case <-beat:
				first, from = &mutation{fn: showLife, done: make(chan error, 1)}, s.queue
			case <-s.writer.roomCheck():
				s.writer.takeRoom()
				continue
			case <-ctx.Done():
				if first, from = s.pick(last); first == nil {
					return s.writer.leave()
				}
			}
		}
		last = from
		group = s.collect(group[:0], first, from)
		if err := s.writer.process(group); err != nil {
			return err
		}
		select { // also where there is always something queued
		case <-s.writer.roomCheck():
			s.writer.takeRoom()
		default:
		}
	}
}

// pick takes what is queued, first from the queue that it was not taken from last.
func (s *Store) pick(last chan *mutation) (m *mutation, from chan *mutation) {
	queues := [2]chan *mutation{s.queue, s.later}
	if last == s.queue {
		queues = [2]chan *mutation{s.later, s.queue}
	}
	for _, from := range queues {
		select {
		case m = <-from:
			return m, from
		default:
		}
	}
	return nil, nil
}

// collect takes what is queued. It lets other goroutines run once: those that the last group has just released
// are about to ask again, and without them every second group would hold one mutation.
func (s *Store) collect(group []*mutation, first *mutation, from chan *mutation) []*mutation {
	most := maxGroup
	if from == s.later {
		most = laterGroup
	}
	runtime.Gosched()
	for m := first; ; {
		if m.state.CompareAndSwap(waiting, taken) {
			group = append(group, m)
		}
		if len(group) == most {
			return group
		}
		select {
		case m = <-from:
		default:
			return group
		}
	}
}

// writer owns the write connection. One goroutine uses it.
type writer struct {
	store   *Store
	session *session
	tree    tree
	groups  int64       // how many were attempted
	seen    seen        // kept from the last group, where nobody else writes
	full    bool        // the disk was full and its reserve is not back yet
	recheck *time.Timer // when to try to take the reserve back; nil unless full
}

// roomInterval is how often a full disk is looked at again.
const roomInterval = 5 * time.Second

// roomCheck is a channel that fires when the disk should be looked at; nil, which never fires, while all is well.
func (w *writer) roomCheck() <-chan time.Time {
	if w.recheck == nil {
		return nil
	}
	return w.recheck.C
}

// takeRoom ends the time of a full disk when its reserve can be taken again.
func (w *writer) takeRoom() {
	if err := w.store.dialect.TakeRoom(); err != nil {
		w.recheck.Reset(roomInterval)
		return
	}
	w.full, w.recheck = false, nil
	w.store.log.Info("the store has room again")
}

func (w *writer) giveRoom(cause error) (another bool) {
	gave := w.store.dialect.GiveRoom()
	first := !w.full
	w.full = true
	if first {
		w.recheck = time.NewTimer(roomInterval)
		w.store.log.Error("the disk of the store is full: only ends of leases are recorded until there is room", "err", cause)
	}
	return gave || first
}

// verdict is how an attempt at a group ended.
type verdict int

const (
	done    verdict = iota // committed
	redo                   // undone; run it again behind savepoints
	noRoom                 // undone; the disk is full
	undone                 // undone; the database is unwell
	split                  // undone; the group's own records were refused, so one of its members is poison
	unknown                // nobody can tell
)

// process brings a group to its end and answers its members. An error is fatal.
func (w *writer) process(group []*mutation) error {
	careful := false
	for {
		v, err := w.attempt(group, careful)
		switch v {
		case done:
			answer(group, nil)
			return nil
		case redo:
			careful = true
			continue
		case noRoom:
			if w.giveRoom(err) {
				careful = true
				continue
			}
		case split:
			if len(group) > 1 {
				return w.processSingly(group)
			}
			answer(group, failed("update the store", err))
			return nil
		case unknown:
			answer(group, unavailable("update the store", err))
			return fmt.Errorf("commit to the store: %w: %w", ErrUnknown, err)
		}
		w.store.log.Error("the store refused a group", "err", err, "updates", len(group))
		answer(group, unavailable("update the store", err))
		return nil
	}
}

func (w *writer) processSingly(group []*mutation) error {
	for i := range group {
		if err := w.process(group[i : i+1 : i+1]); err != nil {
			answer(group[i+1:], unavailable("update the store", err))
			return err
		}
	}
	return nil
}

// answer releases the group's callers, with err where it is not nil and else with each one's own result.
func answer(group []*mutation, err error) {
	for _, m := range group {
		if err != nil {
			m.done <- err
			continue
		}
		m.done <- m.err
	}
}

// attempt runs a group in one transaction. Unless it is done, everything was undone.
func (w *writer) attempt(members []*mutation, careful bool) (verdict, error) {
	ctx, cancel := w.patience()
	defer cancel()
	if err := w.begin(ctx); err != nil {
		return undone, err
	}
	g := newGroup(w, careful)
	tx := &Tx{ctx: ctx, store: w.store, session: w.session, group: g}
	v, err := g.run(tx, members)
	if v == done && !g.wrote {
		w.keep(g)
		return w.rollback(v, err)
	}
	if v == done {
		v, err = g.finish(tx)
	}
	if v != done {
		return w.rollback(v, err)
	}
	if _, err := w.session.exec(tx.ctx, "commit"); err != nil {
		if w.store.dialect.Classify(err) == Unclear {
			v, err = w.settle(g, err)
		} else {
			v, err = w.rollback(g.verdictOf(err), err)
		}
		if v != done {
			return v, err
		}
	} else {
		w.tree = g.tree
	}
	w.keep(g)
	for _, after := range g.after {
		after()
	}
	if w.store.told != nil {
		w.store.told(len(members))
	}
	return done, nil
}

// keep takes over what a group has read or changed and brought to its end.
func (w *writer) keep(g *group) {
	if w.store.dialect.Sole() {
		w.seen = g.seen
	}
}

// patience bounds a group where its database is at the other end of a network.
func (w *writer) patience() (context.Context, context.CancelFunc) {
	if w.store.dialect.Sole() {
		return context.Background(), func() {}
	}
	return context.WithTimeout(context.Background(), groupTime)
}

func (w *writer) begin(ctx context.Context) error {
	if w.store.dialect.Sole() {
		return w.session.begin(ctx, w.store.dialect.Writer(), w.store.dialect.Begin())
	}
	tx, err := w.takeBaton(ctx)
	if err == nil {
		err = w.followKey(tx)
	}
	if err != nil {
		w.session.close() // ends the transaction
	}
	return err
}

// rollback undoes the transaction. When a database was unwell it makes sure that the ledger still ends where we
// think it does: everything we hold in memory hangs on that.
func (w *writer) rollback(v verdict, cause error) (verdict, error) {
	ctx, cancel := w.patience()
	defer cancel()
	_, err := w.session.exec(ctx, "rollback")
	if err != nil && w.store.dialect.Classify(err) != Refused {
		w.session.close() // ends the transaction for certain
	}
	if v != noRoom && v != undone || !w.store.dialect.Sole() {
		return v, cause
	}
	if err := w.session.open(ctx, w.store.dialect.Writer()); err != nil {
		return v, cause // nothing can be read; the next group begins with a new connection
	}
	size, err := (&Tx{ctx: ctx, store: w.store, session: w.session}).LedgerSize()
	if err == nil && size != w.tree.size {
		return unknown, fmt.Errorf("the ledger has %d entries instead of %d after a rollback: %w", size, w.tree.size, cause)
	}
	return v, cause
}

// call runs a member's function and turns a panic into its error: the goroutine belongs to everyone.
func (w *writer) call(tx *Tx, m *mutation) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Wrap(fault.Internal, "update the store", "", fmt.Errorf("panic: %T\n%s", p, debug.Stack()))
		}
	}()
	return m.fn(tx)
}
