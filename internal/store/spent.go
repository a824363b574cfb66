package store

import (
	"crypto/sha256"
	"database/sql"
	"errors"
	"time"
)

// spentSweep is how many rows that mean nothing any more a group deletes for each [Tx.Spend]: more than it makes, so that the
// table holds what may still come back and little else, and nobody has to sweep it.
const spentSweep = 2

// Spend uses up an ID of a kind, until a time from which nobody takes it anyway, and reports whether that was the
// first time. What the rest of the transaction does happens if and only if the ID is used up: of two that use it at
// once, at whichever servers, one is the first.
func (tx *Tx) Spend(kind, id string, now, until time.Time) (first bool, err error) {
	const op = "use up an ID"
	if !until.After(now) {
		return false, nil // nobody takes it any more
	}
	hash := sha256.Sum256([]byte(id))
	first, err = tx.change(`insert into spent (kind, id, until) values ($1, $2, $3)
		on conflict (kind, id) do update set until = excluded.until where spent.until <= $4`,
		kind, hash[:], micros(until), micros(now))
	if err != nil || !first {
		return false, failed(op, err)
	}
	tx.group.sweep += spentSweep
	if now.After(tx.group.sweepTo) {
		tx.group.sweepTo = now
	}
	return true, nil
}

// sweepSpent deletes what nobody takes any more, once for all members.
func (g *group) sweepSpent(tx *Tx) error {
	if g.sweep == 0 {
		return nil
	}
	return failed("forget used IDs", tx.put(`delete from spent where until <= $1 and (kind, id) in
		(select kind, id from spent where until <= $1 order by until limit $2)`, micros(g.sweepTo), g.sweep))
}

// Spent reports whether an ID of a kind was used up.
func (tx *Tx) Spent(kind, id string, now time.Time) (bool, error) {
	hash := sha256.Sum256([]byte(id))
	var until int64
	err := tx.one(`select until from spent where kind = $1 and id = $2`, []any{kind, hash[:]}, &until)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return until > micros(now), failed("look up a used ID", err)
}

// SpentRows counts the IDs that are kept, those that nobody takes any more among them.
func (tx *Tx) SpentRows() (n int64, err error) {
	err = tx.one(`select count(*) from spent`, nil, &n)
	return n, failed("count used IDs", err)
}
