package store

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/daypass/daypass/ledger"
)

// ErrBackup is an error of opening a store: the file is a backup, which has to be restored first.
var ErrBackup = errors.New("this is a backup and not a store in use")

// Facts is what a copy of a store holds.
type Facts struct {
	Instance string
	Boot     int64
	Epoch    int64
	Key      string    // the verifier key that its ledger is signed with
	Entries  int64     // of its ledger
	Last     time.Time // when the last of them happened: about when the copy was made
	Live     int       // leases that may live, as far as it knows
	Sealed   map[string][]byte
}

// Examine reads what the store holds and makes sure that it is whole: the head of its ledger is signed and is that of
// its tree, and no leaf is missing. It changes nothing.
func (r Rows) Examine() (f Facts, err error) {
	if f.Instance, err = r.meta(metaInstance); err != nil {
		return f, err
	}
	if len(f.Instance) != instanceLength {
		return f, fmt.Errorf("%w: it has no instance", ErrForeign)
	}
	if err := r.moved(); err != nil {
		return f, err
	}
	for name, into := range map[string]*int64{metaBoot: &f.Boot, metaEpoch: &f.Epoch} {
		if *into, err = r.counter(name); err != nil {
			return f, err
		}
	}
	if err := r.examineLedger(&f); err != nil {
		return f, fmt.Errorf("%w: its ledger does not hold: %w", ErrDamaged, err)
	}
	targets, err := r.Targets()
	for _, t := range targets {
		f.Live += t.Live()
	}
	if err == nil {
		f.Sealed, err = r.allSealed()
	}
	return f, err
}

// examineLedger checks the ledger by the key that the store itself names.
func (tx *Tx) examineLedger(f *Facts) (err error) {
	if f.Key, err = tx.meta(metaKey); err != nil {
		return err
	}
	verifier, err := ledger.NewVerifier(f.Key)
	if err != nil {
		return err
	}
	t, err := tx.loadTree()
	if err == nil {
		err = tx.checkTree(t, verifier)
	}
	if err != nil {
		return err
	}
	f.Entries = t.size
	var leaves int64
	if err := tx.one(`select count(*) from ledger_leaves`, nil, &leaves); err != nil {
		return err
	}
	if leaves != t.size {
		return fmt.Errorf("it has %d leaves for %d entries", leaves, t.size)
	}
	last, err := tx.Leaves(t.size-1, 1)
	if err != nil {
		return err
	}
	entry, err := ledger.ParseLeaf(last[0])
	f.Last = entry.Time
	return err
}

// counter reads a number in meta.
func (tx *Tx) counter(name string) (int64, error) {
	text, err := tx.meta(name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: its %s is %q", ErrDamaged, name, text)
	}
	return n, nil
}

// NewestEpoch is the epoch that was opened last, by whichever process.
func (tx *Tx) NewestEpoch() (int64, error) { return tx.counter(metaEpoch) }

// metaRestored says of a store that a copy took its place: unopened before the first start from the copy, and the
// time of that start from then on.
const (
	metaRestored = "restored"
	unopened     = "unopened"
)

// MarkRestored makes the store say that a copy took its place, so that the start which opens it opens a new epoch.
// Twice is as once.
func (r Rows) MarkRestored() error { return r.setMeta(metaRestored, unopened) }

// takeOver opens a new epoch when a copy took the store's place since the last start: what the targets hold may be
// newer than what the store knows, and nothing at the targets has to tell.
func (tx *Tx) takeOver() error {
	state, err := tx.meta(metaRestored)
	if err != nil || state != unopened {
		return err
	}
	if _, err := tx.NewEpoch(); err != nil {
		return err
	}
	return tx.setMeta(metaRestored, strconv.FormatInt(micros(tx.store.now()), 10))
}

// RestoredAt returns when the store was first started from a copy, the last time that happened; zero where it
// never did.
func (tx *Tx) RestoredAt() (time.Time, error) {
	text, err := tx.meta(metaRestored)
	if err != nil || text == "" || text == unopened {
		return time.Time{}, err
	}
	at, err := strconv.ParseInt(text, 10, 64)
	return instant(at), failed("read when the store was restored", err)
}
