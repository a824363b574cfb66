package store

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/ledger"
)

// nowhere is the position before a lease's first entry.
const nowhere = -1

// Hashes are kept as tiles of up to 256, the form in which others fetch them: a group rewrites the last tile of
// each level instead of adding two rows for every leaf. The heights in between follow from them.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// tree is the right edge of the ledger's tree: its size and the last, partial tile of each level.
type tree struct {
	size int64
	edge map[int]tile // by level; absent where the level's tiles are full
}

// tile is a run of hashes.
type tile struct {
	n      int64
	hashes []byte
}

// Append records an entry that is not about a single lease's state. It fills in ID, and Time where it is zero.
func (tx *Tx) Append(e ledger.Entry) (leaf []byte, err error) {
	leaf, _, err = tx.append(e, nowhere)
	return leaf, err
}

// append puts an entry into the group's leaves and returns the position that it will have.
func (tx *Tx) append(e ledger.Entry, previous int64) (bytes []byte, position int64, err error) {
	if tx.group == nil {
		return nil, 0, failed("append to the ledger", errReadOnly)
	}
	e.ID = ledger.NewID()
	if e.Time.IsZero() {
		e.Time = tx.store.now()
	}
	bytes, err = e.Leaf()
	if err != nil {
		return nil, 0, failed("append to the ledger", err)
	}
	tx.dirty = true
	position = tx.group.writer.tree.size + int64(len(tx.group.leaves))
	tx.group.leaves = append(tx.group.leaves, leaf{bytes, previous})
	return bytes, position, nil
}

// leafBatch is how many leaves one statement inserts.
const leafBatch = 16

var (
	insertLeaf   = `insert into ledger_leaves (position, previous, leaf) values ` + tuples(1, 3)
	insertLeaves = `insert into ledger_leaves (position, previous, leaf) values ` + tuples(leafBatch, 3)
)

// tuples is the text of n tuples of width parameters.
func tuples(n, width int) string {
	var text strings.Builder
	for i := range n * width {
		switch {
		case i == 0:
			text.WriteString("(")
		case i%width == 0:
			text.WriteString("), (")
		default:
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, "$%d", i+1)
	}
	return text.String() + ")"
}

// writeLedger writes the group's leaves, the tiles they changed, and the head with its signed checkpoint.
func (g *group) writeLedger(tx *Tx) error {
	if len(g.leaves) == 0 {
		return nil
	}
	if err := g.writeLeaves(tx); err != nil {
		return failed("write the ledger", err)
	}
	edge, err := ledger.ReadEdge(g.tree.size, g.tree)
	if err != nil {
		return failed("write the ledger", err)
	}
	grown := g.tree.clone()
	var stored []ledger.Hash
	for _, leaf := range g.leaves {
		stored = edge.Append(stored[:0], ledger.LeafHash(leaf.bytes))
		if err := grown.add(stored, tx); err != nil {
			return failed("write the ledger", err)
		}
	}
	for level, last := range grown.edge {
		if before, ok := g.tree.edge[level]; ok && before.n == last.n && len(before.hashes) == len(last.hashes) {
			continue
		}
		if err := tx.writeTile(level, last); err != nil {
			return failed("write the ledger", err)
		}
	}
	checkpoint, err := g.signHead(tx, grown.size, edge.Root())
	if err != nil {
		return failed("write the ledger", err)
	}
	changed, err := tx.change(`update ledger_head set size = $1, checkpoint = $2 where id = 1 and size = $3`,
		grown.size, checkpoint, g.tree.size)
	if err == nil && !changed {
		err = errors.New("someone else has appended to the ledger")
	}
	g.tree = grown
	return failed("write the ledger", err)
}

