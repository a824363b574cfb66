package store

import (
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/ledger"
)

// Lease is a lease as the store keeps it. State is read only: [Tx.Move] writes it.
type Lease struct {
	ID     lease.ID
	State  lease.State
	Reason lease.Reason
	Role   string
	Target string

	Issuer    string // the issuer's name in the access configuration when the lease was made
	IssuerURL string // `iss` and `sub`: what the principal is, whatever it is called
	Subject   string
	Claims    []byte // the verified payload, JSON
	Run       string // the workload's run, where its platform names one

	Decision, Revision string

	CreatedAt      time.Time
	ExpiresAt      time.Time // when the broker ends it
	RenewableUntil time.Time // the last instant that ExpiresAt may be moved to
	NativeUntil    time.Time // when the target itself ends it at the latest; never moves back
	EndedAt        time.Time // when it became revoking
	RevokedAt      time.Time // when its death was proved

	Revocation string // target.Revocation of its credential
	TokenHash  []byte // sha256 of its lease token
	KeyHash    []byte // of the Idempotency-Key, nil where there was none
	BodyHash   []byte // of the request body, beside KeyHash

	RenewByHandle bool
	Boot          int64     // the boot that made it; [Tx.InsertLease] fills it in
	Attempt       int       // how often its revocation was tried
	NextAttempt   time.Time // when to try again; set while revoking
	LastError     string    // why the last try failed; no secrets
	Version       int64     // counts its changes; every change names the one it saw

	seq    int64 // order of creation, for cursors
	wake   int64 // the column of that name
	entry  int64 // ledger position of its last entry
	linked bool  // entry is known
}

// Why says what moves a lease.
type Why struct {
	Reason lease.Reason // of the end; only with [lease.Ended]
	Now    time.Time
	Error  string    // what went wrong, where the end is a failure; no secrets
	Next   time.Time // when to revoke it for the first time, at once where it is zero; only with [lease.Ended]
}

const leaseColumns = `seq, id, state, reason, role, target, issuer, issuer_url, subject, claims, run, decision,
	revision, created_at, expires_at, renewable_until, native_until, ended_at, revoked_at, revocation, token_hash,
	key_hash, body_hash, renew_by_handle, boot, attempt, last_error, version, wake, entry`

// scanLease reads the columns of leaseColumns.
func scanLease(scan func(...any) error) (Lease, error) {
	var l Lease
	var byHandle, created, expires, renewable, native, ended, revoked int64
	err := scan(&l.seq, &l.ID, &l.State, &l.Reason, &l.Role, &l.Target, &l.Issuer, &l.IssuerURL, &l.Subject,
		&l.Claims, &l.Run, &l.Decision, &l.Revision, &created, &expires, &renewable, &native, &ended, &revoked,
		&l.Revocation, &l.TokenHash, &l.KeyHash, &l.BodyHash, &byHandle, &l.Boot, &l.Attempt, &l.LastError,
		&l.Version, &l.wake, &l.entry)
	l.CreatedAt, l.ExpiresAt, l.RenewableUntil = instant(created), instant(expires), instant(renewable)
	l.NativeUntil, l.EndedAt, l.RevokedAt = instant(native), instant(ended), instant(revoked)
	l.RenewByHandle, l.linked = byHandle == 1, true
	if l.State == lease.Revoking {
		l.NextAttempt = instant(l.wake)
	}
	return l, err
}

const insertLease = `insert into leases (id, state, reason, role, target, issuer, issuer_url, subject, claims, run,
	decision, revision, created_at, expires_at, renewable_until, native_until, ended_at, revoked_at, revocation,
	token_hash, key_hash, body_hash, renew_by_handle, boot, attempt, last_error, version, wake, live, entry)
	values ($1, $2, '', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 0, 0, $16, $17, $18, $19,
	$20, $21, 0, '', 1, $22, 1, $23)`

// InsertLease records a pending lease and its entry lease.pending, whose leaf it returns; on success *l is as it
// now stands. The entry commits to the decision that the same Tx put before, when l.Decision names it. On a full
// disk it is refused, so that what room is left serves the ends of leases.
func (tx *Tx) InsertLease(l *Lease) (leaf []byte, err error) { return tx.insertLease(l, Why{}) }

