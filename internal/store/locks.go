package store

import (
	"database/sql"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/ledger"
)

// Lock is an order that ends the leases it matches and refuses new ones. Its match fields are ANDed; at least one
// is set. It matches what principals are, not what their issuer is called: the name is for people.
type Lock struct {
	ID        string
	IssuerURL string
	Subject   string // only with IssuerURL
	Role      string
	Target    string
	Lease     lease.ID
	Issuer    string // the name of IssuerURL when the lock was placed; matches nothing

	Reason    string
	CreatedAt time.Time
	CreatedBy string
	ExpiresAt time.Time // zero: never
	LiftedAt  time.Time
	LiftedBy  string
	Hits      int // live leases that it matched when it was placed

	seq  int64
	salt []byte
}

// filter selects the leases that a lock matches.
func (k *Lock) filter() Filter {
	return Filter{IssuerURL: k.IssuerURL, Subject: k.Subject, Role: k.Role, Target: k.Target, Lease: k.Lease}
}

// Filter selects the live leases that the lock matches, for [Tx.Leases] and [Tx.Acting].
func (k *Lock) Filter() Filter {
	f := k.filter()
	f.Live = true
	return f
}

// Matches reports whether the lock matches a lease, by its principal or by one who acts for it.
func (k *Lock) Matches(l *Lease) bool { return k.filter() != (Filter{}) && k.filter().concerns(l) }

// standsAt reports whether the lock holds at a time.
func (k *Lock) standsAt(now time.Time) bool {
	return k.LiftedAt.IsZero() && (k.ExpiresAt.IsZero() || now.Before(k.ExpiresAt))
}

// forever is the expiry of a lock that has none, as the store writes it: so one comparison finds those that stand.
const forever = math.MaxInt64

const lockColumns = `seq, id, issuer, issuer_url, subject, role, target, lease, reason, created_at, created_by,
	expires_at, lifted_at, lifted_by, hits, salt`

func scanLock(scan func(...any) error) (k Lock, err error) {
	var created, expires, lifted int64
	err = scan(&k.seq, &k.ID, &k.Issuer, &k.IssuerURL, &k.Subject, &k.Role, &k.Target, &k.Lease, &k.Reason, &created,
		&k.CreatedBy, &expires, &lifted, &k.LiftedBy, &k.Hits, &k.salt)
	k.CreatedAt, k.LiftedAt = instant(created), instant(lifted)
	if expires != forever {
		k.ExpiresAt = instant(expires)
	}
	return k, err
}

// PutLock places a lock, with its entry lock.placed. From this commit on, no lease that it matches is recorded or
// activated by who asks [Tx.MatchingLock] in the same transaction.
func (tx *Tx) PutLock(k Lock) (leaf []byte, err error) {
	op := "place lock " + k.ID
	if k.filter() == (Filter{}) || k.Subject != "" && k.IssuerURL == "" {
		return nil, fault.New(fault.Invalid, op, "a lock needs something to match, and a subject its issuer")
	}
	expires := micros(k.ExpiresAt)
	if k.ExpiresAt.IsZero() {
		expires = forever
	}
	salt := ledger.NewSalt()
	_, err = tx.write(`insert into locks (id, issuer, issuer_url, subject, role, target, lease, reason, created_at,
		created_by, expires_at, lifted_at, lifted_by, hits, salt)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, '', $12, $13)`, k.ID, k.Issuer, k.IssuerURL, k.Subject,
		k.Role, k.Target, string(k.Lease), k.Reason, micros(k.CreatedAt), k.CreatedBy, expires, k.Hits, salt)
	if err != nil {
		return nil, failed(op, err)
	}
	tx.group.seen.locks = nil
	return tx.Append(ledger.Entry{Event: ledger.LockPlaced, Time: k.CreatedAt, Lock: k.ID, Lease: string(k.Lease),
		Role: k.Role, Target: k.Target, Until: k.ExpiresAt, Count: int64(k.Hits), Commitment: k.commitment(salt)})
}