func (g *group) writeLeaves(tx *Tx) error {
	position := g.tree.size
	for rest := g.leaves; len(rest) > 0; {
		text, n := insertLeaf, 1
		if len(rest) >= leafBatch {
			text, n = insertLeaves, leafBatch
		}
		args := make([]any, 0, 3*n)
		for _, leaf := range rest[:n] {
			args = append(args, position, leaf.previous, leaf.bytes)
			position++
		}
		if err := tx.put(text, args...); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// clone copies the tree, with room to append: what it was is needed again when the commit fails.
func (t tree) clone() tree {
	edge := make(map[int]tile, len(t.edge)+1)
	for level, last := range t.edge {
		last.hashes = append(make([]byte, 0, tileWidth*tlog.HashSize), last.hashes...)
		edge[level] = last
	}
	return tree{size: t.size, edge: edge}
}

// add appends the hashes that one leaf stores: its own and those of the subtrees it completes. A tile that is
// full is written at once, the others by the caller.
func (t *tree) add(stored []ledger.Hash, tx *Tx) error {
	position := t.size
	t.size++
	for height, hash := range stored {
		if height%tileHeight != 0 {
			continue
		}
		level, n := height/tileHeight, position>>height
		last, ok := t.edge[level]
		if !ok {
			last = tile{n: n / tileWidth, hashes: make([]byte, 0, tileWidth*tlog.HashSize)}
		}
		last.hashes = append(last.hashes, hash[:]...)
		t.edge[level] = last
		if len(last.hashes) == tileWidth*tlog.HashSize {
			if err := tx.writeTile(level, last); err != nil {
				return err
			}
			delete(t.edge, level)
		}
	}
	return nil
}

func (tx *Tx) writeTile(level int, t tile) error {
	return tx.put(`insert into ledger_tiles (level, n, hashes) values ($1, $2, $3)
		on conflict (level, n) do update set hashes = excluded.hashes`, level, t.n, t.hashes)
}

// ReadHashes returns stored hashes of the edge: those that the next append needs.
func (t tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	return readHashes(indexes, func(level int, n int64) ([]byte, error) {
		if last, ok := t.edge[level]; ok && last.n == n {
			return last.hashes, nil
		}
		return nil, fmt.Errorf("tile %d of level %d is not at the edge", n, level)
	})
}

// readHashes finds hashes in the tiles that fetch returns.
func readHashes(indexes []int64, fetch func(level int, n int64) ([]byte, error)) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		at := tlog.TileForIndex(tileHeight, index)
		bytes, err := fetch(at.L, at.N)
		if err != nil {
			return nil, err
		}
		at.W = len(bytes) / tlog.HashSize
		if hashes[i], err = tlog.HashFromTile(at, bytes, index); err != nil {
			return nil, err
		}
	}
	return hashes, nil
}

// loadTree reads the edge of the ledger's tree.
func (tx *Tx) loadTree() (t tree, err error) {
	if t.size, err = tx.LedgerSize(); err != nil {
		return t, err
	}
	t = t.clone()
	for level := 0; t.size>>(tileHeight*level) > 0; level++ {
		count := t.size >> (tileHeight * level)
		if count%tileWidth == 0 {
			continue
		}
		last := tile{n: count / tileWidth}
		if last.hashes, err = tx.tile(level, last.n); err != nil {
			return t, err
		}
		if len(last.hashes) != int(count%tileWidth)*tlog.HashSize {
			return t, fmt.Errorf("tile %d of level %d has %d bytes", last.n, level, len(last.hashes))
		}
		t.edge[level] = last
	}
	return t, nil
}

func (tx *Tx) tile(level int, n int64) (hashes []byte, err error) {
	err = tx.one(`select hashes from ledger_tiles where level = $1 and n = $2`, []any{level, n}, &hashes)
	if err != nil {
		return nil, fmt.Errorf("read tile %d of level %d: %w", n, level, err)
	}
	return hashes, nil
}

// LedgerSize returns how many entries the ledger had when the transaction began.
func (tx *Tx) LedgerSize() (size int64, err error) {
	err = tx.one(`select size from ledger_head where id = 1`, nil, &size)
	return size, failed("read the ledger's size", err)
}

