package store

import (
	"database/sql"
	"errors"
	"time"

	"github.com/daypass/daypass/ledger"
)

// Decision is a decision with everything that it was made of.
type Decision struct {
	ID        string
	At        time.Time
	Revision  string
	Issuer    string
	IssuerURL string
	Subject   string
	Action    string
	Resource  string
	Outcome   string // "allow" or "deny"
	Reasons   []byte // JSON
	Input     []byte // JSON: what was asked
	Salt      []byte // of the ledger's commitment to Input; a fresh one where it is empty
	Lease     string // the lease that it allowed
	Count     int    // how many equal decisions it stands for, at least 1
}

const putDecision = `insert into decisions (id, at, revision, issuer, issuer_url, subject, action, resource, outcome,
	reasons, input, salt, lease, count) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
	on conflict (id) do update set at = excluded.at, count = excluded.count`

// PutDecision keeps a decision. For an ID that is there already it replaces time and count only: that is how equal
// denials are counted. The commitment is for the entry of a denial; the entry of a lease that names the decision
// gets it by itself when both are in one mutation, the decision first.
func (tx *Tx) PutDecision(d Decision) (commitment ledger.Hash, err error) {
	if len(d.Salt) == 0 {
		d.Salt = ledger.NewSalt()
	}
	err = tx.put(putDecision, d.ID, micros(d.At), d.Revision, d.Issuer, d.IssuerURL, d.Subject, d.Action,
		d.Resource, d.Outcome, blob(d.Reasons), blob(d.Input), d.Salt, d.Lease, max(d.Count, 1))
	if err != nil {
		return ledger.Hash{}, failed("keep decision "+d.ID, err)
	}
	tx.decided, tx.committed = d.ID, ledger.Commit(d.Salt, d.Input)
	return tx.committed, nil
}

// Decision returns one decision.
func (tx *Tx) Decision(id string) (d Decision, err error) {
	var at int64
	err = tx.one(`select id, at, revision, issuer, issuer_url, subject, action, resource, outcome, reasons, input, salt,
		lease, count from decisions where id = $1`, []any{id}, &d.ID, &at, &d.Revision, &d.Issuer, &d.IssuerURL,
		&d.Subject, &d.Action, &d.Resource, &d.Outcome, &d.Reasons, &d.Input, &d.Salt, &d.Lease, &d.Count)
	if errors.Is(err, sql.ErrNoRows) {
		return Decision{}, missing("read decision "+id, "decision")
	}
	d.At = instant(at)
	return d, failed("read decision "+id, err)
}
