package ledger_test

import (
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/daypass/daypass/ledger"
)

// knownLeaves and knownRoots are the test tree of Certificate Transparency (RFC 6962), with its roots at sizes 1 to 8.
var knownLeaves = []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}

var knownRoots = []string{
	"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
	"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
	"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
	"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
	"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
	"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
	"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
	"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}

func TestTheTreeHasTheRootsOfRFC6962(t *testing.T) {
	if got := ledger.EmptyRoot().String(); got != "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" {
		t.Errorf("empty root %s", got)
	}
	var edge ledger.Edge
	for i, text := range knownLeaves {
		leaf, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		edge.Append(nil, ledger.LeafHash(leaf))
		root := edge.Root()
		if got := hex.EncodeToString(root[:]); got != knownRoots[i] || edge.Size() != int64(i+1) {
			t.Errorf("size %d: root %s, want %s", i+1, got, knownRoots[i])
		}
	}
}

func TestAppendGivesWhatTheReferenceGives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ours, theirs ledger.Hashes
		size := int64(0)
		for _, count := range rapid.SliceOfN(rapid.IntRange(0, 70), 1, 8).Draw(t, "groups") {
			var leaves [][]byte
			for i := range count {
				leaves = append(leaves, []byte{byte(size), byte(size >> 8), byte(i)})
			}
			newSize, stored, root, err := ledger.Append(size, leaves, ours)
			if err != nil || newSize != size+int64(count) {
				t.Fatalf("size %d, %v", newSize, err)
			}
			if int64(len(ours)) != ledger.StoredIndex(size) {
				t.Fatalf("%d hashes are stored, the next goes to %d", len(ours), ledger.StoredIndex(size))
			}
			ours = append(ours, stored...)
			for i, leaf := range leaves {
				hashes, err := tlog.StoredHashes(size+int64(i), leaf, theirs)
				if err != nil {
					t.Fatal(err)
				}
				theirs = append(theirs, hashes...)
			}
			size = newSize
			want, err := tlog.TreeHash(size, theirs)
			if err != nil || root != want || !slices.Equal(ours, theirs) {
				t.Fatalf("at size %d: root %s, want %s, %v", size, root, want, err)
			}
			if again, err := ledger.Root(size, ours); err != nil || again != want {
				t.Fatalf("read again: %s, %v", again, err)
			}
		}
	})
}

func TestProofsHoldForEveryLeafAndEveryPastOfSmallTrees(t *testing.T) {
	b := newBook(t, 33)
	for size := int64(0); size <= b.size(); size++ {
		root := b.root(size)
		for n := range size {
			proof, err := ledger.ProveInclusion(size, n, b.hashes)
			if err != nil {
				t.Fatal(err)
			}
			if err := ledger.VerifyInclusion(proof, size, root, n, ledger.LeafHash(b.leaves[n])); err != nil {
				t.Error(err)
			}
			if err := ledger.VerifyInclusion(proof, size, root, n, ledger.LeafHash(b.leaves[(n+1)%33])); !errors.Is(err, ledger.ErrProof) {
				t.Errorf("entry %d of %d with another's leaf: %v", n, size, err)
			}
			if err := ledger.VerifyInclusion(append(proof, root), size, root, n, ledger.LeafHash(b.leaves[n])); !errors.Is(err, ledger.ErrProof) {
				t.Errorf("entry %d of %d with a hash too many: %v", n, size, err)
			}
		}
		for old := range size + 1 {
			proof, err := ledger.ProveConsistency(size, old, b.hashes)
			if err != nil {
				t.Fatal(err)
			}
			if err := ledger.VerifyConsistency(proof, size, root, old, b.root(old)); err != nil {
				t.Error(err)
			}
			if err := ledger.VerifyConsistency(proof, size, root, old, ledger.Hash{1}); !errors.Is(err, ledger.ErrProof) {
				t.Errorf("%d of %d with another root: %v", old, size, err)
			}
			if err := ledger.VerifyConsistency(append(proof, root), size, root, old, b.root(old)); !errors.Is(err, ledger.ErrProof) {
				t.Errorf("%d of %d with a hash too many: %v", old, size, err)
			}
		}
	}
}

// Ledger threat 6: index arithmetic overflows and never ends for sizes that only an attacker writes.
func TestSizesFromOutsideAreBounded(t *testing.T) {
	empty := ledger.Hashes{}
	for _, size := range []int64{-1, math.MinInt64, ledger.MaxSize + 1, 1 << 62, 1<<62 + 1, math.MaxInt64} {
		if err := ledger.VerifyInclusion(nil, size, ledger.Hash{}, 0, ledger.Hash{}); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("inclusion in %d: %v", size, err)
		}
		if err := ledger.VerifyConsistency(nil, size, ledger.Hash{}, 1, ledger.Hash{}); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("consistency in %d: %v", size, err)
		}
		if _, err := ledger.ProveInclusion(size, 0, empty); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("prove inclusion in %d: %v", size, err)
		}
		if _, err := ledger.ProveConsistency(size, 1, empty); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("prove consistency in %d: %v", size, err)
		}
		if _, _, _, err := ledger.Append(size, nil, empty); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("append to %d: %v", size, err)
		}
		if _, err := ledger.Root(size, empty); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("root of %d: %v", size, err)
		}
	}
	for _, index := range []int64{-1, 5, 6, math.MaxInt64, math.MinInt64} {
		if err := ledger.VerifyInclusion(nil, 5, ledger.Hash{}, index, ledger.Hash{}); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("entry %d of 5: %v", index, err)
		}
	}
	for _, old := range []int64{-1, 6, math.MaxInt64} {
		if err := ledger.VerifyConsistency(nil, 5, ledger.Hash{}, old, ledger.Hash{}); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("%d within 5: %v", old, err)
		}
	}
}

func TestAppendRefusesWhatItCannotServe(t *testing.T) {
	if _, _, _, err := ledger.Append(0, [][]byte{make([]byte, ledger.MaxLeaf+1)}, ledger.Hashes{}); !errors.Is(err, ledger.ErrLeaf) {
		t.Errorf("a leaf too long: %v", err)
	}
	if _, _, _, err := ledger.Append(0, [][]byte{{}}, ledger.Hashes{}); !errors.Is(err, ledger.ErrLeaf) {
		t.Errorf("an empty leaf: %v", err)
	}
	if _, _, _, err := ledger.Append(5, nil, ledger.Hashes{}); err == nil {
		t.Error("a tree of 5 without hashes: appended to")
	}
	short := tlog.HashReaderFunc(func([]int64) ([]ledger.Hash, error) { return nil, nil })
	if _, _, _, err := ledger.Append(5, nil, short); err == nil {
		t.Error("a reader that gives too few hashes: appended to")
	}
}

func TestHashesParseFromOneSpelling(t *testing.T) {
	h := ledger.LeafHash([]byte("x"))
	if got, err := ledger.ParseHash(h.String()); err != nil || got != h {
		t.Errorf("%s, %v", got, err)
	}
	text := h.String()
	for _, bad := range []string{"", text[:43], text + "=", text[:20] + "\n" + text[20:], text + "\n", text[:42] + "B=", "A" + text} {
		if _, err := ledger.ParseHash(bad); !errors.Is(err, ledger.ErrFormat) && bad != text {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
