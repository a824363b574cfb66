package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Where several processes write to one database, they pass a baton: the lock of the row that holds the ledger's
// head, taken first in every group and given back with its commit. So all groups of all processes are in one order,
// which is the ledger's, and what a group has checked (locks, limits, the revision) is still so when it commits.
// Nobody can append to a tree that is not the newest: whoever holds the baton has just read it.
//
// A process that stops while it holds the baton loses it with its connection: the database ends a transaction that
// nobody works on.

const (
	groupTime   = 15 * time.Second // how long a group may take over a network
	settleTime  = time.Minute      // how long to ask what became of a commit
	settlePause = 200 * time.Millisecond
	beatEvery   = 2 * time.Second
	deadAfter   = 30 * time.Second // a process that has shown no life for so long has ended, or must begin again
)

// takeBaton waits for the baton and catches up with the tree that others have grown.
func (w *writer) takeBaton(ctx context.Context) (*Tx, error) {
	if err := w.session.begin(ctx, w.store.dialect.Writer(), w.store.dialect.Begin()); err != nil {
		return nil, err
	}
	tx := &Tx{ctx: ctx, store: w.store, session: w.session}
	var size int64
	err := tx.one(`select size from ledger_head where id = 1 for update`, nil, &size)
	if errors.Is(err, sql.ErrNoRows) && w.tree.size == 0 { // the group that makes the head
		return tx, nil
	}
	if err != nil || size == w.tree.size {
		return tx, err
	}
	grown, err := tx.loadTree()
	if err == nil {
		w.tree = grown
	}
	return tx, err
}

// followKey makes sure that this process signs with the key that signs the ledger.
func (w *writer) followKey(tx *Tx) error {
	if w.store.Signer() == nil { // a store that is not open signs nothing
		return nil
	}
	key, err := tx.meta(metaKey)
	if err != nil || key == "" || key == w.store.Signer().VerifierKey() {
		return err
	}
	return w.succeed(tx, key)
}

// succeed takes over the key that another process has made sign the ledger.
func (w *writer) succeed(tx *Tx, key string) error {
	if w.store.next == nil {
		return fmt.Errorf("%w: another process has made %s sign the ledger", ErrWrongKey, key)
	}
	signer, err := w.store.next(tx)
	if err == nil && signer.VerifierKey() != key {
		err = fmt.Errorf("%w: the ledger is signed with %s, and the key found is %s", ErrWrongKey, key, signer.VerifierKey())
	}
	if err != nil {
		return fmt.Errorf("follow the rotation of the ledger's key: %w", err)
	}
	w.store.signer.Store(signer)
	return nil
}

// join puts this process on the list of those that live.
func (tx *Tx) join(boot int64) error {
	if tx.store.dialect.Sole() {
		return nil
	}
	_, err := tx.write(`delete from replicas where seen_at < ` + tx.deadline())
	if err == nil {
		err = tx.sign(boot)
	}
	return err
}

// sign writes that this process has come as far as this group. One that was taken for dead is back on the list: the
// leases it was granting have ended meanwhile, and it notices with each.
func (tx *Tx) sign(boot int64) error {
	err := tx.put(`insert into replicas (boot, name, last_group, lists_actors, seen_at) values ($1, $2, $3, 1, `+tx.store.dialect.Clock()+`)
		on conflict (boot) do update set last_group = excluded.last_group, seen_at = excluded.seen_at`,
		boot, tx.store.name, tx.group.number)
	return failed("write that this process lives", err)
}

// settle finds out what became of a group whose commit was not answered. The baton cannot be had before the
// database is done with it, and then this process's own row tells which group was its last.
func (w *writer) settle(g *group, cause error) (verdict, error) {
	if w.store.dialect.Sole() || w.store.Boot() == 0 {
		return unknown, cause
	}
	w.store.log.Warn("the answer to a commit was lost; asking the database", "err", cause)
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	for {
		w.session.close()
		last, err := w.lastGroup(ctx)
		switch {
		case err == nil && last == g.number:
			return done, nil
		case err == nil:
			return undone, cause
		case errors.Is(err, sql.ErrNoRows):
			return unknown, fmt.Errorf("this process was taken for dead meanwhile: %w", cause)
		}
		timer := time.NewTimer(settlePause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return unknown, errors.Join(cause, err)
		}
	}
}

// lastGroup asks which group of this process was its last. It writes and commits, because what it reads may not be
// durable yet: a commit that gave up waiting for a standby can be seen, and is lost when the standby takes over. The
// commit here is answered when everything before it is safe.
func (w *writer) lastGroup(ctx context.Context) (last int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, groupTime) // an answer may get lost here too
	defer cancel()
	tx, err := w.takeBaton(ctx)
	if err != nil {
		return 0, err
	}
	err = tx.one(`update replicas set seen_at = `+w.store.dialect.Clock()+` where boot = $1 returning last_group`, []any{w.store.Boot()}, &last)
	if err == nil {
		_, err = w.session.exec(ctx, "commit")
	}
	if err != nil {
		w.session.close() // ends the transaction
	}
	return last, err
}

// heartbeat fires when this process should show that it lives; never where nobody else looks.
func (w *writer) heartbeat() (<-chan time.Time, func()) {
	if w.store.dialect.Sole() {
		return nil, func() {}
	}
	ticker := time.NewTicker(beatEvery)
	return ticker.C, ticker.Stop
}

// showLife is an update that changes nothing but what every group writes; see group.sign.
func showLife(tx *Tx) error {
	tx.dirty = true
	return nil
}

// leave takes this process off the list: what it began has ended, and nobody needs to wait for it.
func (w *writer) leave() error {
	if w.store.dialect.Sole() {
		return nil
	}
	m := &mutation{done: make(chan error, 1), fn: func(tx *Tx) error {
		tx.group.farewell = true
		_, err := tx.write(`delete from keepers where boot = $1`, tx.store.Boot())
		if err == nil {
			_, err = tx.write(`delete from replicas where boot = $1`, tx.store.Boot())
		}
		return err
	}}
	if err := w.process([]*mutation{m}); err != nil {
		return err
	}
	if err := <-m.done; err != nil {
		w.store.log.Warn("leave the store; others will notice in a while", "err", err)
	}
	return nil
}

// alone refuses what can be done only while no process has the store open.
func (tx *Tx) alone() error {
	var living int
	err := tx.one(`select count(*) from replicas where seen_at > `+tx.deadline(), nil, &living)
	if err == nil && living > 0 {
		err = fmt.Errorf("%w: %d servers have it open; stop them, and try again after %v", ErrInUse, living, deadAfter)
	}
	return failed("look for others that have the store open", err)
}

// deadline is the expression of the time before which a process must have shown life to be taken for dead.
func (tx *Tx) deadline() string {
	return tx.store.dialect.Clock() + " - " + strconv.FormatInt(deadAfter.Microseconds(), 10)
}
