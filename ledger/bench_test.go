package ledger_test

import (
	"fmt"
	"io"
	"math/bits"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass/daypass/ledger"
)

// synthetic reads the hashes of a tree of any size in which all leaves are equal: every level has one hash.
func synthetic(leaf []byte) tlog.HashReader {
	levels := []ledger.Hash{ledger.LeafHash(leaf)}
	for range 50 {
		last := levels[len(levels)-1]
		levels = append(levels, tlog.NodeHash(last, last))
	}
	return tlog.HashReaderFunc(func(indexes []int64) ([]ledger.Hash, error) {
		hashes := make([]ledger.Hash, len(indexes))
		for i, index := range indexes {
			level, _ := tlog.SplitStoredHashIndex(index)
			hashes[i] = levels[level]
		}
		return hashes, nil
	})
}

func BenchmarkLeaf(b *testing.B) {
	e := entry(1)
	for b.Loop() {
		if _, err := e.Leaf(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseLeaf(b *testing.B) {
	leaf, _ := entry(1).Leaf()
	for b.Loop() {
		if _, err := ledger.ParseLeaf(leaf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppendAndCheckpoint is what a group commit costs besides the store, by the group's size.
func BenchmarkAppendAndCheckpoint(b *testing.B) {
	s := signer(b, 1)
	leaf, _ := entry(1).Leaf()
	for _, group := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("group=%d", group), func(b *testing.B) {
			leaves, r := make([][]byte, group), synthetic(leaf)
			for i := range leaves {
				leaves[i] = leaf
			}
			for b.Loop() {
				size, _, root, err := ledger.Append(10_000_000, leaves, r)
				if err != nil {
					b.Fatal(err)
				}
				s.Checkpoint(size, root)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*group), "ns/entry")
		})
	}
}

func BenchmarkReceipt(b *testing.B) {
	s := signer(b, 1)
	leaf, _ := entry(1).Leaf()
	for b.Loop() {
		s.Receipt(leaf, epoch)
	}
}

// BenchmarkReceiptAndProof is what a holder is given in a ledger of 10 M entries: goal < 5 ms.
func BenchmarkReceiptAndProof(b *testing.B) {
	const size = 10_000_000
	s := signer(b, 1)
	leaf, _ := entry(1).Leaf()
	r := synthetic(leaf)
	root, err := ledger.Root(size, r)
	if err != nil {
		b.Fatal(err)
	}
	n := int64(0)
	for b.Loop() {
		n = (n + 7_654_321) % size
		s.Receipt(leaf, epoch)
		proof, err := ledger.ProveInclusion(size, n, r)
		if err != nil || len(proof) > bits.Len64(size) {
			b.Fatal(len(proof), err)
		}
		if err := ledger.VerifyInclusion(proof, size, root, n, ledger.LeafHash(leaf)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyExport(b *testing.B) {
	const size = 100_000
	s, book := signer(b, 1), newBook(b, size)
	head := ledger.ExportHead{Checkpoint: book.checkpoint(s, size)}
	for b.Loop() {
		reader, writer := io.Pipe()
		go func() { writer.CloseWithError(ledger.WriteExport(writer, head, book.hashes, book.read)) }()
		if _, err := ledger.VerifyExport(reader, []string{s.VerifierKey()}, nil, late); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/entry")
}
