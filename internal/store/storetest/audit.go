package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// Audit checks the invariants of a store whose writer is at rest: the tallies are the truth, every lease has
// exactly the entries of its life and every entry its lease, the table of actors has who acts in leases that live, and the tree is the one that was signed. db looks at
// the same database. Leases must not have been pruned.
func Audit(ctx context.Context, s *store.Store, db *sql.DB, signer *ledger.Signer) error {
	return s.View(ctx, func(tx *store.Tx) error {
		leases, err := allLeases(tx)
		if err != nil {
			return err
		}
		return errors.Join(auditTallies(ctx, db, leases), auditActors(ctx, db, leases), auditLedger(tx, signer, leases))
	})
}

func allLeases(tx *store.Tx) (map[lease.ID]store.Lease, error) {
	all := map[lease.ID]store.Lease{}
	for cursor, first := "", true; first || cursor != ""; first = false {
		page, next, err := tx.Leases(store.Filter{}, cursor, 1000)
		if err != nil {
			return nil, err
		}
		for _, l := range page {
			all[l.ID] = l
		}
		cursor = next
	}
	return all, nil
}

func auditTallies(ctx context.Context, db *sql.DB, leases map[lease.ID]store.Lease) error {
	truth := map[store.Scope]store.Tally{}
	for _, l := range leases {
		for _, scope := range []store.Scope{
			{Target: l.Target}, {Role: l.Role}, {IssuerURL: l.IssuerURL, Subject: l.Subject},
			{Role: l.Role, IssuerURL: l.IssuerURL, Subject: l.Subject},
		} {
			tally := truth[scope]
			switch l.State {
			case lease.Pending, lease.Active:
				if l.State == lease.Pending && scope.Target != "" {
					tally.Pending++ // told of targets only
				} else {
					tally.Active++
				}
			case lease.Revoking:
				tally.Revoking++
			default:
				continue
			}
			truth[scope] = tally
		}
	}
	rows, err := db.QueryContext(ctx, `select target, role, issuer_url, subject, pending, active, revoking from tallies`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var scope store.Scope
		var have store.Tally
		if err := rows.Scan(&scope.Target, &scope.Role, &scope.IssuerURL, &scope.Subject, &have.Pending, &have.Active, &have.Revoking); err != nil {
			return err
		}
		if want := truth[scope]; have != want || have.Live() == 0 {
			return fmt.Errorf("the tally of %+v is %+v and its leases are %+v", scope, have, want)
		}
		delete(truth, scope)
	}
	for scope, want := range truth {
		return fmt.Errorf("there is no tally of %+v, and its leases are %+v", scope, want)
	}
	return rows.Err()
}

func auditLedger(tx *store.Tx, signer *ledger.Signer, leases map[lease.ID]store.Lease) error {
	var leaves [][]byte
	for {
		page, err := tx.Leaves(int64(len(leaves)), 1000)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		leaves = append(leaves, page...)
	}
	if err := auditTree(tx, signer, leaves); err != nil {
		return err
	}
	lives := map[lease.ID][]ledger.Event{}
	places := map[lease.ID][]int64{}
	for i, leaf := range leaves {
		entry, err := ledger.ParseLeaf(leaf)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if id := lease.ID(entry.Lease); id != "" && entry.Lock == "" {
			lives[id] = append(lives[id], entry.Event)
			places[id] = append([]int64{int64(i)}, places[id]...)
		}
	}
	for id, life := range lives {
		l, ok := leases[id]
		if !ok {
			return fmt.Errorf("the ledger has lease %s and the store has not", id)
		}
		if err := auditLife(l, life); err != nil {
			return err
		}
		positions, err := tx.Positions(id)
		if err != nil {
			return err
		}
		if !slices.Equal(positions, places[id]) {
			return fmt.Errorf("lease %s points at the entries %v and has %v", id, positions, places[id])
		}
		delete(leases, id)
	}
	for id := range leases {
		return fmt.Errorf("the store has lease %s and the ledger has not", id)
	}
	return nil
}

// auditLife replays a lease's entries through the state machine.
func auditLife(l store.Lease, life []ledger.Event) error {
	state := lease.State("")
	for _, event := range life {
		before := state
		var err error
		switch event {
		case ledger.LeasePending:
			state = lease.Pending
			if before != "" {
				err = errors.New("pending twice")
			}
		case ledger.LeaseActive:
			state, err = lease.Next(state, lease.Granted)
		case ledger.LeaseRenewed:
			if state != lease.Active {
				err = errors.New("renewed while " + string(state))
			}
		case ledger.LeaseRevoking:
			state, err = lease.Next(state, lease.Ended)
		case ledger.LeaseRevoked:
			state, err = lease.Next(state, lease.Proved)
		}
		if err != nil {
			return fmt.Errorf("entries %v of lease %s: %w", life, l.ID, err)
		}
	}
	if state != l.State {
		return fmt.Errorf("lease %s is %s, and its entries end with %s: %v", l.ID, l.State, state, life)
	}
	return nil
}

func auditTree(tx *store.Tx, signer *ledger.Signer, leaves [][]byte) error {
	text, err := tx.Checkpoint()
	if err != nil {
		return err
	}
	verifier, err := ledger.NewVerifier(signer.VerifierKey())
	if err != nil {
		return err
	}
	checkpoint, err := verifier.Checkpoint(text)
	if err != nil {
		return err
	}
	size, stored, root, err := ledger.Append(0, leaves, ledger.Hashes{})
	if err != nil {
		return err
	}
	if checkpoint.Size != size || checkpoint.Root != root {
		return fmt.Errorf("the checkpoint is of %d entries with root %s; the leaves are %d with root %s",
			checkpoint.Size, checkpoint.Root, size, root)
	}
	reader := tx.Hashes()
	for index := int64(0); index < size; index += max(1, size/50) {
		proof, err := ledger.ProveInclusion(size, index, reader)
		if err != nil {
			return err
		}
		if err := ledger.VerifyInclusion(proof, size, root, index, ledger.LeafHash(leaves[index])); err != nil {
			return err
		}
	}
	for index := range stored {
		got, err := reader.ReadHashes([]int64{int64(index)})
		if err != nil {
			return err
		}
		if got[0] != stored[index] {
			return fmt.Errorf("stored hash %d differs from what the leaves give", index)
		}
	}
	return nil
}