// InsertGranted is [Tx.InsertLease] and [Tx.Move] by granted in one write, with the entries of both; it returns the leaf
// of the second. It is for a credential that nobody has yet, made by a target that calls nobody.
func (tx *Tx) InsertGranted(l *Lease, now time.Time) (leaf []byte, err error) {
	return tx.insertLease(l, Why{Now: now}, lease.Granted)
}

func (tx *Tx) insertLease(l *Lease, why Why, events ...lease.Event) (leaf []byte, err error) {
	op := "record lease " + string(l.ID)
	if l.State != lease.Pending {
		return nil, failed(op, fmt.Errorf("a lease begins as %q, not %q", lease.Pending, l.State))
	}
	if tx.group != nil && tx.group.full {
		return nil, unavailable(op, errFull)
	}
	entry := ledger.Entry{Event: "lease.pending", Time: l.CreatedAt, Until: l.ExpiresAt}
	if tx.decided == l.Decision {
		entry.Commitment = tx.committed
	}
	defer tx.forgetLeavesOn(&err)()
	made := *l
	made.Version, made.Boot, made.entry, made.linked = 1, tx.store.Boot(), nowhere, true
	made.wake = micros(l.CreatedAt)
	if leaf, made.entry, err = tx.appendFor(&made, entry); err != nil {
		return nil, err
	}
	if len(events) > 0 {
		leaves, err := tx.happen(op, &made, why, events)
		if err != nil {
			return nil, err
		}
		leaf = leaves[len(leaves)-1]
	}
	err = tx.put(insertLease, string(l.ID), string(made.State), l.Role, l.Target, l.Issuer, l.IssuerURL, l.Subject,
		blob(l.Claims), l.Run, l.Decision, l.Revision, micros(l.CreatedAt), micros(l.ExpiresAt), micros(l.RenewableUntil),
		micros(l.NativeUntil), l.Revocation, blob(l.TokenHash), l.KeyHash, l.BodyHash, flag(l.RenewByHandle),
		made.Boot, made.wake, made.entry)
	if err != nil {
		return nil, failed(op, err)
	}
	if err := tx.putActors(&made); err != nil {
		return nil, failed(op, err)
	}
	tx.count(l, "", made.State)
	*l = made
	return leaf, nil
}

// What each event writes. Only the columns that change: a column that is named costs its indexes.
const (
	moveActive = `update leases set state = 'active', revocation = $3, expires_at = $4, native_until = $5, wake = $4,
		entry = $6, version = version + 1 where id = $1 and version = $2`
	moveRevoking = `update leases set state = 'revoking', reason = $3, ended_at = $4, last_error = $5, attempt = 0,
		entry = $6, wake = $7, version = version + 1 where id = $1 and version = $2`
	moveRevoked = `update leases set state = 'revoked', revoked_at = $3, wake = $3, live = 0, last_error = '',
		entry = $4, version = version + 1 where id = $1 and version = $2`
	moveDead = `update leases set state = 'revoked', reason = $3, ended_at = $4, revoked_at = $4, wake = $4, live = 0,
		attempt = 0, last_error = '', entry = $5, version = version + 1 where id = $1 and version = $2`
)

// Move applies e to the lease, with its entry in the ledger, whose leaf it returns: the only way to another state.
// It fails with [ErrStale] when the lease is not as *l has it; on success *l is as it now stands.
//
// With [lease.Granted] it also stores l.Revocation, l.ExpiresAt and l.NativeUntil, which only the grant can tell.
// [lease.Ended] makes the lease due for revocation at once.
func (tx *Tx) Move(l *Lease, e lease.Event, why Why) (leaf []byte, err error) {
	leaves, err := tx.MoveAll(l, why, e)
	if err != nil {
		return nil, err
	}
	return leaves[0], nil
}