// Checkpoint returns the signed checkpoint of the ledger as it was when the transaction began.
func (tx *Tx) Checkpoint() (text string, err error) {
	err = tx.one(`select checkpoint from ledger_head where id = 1`, nil, &text)
	return text, failed("read the ledger's checkpoint", err)
}

// Leaves returns up to limit leaves from a position on, in order.
func (tx *Tx) Leaves(from int64, limit int) (leaves [][]byte, err error) {
	err = tx.each(`select leaf from ledger_leaves where position >= $1 order by position limit $2`, []any{from, limit},
		func(rows *sql.Rows) error {
			var bytes []byte
			err := rows.Scan(&bytes)
			leaves = append(leaves, bytes)
			return err
		})
	return leaves, failed("read the ledger", err)
}

// Hashes reads the ledger's stored hashes, for proofs and tiles. It is good for as long as the transaction.
func (tx *Tx) Hashes() tlog.HashReader {
	type key struct {
		level int
		n     int64
	}
	seen := map[key][]byte{} // a proof asks for several hashes of one tile
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		return readHashes(indexes, func(level int, n int64) ([]byte, error) {
			bytes, ok := seen[key{level, n}]
			if !ok {
				var err error
				if bytes, err = tx.tile(level, n); err != nil {
					return nil, err
				}
				seen[key{level, n}] = bytes
			}
			return bytes, nil
		})
	})
}

// Positions returns the ledger positions of a lease's entries, newest first.
func (tx *Tx) Positions(id lease.ID) (positions []int64, err error) {
	op := "find the entries of lease " + string(id)
	var at int64
	err = tx.one(`select entry from leases where id = $1`, []any{string(id)}, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, missing(op, "lease")
	}
	for ; err == nil && at != nowhere; err = tx.one(`select previous from ledger_leaves where position = $1`, []any{at}, &at) {
		positions = append(positions, at)
	}
	return positions, failed(op, err)
}

// Position returns where the ledger has a leaf of a lease that the store still knows; not found otherwise.
func (tx *Tx) Position(bytes []byte) (int64, error) {
	const op = "find a leaf in the ledger"
	entry, err := ledger.ParseLeaf(bytes)
	if err != nil {
		return 0, failed(op, err)
	}
	positions, err := tx.Positions(lease.ID(entry.Lease))
	if err != nil {
		return 0, err
	}
	for _, at := range positions {
		found, err := tx.Leaves(at, 1)
		if err != nil {
			return 0, err
		}
		if len(found) == 1 && string(found[0]) == string(bytes) {
			return at, nil
		}
	}
	return 0, missing(op, "leaf")
}

// checkTree makes sure that the ledger's head is what the tree and its last leaf say, at a cost that does not
// grow with the ledger. Whether every leaf is right is what a full verification tells.
func (tx *Tx) checkTree(t tree, verifier *ledger.Verifier) error {
	text, err := tx.Checkpoint()
	if err != nil {
		return err
	}
	checkpoint, err := verifier.Checkpoint(text)
	if err != nil {
		return err
	}
	root, err := ledger.Root(t.size, t)
	if err != nil {
		return err
	}
	if checkpoint.Size != t.size || checkpoint.Root != root {
		return fmt.Errorf("the ledger's checkpoint is of %d entries, its tree has %d or another root", checkpoint.Size, t.size)
	}
	last, err := tx.Leaves(t.size-1, 2)
	if err != nil {
		return err
	}
	if len(last) != 1 {
		return fmt.Errorf("the ledger has %d leaves at its last position %d", len(last), t.size-1)
	}
	hashes, err := tx.Hashes().ReadHashes([]int64{ledger.StoredIndex(t.size - 1)})
	if err != nil {
		return err
	}
	if hashes[0] != ledger.LeafHash(last[0]) {
		return errors.New("the ledger's last leaf is not the one of its tree")
	}
	return nil
}