// commitment binds who is locked, why and by whom: that is not for the ledger itself.
func (k *Lock) commitment(salt []byte) ledger.Hash {
	record, _ := json.Marshal([]string{k.IssuerURL, k.Subject, k.Reason, k.CreatedBy}) // strings cannot fail
	return ledger.Commit(salt, record)
}

// LiftLock ends a lock, with its entry lock.lifted. One that has been lifted is a conflict.
func (tx *Tx) LiftLock(id string, at time.Time, by string) (leaf []byte, err error) {
	op := "lift lock " + id
	changed, err := tx.write(`update locks set lifted_at = $2, lifted_by = $3 where id = $1 and lifted_at = 0`,
		id, micros(at), by)
	if err != nil {
		return nil, failed(op, err)
	}
	if changed != 1 {
		if _, err := tx.Lock(id); err != nil {
			return nil, err
		}
		return nil, fault.New(fault.Conflict, op, "the lock has been lifted already")
	}
	tx.group.seen.locks = nil
	return tx.Append(ledger.Entry{Event: ledger.LockLifted, Time: at, Lock: id})
}

// Lock returns one lock.
func (tx *Tx) Lock(id string) (k Lock, err error) {
	err = tx.oneRow(`select `+lockColumns+` from locks where id = $1`, []any{id}, func(scan func(...any) error) (err error) {
		k, err = scanLock(scan)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Lock{}, missing("read lock "+id, "lock")
	}
	return k, failed("read lock "+id, err)
}

// Locks returns a page of all locks, newest first, and the cursor of the next page, "" after the last.
func (tx *Tx) Locks(cursor string, limit int) (page []Lock, next string, err error) {
	before, err := parseSeq(cursor)
	if err != nil {
		return nil, "", fault.Wrap(fault.Invalid, "list locks", err.Error(), err)
	}
	page, err = tx.lockRows(`select `+lockColumns+` from locks where seq < $1 order by seq desc limit $2`, before, limit)
	if err != nil || len(page) < limit || limit == 0 {
		return page, "", failed("list locks", err)
	}
	return page, strconv.FormatInt(page[limit-1].seq, 36), nil
}

// ActiveLocks returns the locks that stand at a time.
func (tx *Tx) ActiveLocks(now time.Time) ([]Lock, error) {
	locks, err := tx.lockRows(`select `+lockColumns+` from locks where lifted_at = 0 and expires_at > $1 order by expires_at`,
		micros(now))
	return locks, failed("read the locks", err)
}

func (tx *Tx) lockRows(text string, args ...any) (all []Lock, err error) {
	err = tx.each(text, args, func(rows *sql.Rows) error {
		k, err := scanLock(rows.Scan)
		all = append(all, k)
		return err
	})
	return all, err
}

// MatchingLock returns a lock that stands at a time and matches a lease, and false where there is none. The locks
// are read once for a whole group of updates.
func (tx *Tx) MatchingLock(l Lease, now time.Time) (Lock, bool, error) {
	locks, err := tx.locksAt(now)
	if err != nil {
		return Lock{}, false, err
	}
	for i := range locks {
		if locks[i].standsAt(now) && locks[i].Matches(&l) {
			return locks[i], true, nil
		}
	}
	return Lock{}, false, nil
}

// locksAt returns at least the locks that stand at a time.
func (tx *Tx) locksAt(now time.Time) ([]Lock, error) {
	if tx.group == nil {
		return tx.ActiveLocks(now)
	}
	if tx.group.seen.locks == nil {
		// Callers of one group differ a little in what now is: leave none out.
		locks, err := tx.ActiveLocks(now.Add(-time.Hour))
		if err != nil {
			return nil, err
		}
		tx.group.seen.locks, tx.group.seen.locksFrom = &locks, now.Add(-time.Hour)
	}
	if now.Before(tx.group.seen.locksFrom) {
		return tx.ActiveLocks(now)
	}
	return *tx.group.seen.locks, nil
}

func parseSeq(cursor string) (int64, error) {
	if cursor == "" {
		return math.MaxInt64, nil
	}
	at, err := parseCursor(cursor + ".")
	if err != nil {
		return 0, err
	}
	return at.seq, nil
}
