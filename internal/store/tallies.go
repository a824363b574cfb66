package store

import (
	"database/sql"
	"errors"
	"time"

	"github.com/daypass/daypass/internal/lease"
)

// Scope is a set of leases that is counted. These are counted: a role, a principal (IssuerURL and Subject), a
// role and a principal together, and a target. Everything else counts nothing.
type Scope struct {
	Target    string
	Role      string
	IssuerURL string
	Subject   string
}

// Tally counts the leases of a scope whose credentials may live. Pending is told of targets only: elsewhere
// pending leases are among the active ones.
type Tally struct {
	Pending, Active, Revoking int
}

// Live is how many credentials of the scope may exist at targets now. A revoking one counts: it may still work.
func (t Tally) Live() int { return t.Pending + t.Active + t.Revoking }

func (t *Tally) add(state lease.State, n int) {
	switch state {
	case lease.Pending:
		t.Pending += n
	case lease.Active:
		t.Active += n
	case lease.Revoking:
		t.Revoking += n
	}
}

// Scopes are the four that a lease is counted in.
func (l *Lease) Scopes() [4]Scope {
	return [4]Scope{
		{Target: l.Target},
		{Role: l.Role},
		{IssuerURL: l.IssuerURL, Subject: l.Subject},
		{Role: l.Role, IssuerURL: l.IssuerURL, Subject: l.Subject},
	}
}

// count moves a lease from one state's tally to another's. The group writes its sums at its end: the leases of a
// group mostly share their scopes.
//
// Only of a target is it asked how many are pending. In the other scopes these count as active, so that a grant's
// outcome does not touch their rows.
func (tx *Tx) count(l *Lease, from, to lease.State) {
	for _, scope := range l.Scopes() {
		if was, is := scope.Counts(from), scope.Counts(to); was != is {
			tx.group.count(scope, was, is)
		}
	}
}

// Counts is what the scope counts a lease in a state as.
func (s Scope) Counts(state lease.State) lease.State {
	if state == lease.Pending && s.Target == "" {
		return lease.Active
	}
	return state
}

// Tally counts a scope, with what this transaction and its group have done so far.
func (tx *Tx) Tally(scope Scope) (Tally, error) {
	if tx.group == nil {
		return tx.storedTally(scope)
	}
	base, ok := tx.group.bases[scope]
	if !ok {
		var err error
		if base, err = tx.storedTally(scope); err != nil {
			return Tally{}, err
		}
		tx.group.bases[scope] = base
	}
	if delta := tx.group.deltas[scope]; delta != nil {
		base.Pending += delta.Pending
		base.Active += delta.Active
		base.Revoking += delta.Revoking
	}
	return base, nil
}

// Live is how many leases of the scope may live; see [Tally.Live].
func (tx *Tx) Live(scope Scope) (int, error) {
	tally, err := tx.Tally(scope)
	return tally.Live(), err
}

func (tx *Tx) storedTally(scope Scope) (t Tally, err error) {
	// A group writes its tallies at its end, so that none waits to be sent.
	err = tx.oneRowAside(`select pending, active, revoking from tallies
		where target = $1 and role = $2 and issuer_url = $3 and subject = $4`,
		[]any{scope.Target, scope.Role, scope.IssuerURL, scope.Subject},
		func(scan func(...any) error) error { return scan(&t.Pending, &t.Active, &t.Revoking) })
	if errors.Is(err, sql.ErrNoRows) {
		return Tally{}, nil
	}
	return t, failed("count leases", err)
}

// tallyBatch is how many tallies one statement adds: as many as the scopes of one lease.
const tallyBatch = 4

var (
	addTally   = addTallies(1)
	addTallyx4 = addTallies(tallyBatch)
)

// addTallies is the statement that adds to n tallies.
func addTallies(n int) string {
	return `insert into tallies (target, role, issuer_url, subject, pending, active, revoking) values ` + tuples(n, 7) + `
		on conflict (subject, issuer_url, target, role) do update set
		pending = tallies.pending + excluded.pending, active = tallies.active + excluded.active,
		revoking = tallies.revoking + excluded.revoking`
}

const (
	dropTally = `delete from tallies where target = $1 and role = $2 and issuer_url = $3 and subject = $4
		and pending = 0 and active = 0 and revoking = 0`
)

// writeTallies adds the group's sums. A row that may have become empty is deleted, so that principals of the past
// leave nothing behind.
func (g *group) writeTallies(tx *Tx) error {
	var sums []any
	var fallen []Scope
	for scope, d := range g.deltas {
		if *d == (Tally{}) {
			continue
		}
		sums = append(sums, scope.Target, scope.Role, scope.IssuerURL, scope.Subject, d.Pending, d.Active, d.Revoking)
		if d.Live() < 0 { // one that grew is not empty
			fallen = append(fallen, scope)
		}
	}
	for len(sums) > 0 {
		text, n := addTally, 7
		if len(sums) >= 7*tallyBatch {
			text, n = addTallyx4, 7*tallyBatch
		}
		if err := tx.put(text, sums[:n]...); err != nil {
			return failed("write the tallies", err)
		}
		sums = sums[n:]
	}
	for _, scope := range fallen {
		if err := tx.put(dropTally, scope.Target, scope.Role, scope.IssuerURL, scope.Subject); err != nil {
			return failed("write the tallies", err)
		}
	}
	return nil
}

// TargetTally counts the leases of one target.
type TargetTally struct {
	Target string
	Tally
	OldestRevoking time.Time // when the lease that is revoking for longest ended; zero where none is
}

// Targets returns the tally of every target that has leases which may live.
func (tx *Tx) Targets() ([]TargetTally, error) {
	var all []TargetTally
	err := tx.each(`select t.target, t.pending, t.active, t.revoking, coalesce((select min(l.ended_at) from (
			select ended_at from leases where state = 'revoking' and target = t.target order by wake limit 1000) l), 0)
		from tallies t where t.target > '' and t.role = '' and t.issuer_url = '' and t.subject = '' order by t.target`, nil,
		func(rows *sql.Rows) error {
			var t TargetTally
			var oldest int64
			err := rows.Scan(&t.Target, &t.Pending, &t.Active, &t.Revoking, &oldest)
			t.OldestRevoking = instant(oldest)
			all = append(all, t)
			return err
		})
	return all, failed("count leases by target", err)
}
