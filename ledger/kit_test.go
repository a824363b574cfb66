package ledger_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/ledger"
)

// origin is the name of the ledgers of the tests.
const origin = "daypass.example.com/ledger"

// epoch is when their first entry happened. Entry n is n seconds later.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// signer returns the nth signer, the same one in every run.
func signer(t testing.TB, n byte) *ledger.Signer {
	t.Helper()
	seed := sha256.Sum256([]byte{'s', 'e', 'e', 'd', n})
	s, err := ledger.NewSigner(origin, seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// id returns an entry's ID, the same one in every run.
func id(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	sum := sha256.Sum256(fmt.Append(nil, "entry ", n))
	b := make([]byte, 26)
	for i := range b {
		b[i] = letters[sum[i]&31]
	}
	return string(b)
}

// entry returns the nth entry.
func entry(n int) ledger.Entry {
	e := ledger.Entry{Time: epoch.Add(time.Duration(n) * time.Second), ID: id(n), Lease: id(n)[:20]}
	switch {
	case n == 0:
		e.Event, e.Lease = ledger.LedgerOpened, ""
	case n%3 == 1:
		e.Event, e.Role, e.Target, e.Until = ledger.LeasePending, "orders-readonly", "orders-db", e.Time.Add(time.Hour)
		e.Commitment = ledger.Commit(make([]byte, 32), fmt.Append(nil, n))
	default:
		e.Event, e.Reason = ledger.LeaseRevoking, "expired"
	}
	return e
}

// book is a ledger in memory.
type book struct {
	t      testing.TB
	leaves [][]byte
	hashes ledger.Hashes
	edge   ledger.Edge
}

func newBook(t testing.TB, size int) *book {
	t.Helper()
	b := &book{t: t}
	for n := range size {
		b.add(entry(n))
	}
	return b
}

func (b *book) size() int64 { return int64(len(b.leaves)) }

// add appends an entry and returns its leaf.
func (b *book) add(e ledger.Entry) []byte {
	b.t.Helper()
	leaf, err := e.Leaf()
	if err != nil {
		b.t.Fatal(err)
	}
	b.addLeaf(leaf)
	return leaf
}

func (b *book) addLeaf(leaf []byte) {
	b.leaves, b.hashes = append(b.leaves, leaf), b.edge.Append(b.hashes, ledger.LeafHash(leaf))
}

func (b *book) root(size int64) ledger.Hash {
	b.t.Helper()
	root, err := ledger.Root(size, b.hashes)
	if err != nil {
		b.t.Fatal(err)
	}
	return root
}

// checkpoint signs the first size entries.
func (b *book) checkpoint(s *ledger.Signer, size int64) string {
	return s.Checkpoint(size, b.root(size))
}

// both signs the first size entries with two keys.
func (b *book) both(old, next *ledger.Signer, size int64) string {
	b.t.Helper()
	text, err := next.Cosign(b.checkpoint(old, size))
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

// rotate appends the entry that introduces next and returns the checkpoint that both sign.
func (b *book) rotate(old, next *ledger.Signer) string {
	b.t.Helper()
	n := len(b.leaves)
	b.add(ledger.Entry{Time: epoch.Add(time.Duration(n) * time.Second), Event: ledger.LedgerRotated, ID: id(n), Key: next.VerifierKey()})
	return b.both(old, next, b.size())
}

func (b *book) read(from int64, limit int) ([][]byte, error) {
	return b.leaves[from:min(int(from)+limit, len(b.leaves))], nil
}

// export writes the book as it is, under this checkpoint.
func (b *book) export(checkpoint string, rotations ...string) string {
	b.t.Helper()
	var out bytes.Buffer
	head := ledger.ExportHead{Checkpoint: checkpoint, Keys: []string{signer(b.t, 1).VerifierKey()}, Rotations: rotations}
	if err := ledger.WriteExport(&out, head, b.hashes, b.read); err != nil {
		b.t.Fatal(err)
	}
	return out.String()
}

// receipt promises the nth entry within a minute.
func receipt(t testing.TB, s *ledger.Signer, e ledger.Entry) string {
	t.Helper()
	leaf, err := e.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	return s.Receipt(leaf, e.Time.Add(time.Minute))
}

// lines splits an export, each line with its end.
func lines(export string) []string { return slices.Collect(strings.Lines(export)) }

// line returns the position of the nth entry's line.
func line(n int) int { return 1 + n + n/256 + 1 }

// without drops lines from to before to.
func without(export string, from, to int) string {
	return strings.Join(slices.Delete(lines(export), from, to), "")
}
