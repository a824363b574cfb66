package store

import (
	"database/sql"
	"strconv"
	"strings"

	"github.com/daypass/daypass/internal/lease"
)

// metaReviewed is the revision by which all leases that lived when it was activated were looked at.
const metaReviewed = "reviewed"

// Reviewed returns the revision by which all leases were last decided again, "" where none was.
func (tx *Tx) Reviewed() (string, error) { return tx.meta(metaReviewed) }

// SetReviewed notes that all leases were decided again by a revision.
func (tx *Tx) SetReviewed(revision string) error { return tx.setMeta(metaReviewed, revision) }

// Redecide notes the decision that a lease stands on from now on, such as that of its last renewal. It is no change of
// the lease: no entry, the same version.
func (tx *Tx) Redecide(l *Lease, decision string) error {
	err := tx.put(`update leases set decision = $2 where id = $1`, string(l.ID), decision)
	if err != nil {
		return failed("note the decision of lease "+string(l.ID), err)
	}
	l.Decision = decision
	return nil
}

// inputBatch is how many inputs one statement reads: always as many, so that there is one statement.
const inputBatch = 50

// DecisionInputs returns what was asked in the decisions that leases stand on, by the lease. Leases whose decision is
// kept no more are not there.
func (tx *Tx) DecisionInputs(leases []Lease) (map[lease.ID][]byte, error) {
	inputs := make(map[lease.ID][]byte, len(leases))
	for len(leases) > 0 {
		batch := leases[:min(inputBatch, len(leases))]
		leases = leases[len(batch):]
		byDecision := make(map[string][]lease.ID, len(batch))
		args := make([]any, inputBatch)
		for i := range args {
			args[i] = "" // no decision has this ID
			if i < len(batch) {
				args[i] = batch[i].Decision
				byDecision[batch[i].Decision] = append(byDecision[batch[i].Decision], batch[i].ID)
			}
		}
		err := tx.each(inputsText, args, func(rows *sql.Rows) error {
			var id string
			var input []byte
			err := rows.Scan(&id, &input)
			for _, of := range byDecision[id] {
				inputs[of] = input
			}
			return err
		})
		if err != nil {
			return nil, failed("read the inputs of decisions", err)
		}
	}
	return inputs, nil
}

var inputsText = func() string {
	places := make([]string, inputBatch)
	for i := range places {
		places[i] = "$" + strconv.Itoa(i+1)
	}
	return `select id, input from decisions where id in (` + strings.Join(places, ", ") + `)`
}()