// MoveAll is [Tx.Move] by several events at one instant: one write for the lease and one entry for each event.
// Ended and Proved together are how a credential that ended itself is put to rest.
func (tx *Tx) MoveAll(l *Lease, why Why, events ...lease.Event) (leaves [][]byte, err error) {
	op := "move lease " + string(l.ID)
	defer tx.forgetLeavesOn(&err)()
	next := *l
	if leaves, err = tx.happen(op, &next, why, events); err != nil {
		return nil, err
	}
	changed, err := tx.writeMove(l, &next)
	if err != nil {
		return nil, failed(op, err)
	}
	if !changed {
		return nil, stale(op)
	}
	if next.State == lease.Revoked {
		if err := tx.dropActors(&next); err != nil {
			return nil, failed(op, err)
		}
	}
	tx.count(l, l.State, next.State)
	next.Version++
	*l = next
	return leaves, nil
}

// happen applies events to a lease in memory, and appends the entry of each.
func (tx *Tx) happen(op string, l *Lease, why Why, events []lease.Event) (leaves [][]byte, err error) {
	for _, e := range events {
		if err := l.apply(e, why); err != nil {
			return nil, fault.Wrap(fault.Conflict, op, err.Error(), err)
		}
		leaf, position, err := tx.appendFor(l, l.entryOf(why.Now))
		if err != nil {
			return nil, err
		}
		leaves, l.entry = append(leaves, leaf), position
	}
	return leaves, nil
}

func stale(op string) error {
	return fault.Wrap(fault.Conflict, op, "the lease has changed; read it again", ErrStale)
}

// apply is the lease after an event, in memory.
func (l *Lease) apply(e lease.Event, why Why) (err error) {
	if l.State, err = lease.Next(l.State, e); err != nil {
		return err
	}
	switch l.State {
	case lease.Active:
		l.wake = micros(l.ExpiresAt)
	case lease.Revoking:
		if why.Reason == "" {
			return errors.New("a lease that ends needs a reason")
		}
		l.Reason, l.EndedAt, l.NextAttempt, l.Attempt, l.LastError = why.Reason, why.Now, why.Next, 0, why.Error
		if why.Next.IsZero() {
			l.NextAttempt = why.Now
		}
	case lease.Revoked:
		l.RevokedAt, l.NextAttempt, l.LastError = why.Now, time.Time{}, ""
	}
	return nil
}

// entryOf is the ledger's entry of the state that the lease has just reached.
func (l *Lease) entryOf(now time.Time) ledger.Entry {
	entry := ledger.Entry{Event: ledger.Event("lease." + string(l.State)), Time: now}
	switch l.State {
	case lease.Active:
		entry.Until = l.ExpiresAt
	case lease.Revoking, lease.Revoked:
		entry.Reason = string(l.Reason)
	}
	return entry
}

func (tx *Tx) writeMove(from, to *Lease) (changed bool, err error) {
	id, version := string(from.ID), from.Version
	switch {
	case to.State == lease.Active:
		return tx.change(moveActive, id, version, to.Revocation, micros(to.ExpiresAt), micros(to.NativeUntil), to.entry)
	case to.State == lease.Revoking:
		return tx.change(moveRevoking, id, version, string(to.Reason), micros(to.EndedAt), to.LastError, to.entry,
			micros(to.NextAttempt))
	case from.State == lease.Revoking:
		return tx.change(moveRevoked, id, version, micros(to.RevokedAt), to.entry)
	default:
		return tx.change(moveDead, id, version, string(to.Reason), micros(to.EndedAt), to.entry)
	}
}

// Retry notes a failed try to revoke: how many there were, when to try again, and why it failed. It is not a
// change of the lease: no entry, the same version. A lease that is no longer revoking is left alone.
func (tx *Tx) Retry(id lease.ID, attempt int, next time.Time, lastError string) error {
	// Revoking in other words: a planner without statistics would rather look among all that are revoking.
	_, err := tx.write(`update leases set attempt = $2, wake = $3, last_error = $4 where id = $1 and ended_at > 0 and revoked_at = 0`,
		string(id), attempt, micros(next), lastError)
	return failed("note a try to revoke lease "+string(id), err)
}

// Renew raises the bound of an active lease before the target is asked to move its expiry, so that a lost answer
// leaves a bound that is too late and never one too early. It never lowers the bound.
func (tx *Tx) Renew(l *Lease, nativeUntil time.Time) error {
	op := "renew lease " + string(l.ID)
	if nativeUntil.Before(l.NativeUntil) {
		nativeUntil = l.NativeUntil
	}
	if err := tx.writeActive(op, l, `update leases set native_until = $3, version = version + 1
		where id = $1 and version = $2`, micros(nativeUntil)); err != nil {
		return err
	}
	l.NativeUntil = nativeUntil
	l.Version++
	return nil
}

