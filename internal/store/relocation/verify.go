package relocation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// sum is what the rows of a table add up to: how many, and the sum of their hashes. It is the same in whatever
// order they come, since databases sort text differently.
type sum struct {
	rows int64
	total
}

// total adds hashes up as numbers, 64 bits at a time.
type total [4]uint64

func (t *total) plus(hash [sha256.Size]byte, times int64) {
	for i := range t {
		t[i] += binary.BigEndian.Uint64(hash[8*i:]) * uint64(times)
	}
}

// add adds a row in its canonical form: the name, type, length and bytes of every value.
func (s *sum) add(columns []string, r row) {
	hash := sha256.New()
	var b []byte
	for i, value := range r {
		b = lengthened(b[:0], columns[i])
		switch v := value.(type) {
		case nil:
			b = append(b, 'n')
		case int64:
			b = binary.BigEndian.AppendUint64(append(b, 'i'), uint64(v))
		case string:
			b = lengthened(append(b, 't'), v)
		case []byte:
			b = lengthened(append(b, 'b'), string(v))
		}
		hash.Write(b)
	}
	s.rows++
	s.plus([sha256.Size]byte(hash.Sum(nil)), 1)
}

func lengthened(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// verify reads the destination back and compares it with what was read of the source; it counts the leases again,
// builds the ledger's tree again from its leaves, and opens the ledger's key.
func (m *mover) verify(ctx context.Context, copied map[string]sum) error {
	verifier, err := ledger.NewVerifier(m.signer.VerifierKey())
	if err != nil {
		return err
	}
	var leases, tallies total
	tree := newProof()
	m.done.Verifying = true
	for _, t := range tables() {
		var read sum
		m.done.Table, m.done.Rows = t.name, 0
		err := t.pages(ctx, m.to, func(tx store.Rows, columns []string, page []row) error {
			for _, r := range page {
				read.add(columns, r)
				at := fields{columns, r}
				switch t.name {
				case "leases":
					at.countLease(&leases)
				case "tallies":
					at.countTally(&tallies)
				case "ledger_leaves":
					if err := tree.add(tx, at.number("position"), at.bytes("leaf")); err != nil {
						return err
					}
				}
			}
			m.tell(len(page))
			return nil
		})
		if err != nil {
			return err
		}
		if want := copied[t.name]; read != want {
			return fmt.Errorf("%w: table %s has %d rows there and %d here, or others", store.ErrDamaged, t.name, read.rows, want.rows)
		}
	}
	if leases != tallies {
		return fmt.Errorf("%w: the tallies are not the sums of the leases", store.ErrDamaged)
	}
	return m.to.View(ctx, func(tx store.Rows) error {
		if err := tree.end(tx, verifier, m.head); err != nil {
			return fmt.Errorf("%w: %w", store.ErrDamaged, err)
		}
		signer, err := m.Signer(tx.Tx)
		if err == nil && signer.VerifierKey() != m.signer.VerifierKey() {
			err = fmt.Errorf("%w: the key that is sealed in it is %s", store.ErrWrongKey, signer.VerifierKey())
		}
		return err
	})
}

// fields are a row with names.
type fields struct {
	columns []string
	row     row
}

func (f fields) value(name string) any    { return f.row[slices.Index(f.columns, name)] }
func (f fields) number(name string) int64 { n, _ := f.value(name).(int64); return n }
func (f fields) text(name string) string  { s, _ := f.value(name).(string); return s }
func (f fields) bytes(name string) []byte { b, _ := f.value(name).([]byte); return b }

// hash stands for one lease that a scope counts in a state.
func hash(s store.Scope, state lease.State) [sha256.Size]byte {
	var b []byte
	for _, text := range []string{s.Target, s.Role, s.IssuerURL, s.Subject, string(state)} {
		b = lengthened(b, text)
	}
	return sha256.Sum256(b)
}

// countLease adds what a lease counts for in its scopes: the sum over all leases is that over their tallies.
func (f fields) countLease(to *total) {
	if state := lease.State(f.text("state")); state != lease.Revoked {
		l := store.Lease{Target: f.text("target"), Role: f.text("role"), IssuerURL: f.text("issuer_url"), Subject: f.text("subject")}
		for _, scope := range l.Scopes() {
			to.plus(hash(scope, scope.Counts(state)), 1)
		}
	}
}

func (f fields) countTally(to *total) {
	scope := store.Scope{Target: f.text("target"), Role: f.text("role"), IssuerURL: f.text("issuer_url"), Subject: f.text("subject")}
	for _, state := range []lease.State{lease.Pending, lease.Active, lease.Revoking} {
		to.plus(hash(scope, state), f.number(string(state)))
	}
}

// tileHeight is the height of a tile in levels; [ledger.TileWidth] is 1 << tileHeight.
const tileHeight = 8

// proof builds the ledger's tree from its leaves and compares it with the stored one, in memory that does not grow
// with the ledger.
type proof struct {
	edge  ledger.Edge
	tiles map[int][]byte // of each level the one that is being filled
}

func newProof() *proof { return &proof{tiles: map[int][]byte{}} }

func (p *proof) add(tx store.Rows, position int64, leaf []byte) error {
	if at := p.edge.Size(); position != at {
		return fmt.Errorf("%w: the ledger has no leaf at position %d", store.ErrDamaged, at)
	}
	for height, hash := range p.edge.Append(nil, ledger.LeafHash(leaf)) {
		if height%tileHeight != 0 {
			continue
		}
		level := height / tileHeight
		p.tiles[level] = append(p.tiles[level], hash[:]...)
		if len(p.tiles[level]) < ledger.TileWidth*tlog.HashSize {
			continue
		}
		if err := p.compare(tx, level, position>>height/ledger.TileWidth); err != nil {
			return err
		}
		p.tiles[level] = p.tiles[level][:0]
	}
	return nil
}

// compare makes sure that a stored tile is the one that the leaves give.
func (p *proof) compare(tx store.Rows, level int, n int64) error {
	var stored []byte
	err := tx.One(`select hashes from ledger_tiles where level = $1 and n = $2`, []any{level, n}, &stored)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil // as if it were empty
	}
	if err == nil && !bytes.Equal(stored, p.tiles[level]) {
		err = fmt.Errorf("%w: tile %d of level %d is not that of the leaves", store.ErrDamaged, n, level)
	}
	return err
}

// end compares the tiles that are not full, and the tree with the head that was signed.
func (p *proof) end(tx store.Rows, verifier *ledger.Verifier, at head) error {
	for level, hashes := range p.tiles {
		if len(hashes) == 0 {
			continue
		}
		if err := p.compare(tx, level, p.edge.Size()>>(tileHeight*level)/ledger.TileWidth); err != nil {
			return err
		}
	}
	checkpoint, err := verifier.Checkpoint(at.checkpoint)
	if err != nil {
		return err
	}
	if checkpoint.Size != at.size || checkpoint.Size != p.edge.Size() || checkpoint.Root != p.edge.Root() {
		return errors.New("the ledger's leaves are not those of the head that was signed")
	}
	return nil
}
