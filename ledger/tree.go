package ledger

import (
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// MaxSize is the largest tree that this package reads or writes. Index arithmetic overflows far beyond it, and
// sizes come from outside.
const MaxSize = 1 << 48

// Hash is a SHA-256 hash: of a leaf, of a node, of a tree. Its text is standard base64.
type Hash = tlog.Hash

// ParseHash returns the hash that text encodes, and an error for every spelling but that of [Hash.String].
func ParseHash(text string) (Hash, error) {
	h, err := tlog.ParseHash(text)
	if err != nil || h.String() != text {
		return Hash{}, fmt.Errorf("%w: a hash is 32 bytes as base64", ErrFormat)
	}
	return h, nil
}

// LeafHash returns the hash of a leaf as RFC 6962 has it: SHA-256 over a zero byte and the leaf.
func LeafHash(leaf []byte) Hash { return tlog.RecordHash(leaf) }

// Hashes are stored hashes in memory, the one with index i at position i. It reads them for [Append] and the
// proofs where no store is at hand.
type Hashes []Hash

// ReadHashes returns the hashes with the given indexes.
func (h Hashes) ReadHashes(indexes []int64) ([]Hash, error) {
	read := make([]Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 || index >= int64(len(h)) {
			return nil, fmt.Errorf("read hash %d: only %d are stored", index, len(h))
		}
		read[i] = h[index]
	}
	return read, nil
}

// Edge is the right edge of a tree: what it takes to append to it and to know its root, a few hashes whatever
// the size. The zero value is the edge of the empty tree. An Edge has one user at a time.
type Edge struct {
	size  int64
	peaks []Hash // roots of the complete subtrees, from left (largest) to right
}

// ReadEdge reads the edge of the tree with size leaves from its stored hashes, in one call.
func ReadEdge(size int64, r tlog.HashReader) (*Edge, error) {
	if err := checkSize(size); err != nil {
		return nil, err
	}
	indexes := make([]int64, 0, bits.OnesCount64(uint64(size)))
	for lo := int64(0); lo < size; {
		level := bits.Len64(uint64(size-lo)) - 1
		indexes = append(indexes, tlog.StoredHashIndex(level, lo>>level))
		lo += 1 << level
	}
	peaks, err := r.ReadHashes(indexes)
	if err != nil {
		return nil, fmt.Errorf("read the edge of %d entries: %w", size, err)
	}
	if len(peaks) != len(indexes) {
		return nil, fmt.Errorf("read the edge of %d entries: got %d hashes for %d", size, len(peaks), len(indexes))
	}
	return &Edge{size: size, peaks: append(make([]Hash, 0, len(peaks)+1), peaks...)}, nil
}

// Size returns the number of leaves.
func (e *Edge) Size() int64 { return e.size }

// Append adds a leaf by its hash, and appends to stored the hashes that are to be stored for it: the first one
// has the index [StoredIndex] of the size before, and the others follow.
func (e *Edge) Append(stored []Hash, leaf Hash) []Hash {
	stored = append(stored, leaf)
	for range bits.TrailingZeros64(uint64(e.size + 1)) { // each completes a subtree
		last := len(e.peaks) - 1
		leaf = tlog.NodeHash(e.peaks[last], leaf)
		e.peaks = e.peaks[:last]
		stored = append(stored, leaf)
	}
	e.peaks = append(e.peaks, leaf)
	e.size++
	return stored
}

// Root returns the root of the tree.
func (e *Edge) Root() Hash {
	if e.size == 0 {
		return EmptyRoot()
	}
	last := len(e.peaks) - 1
	root := e.peaks[last]
	for i := last - 1; i >= 0; i-- {
		root = tlog.NodeHash(e.peaks[i], root)
	}
	return root
}

// EmptyRoot returns the root of the tree without leaves: the hash of nothing.
func EmptyRoot() Hash {
	root, _ := tlog.TreeHash(0, nil) // reads nothing, cannot fail
	return root
}

// StoredIndex returns the index of the first hash that the leaf at position n stores.
func StoredIndex(n int64) int64 { return tlog.StoredHashIndex(0, n) }

// Append appends leaves to the tree with size leaves whose hashes r reads. It returns the new size, the hashes to
// store from index [StoredIndex](size) on, and the new root. It reads once, and stores nothing.
func Append(size int64, leaves [][]byte, r tlog.HashReader) (newSize int64, stored []Hash, root Hash, err error) {
	edge, err := ReadEdge(size, r)
	if err != nil {
		return 0, nil, Hash{}, err
	}
	if err := checkSize(size + int64(len(leaves))); err != nil {
		return 0, nil, Hash{}, err
	}
	stored = make([]Hash, 0, 2*len(leaves)+bits.Len64(uint64(size)))
	for i, leaf := range leaves {
		if len(leaf) == 0 || len(leaf) > MaxLeaf {
			return 0, nil, Hash{}, fmt.Errorf("append entry %d: %w: it has %d bytes", size+int64(i), ErrLeaf, len(leaf))
		}
		stored = edge.Append(stored, LeafHash(leaf))
	}
	return edge.Size(), stored, edge.Root(), nil
}

// Root returns the root of the tree with size leaves whose hashes r reads.
func Root(size int64, r tlog.HashReader) (Hash, error) {
	edge, err := ReadEdge(size, r)
	if err != nil {
		return Hash{}, err
	}
	return edge.Root(), nil
}

// ProveInclusion returns the proof that the tree with size leaves has the leaf at index (from 0).
func ProveInclusion(size, index int64, r tlog.HashReader) ([]Hash, error) {
	if err := checkIndex(size, index); err != nil {
		return nil, err
	}
	proof, err := tlog.ProveRecord(size, index, r)
	if err != nil {
		return nil, fmt.Errorf("prove entry %d of %d: %w", index, size, err)
	}
	return proof, nil
}

// VerifyInclusion checks a proof that the tree with size leaves and this root has leaf at index.
func VerifyInclusion(proof []Hash, size int64, root Hash, index int64, leaf Hash) error {
	if err := checkIndex(size, index); err != nil {
		return err
	}
	if err := tlog.CheckRecord(proof, size, root, index, leaf); err != nil {
		return fmt.Errorf("entry %d of %d: %w", index, size, ErrProof)
	}
	return nil
}

// ProveConsistency returns the proof that the tree with size leaves begins with the tree of its first old leaves.
func ProveConsistency(size, old int64, r tlog.HashReader) ([]Hash, error) {
	if err := checkOld(size, old); err != nil || old == 0 {
		return nil, err
	}
	proof, err := tlog.ProveTree(size, old, r)
	if err != nil {
		return nil, fmt.Errorf("prove %d entries within %d: %w", old, size, err)
	}
	return proof, nil
}

// VerifyConsistency checks a proof that the tree with size leaves and this root begins with the tree of old
// leaves and oldRoot. Every tree begins with the empty one, and the proof of that is empty.
func VerifyConsistency(proof []Hash, size int64, root Hash, old int64, oldRoot Hash) error {
	if err := checkOld(size, old); err != nil {
		return err
	}
	if old == 0 {
		if len(proof) != 0 || oldRoot != EmptyRoot() || size == 0 && root != EmptyRoot() {
			return fmt.Errorf("the empty tree within %d entries: %w", size, ErrProof)
		}
		return nil
	}
	if err := tlog.CheckTree(proof, size, root, old, oldRoot); err != nil {
		return fmt.Errorf("%d entries within %d: %w", old, size, ErrProof)
	}
	return nil
}

func checkSize(size int64) error {
	if size < 0 || size > MaxSize {
		return fmt.Errorf("%w: a tree of %d entries", ErrFormat, size)
	}
	return nil
}

func checkIndex(size, index int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	if index < 0 || index >= size {
		return fmt.Errorf("%w: entry %d of %d", ErrFormat, index, size)
	}
	return nil
}

func checkOld(size, old int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	if old < 0 || old > size {
		return fmt.Errorf("%w: %d entries within %d", ErrFormat, old, size)
	}
	return nil
}