// Extend moves the expiry of an active lease after the target has moved its own, with the entry lease.renewed.
func (tx *Tx) Extend(l *Lease, expiresAt, now time.Time) (leaf []byte, err error) {
	op := "extend lease " + string(l.ID)
	defer tx.forgetLeavesOn(&err)()
	leaf, position, err := tx.appendFor(l, ledger.Entry{Event: "lease.renewed", Time: now, Until: expiresAt})
	if err != nil {
		return nil, err
	}
	if err := tx.writeActive(op, l, `update leases set expires_at = $3, wake = $3, entry = $4, version = version + 1
		where id = $1 and version = $2`, micros(expiresAt), position); err != nil {
		return nil, err
	}
	l.ExpiresAt, l.entry = expiresAt, position
	l.wake = micros(expiresAt)
	l.Version++
	return leaf, nil
}

// writeActive changes a lease that is active, if it is as *l has it. With its version it has its state, which is not
// asked for beside it: a planner without statistics would look among all that are active.
func (tx *Tx) writeActive(op string, l *Lease, text string, args ...any) error {
	if l.State != lease.Active {
		return stale(op)
	}
	changed, err := tx.write(text, append([]any{string(l.ID), l.Version}, args...)...)
	if err != nil {
		return failed(op, err)
	}
	if changed != 1 {
		return stale(op)
	}
	return nil
}

// forgetLeavesOn returns what takes back the leaves appended since, when *err is set by then: a caller may go on
// after an error, such as that of a stale lease among many, and no entry may tell of what was not done.
func (tx *Tx) forgetLeavesOn(err *error) func() {
	if tx.group == nil {
		return func() {}
	}
	before := len(tx.group.leaves)
	return func() {
		if *err != nil {
			tx.group.leaves = tx.group.leaves[:before]
		}
	}
}

// appendFor appends an entry about a lease, linked to the entry before.
func (tx *Tx) appendFor(l *Lease, e ledger.Entry) (leaf []byte, position int64, err error) {
	e.Lease, e.Role, e.Target, e.Decision, e.Revision = string(l.ID), l.Role, l.Target, l.Decision, l.Revision
	if !l.linked { // made up by the caller
		err := tx.one(`select entry from leases where id = $1`, []any{string(l.ID)}, &l.entry)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, 0, missing("read lease "+string(l.ID), "lease")
		}
		if err != nil {
			return nil, 0, failed("read lease "+string(l.ID), err)
		}
	}
	return tx.append(e, l.entry)
}

// Lease returns one lease.
func (tx *Tx) Lease(id lease.ID) (Lease, error) {
	return tx.findLease("read lease "+string(id), `select `+leaseColumns+` from leases where id = $1`, string(id))
}

// LeaseByKey returns the newest lease that the principal asked for with this idempotency key.
//
// It is the last of a range, and not the newest of those that are equal: a planner without statistics may look for
// these among all leases that the principal ever had, which are in order already.
func (tx *Tx) LeaseByKey(issuerURL, subject string, keyHash []byte) (Lease, error) {
	const op = "read a lease by its key"
	l, err := tx.findLease(op, `select `+leaseColumns+` from leases
		where key_hash = $1 and (issuer_url, subject, seq) <= ($2, $3, $4)
		order by issuer_url desc, subject desc, seq desc limit 1`, blob(keyHash), issuerURL, subject, int64(math.MaxInt64))
	if err == nil && (l.IssuerURL != issuerURL || l.Subject != subject) { // the one before, of somebody else
		return Lease{}, missing(op, "lease")
	}
	return l, err
}

func (tx *Tx) findLease(op, text string, args ...any) (Lease, error) {
	var l Lease
	err := tx.oneRow(text, args, func(scan func(...any) error) (err error) {
		l, err = scanLease(scan)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Lease{}, missing(op, "lease")
	}
	if err != nil {
		return Lease{}, failed(op, err)
	}
	return l, nil
}
