package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/ledger"
)

// Rotation replaces the key that signs the ledger.
type Rotation struct {
	Signer *ledger.Signer // the next key
	Name   string         // what the next start finds it under; see [ReadSealed]
	Sealed []byte         // the next key, sealed
	By     string         // who asked for it
}

// Signer is the key that signs the ledger now. A receipt is signed with what it returns after the entry is
// durable: a key that was retired meanwhile signs nothing more.
func (s *Store) Signer() *ledger.Signer { return s.signer.Load() }

// Rotate makes another key sign the ledger, from the end of its group on, and returns the position of the entry.
//
// It writes nothing itself: the entry, the checkpoint that both keys sign, the sealed key and what the store says
// of its key are written with the group's ledger. So there is no half of a rotation, neither after a crash nor
// when a caller passes over an error.
func (tx *Tx) Rotate(r Rotation) (entry int64, err error) {
	const op = "rotate the ledger's key"
	if tx.group == nil {
		return 0, failed(op, errReadOnly)
	}
	if tx.group.full {
		return 0, unavailable(op, errFull)
	}
	if tx.group.rotation != nil {
		return 0, fault.New(fault.Conflict, op, "another rotation of the ledger's key is under way")
	}
	now := tx.store.Signer()
	if r.Signer.Origin() != now.Origin() || r.Signer.VerifierKey() == now.VerifierKey() {
		return 0, failed(op, fmt.Errorf("%s cannot follow %s", r.Signer.VerifierKey(), now.VerifierKey()))
	}
	var before int
	if err := tx.one(`select count(*) from ledger_rotations`, nil, &before); err != nil {
		return 0, failed(op, err)
	}
	if before >= ledger.MaxRotations {
		return 0, fault.New(fault.Conflict, op, "the ledger has "+strconv.Itoa(before)+" rotations, the most that can be verified")
	}
	_, entry, err = tx.append(ledger.Entry{Event: ledger.LedgerRotated, Key: r.Signer.VerifierKey()}, nowhere)
	if err != nil {
		return 0, err
	}
	tx.group.rotation = &r
	tx.group.after = append(tx.group.after, func() { tx.store.signer.Store(r.Signer) })
	return entry, nil
}

// signHead returns the checkpoint of the group's tree, and writes the rotation that the group holds.
func (g *group) signHead(tx *Tx, size int64, root ledger.Hash) (checkpoint string, err error) {
	checkpoint = tx.store.Signer().Checkpoint(size, root)
	if g.rotation == nil {
		return checkpoint, nil
	}
	if checkpoint, err = g.rotation.Signer.Cosign(checkpoint); err != nil {
		return "", err
	}
	_, err = tx.write(`insert into ledger_rotations (size, checkpoint, rotated_by) values ($1, $2, $3)`,
		size, checkpoint, g.rotation.By)
	if err == nil {
		err = tx.setMeta(metaKey, g.rotation.Signer.VerifierKey())
	}
	if err == nil {
		err = tx.PutSealed(g.rotation.Name, g.rotation.Sealed)
	}
	return checkpoint, err
}

// ExportHead returns what an export of the ledger says before its entries.
func (tx *Tx) ExportHead() (head ledger.ExportHead, err error) {
	const op = "read the head of the ledger"
	if head.Checkpoint, err = tx.Checkpoint(); err != nil {
		return head, err
	}
	key, err := tx.meta(metaKey)
	if err != nil {
		return head, err
	}
	head.Keys = []string{key}
	err = tx.each(`select checkpoint from ledger_rotations order by size`, nil, func(rows *sql.Rows) error {
		var checkpoint string
		err := rows.Scan(&checkpoint)
		head.Rotations = append(head.Rotations, checkpoint)
		return err
	})
	return head, failed(op, err)
}

// Reseal replaces sealed values of a store that is not open, all of them at once or none: change gets every
// ciphertext by its name and puts others in their places. It may run more than once. An error wraps [ErrUnknown]
// where nobody can tell whether it was done. Reseal takes the dialect over.
func Reseal(ctx context.Context, d Dialect, change func(ciphertexts map[string][]byte) error) error {
	s := newStore(d, Options{})
	return errors.Join(s.reseal(ctx, change), s.Close())
}

func (s *Store) reseal(ctx context.Context, change func(map[string][]byte) error) error {
	if err := s.migrate(ctx); err != nil {
		return err
	}
	err := s.View(ctx, func(tx *Tx) (err error) {
		s.writer.tree, err = tx.loadTree() // by which a failed write is told from a done one
		return err
	})
	if err != nil {
		return err
	}
	return s.once(func(tx *Tx) error {
		err := tx.alone()
		if err == nil {
			err = tx.moved()
		}
		if err != nil {
			return err
		}
		all, err := tx.allSealed()
		if err != nil {
			return err
		}
		before := maps.Clone(all)
		if err := change(all); err != nil {
			return err
		}
		for name, ciphertext := range all {
			if bytes.Equal(ciphertext, before[name]) {
				continue
			}
			if err := tx.PutSealed(name, ciphertext); err != nil {
				return err
			}
		}
		return nil
	})
}

func (tx *Tx) allSealed() (map[string][]byte, error) {
	all := map[string][]byte{}
	err := tx.each(`select name, ciphertext from sealed`, nil, func(rows *sql.Rows) error {
		var name string
		var ciphertext []byte
		err := rows.Scan(&name, &ciphertext)
		all[name] = ciphertext
		return err
	})
	return all, failed("read what is sealed", err)
}
