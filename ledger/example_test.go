package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/ledger"
)

// exampleLeaf returns the leaf of an entry at a minute of the first of March.
func exampleLeaf(minute int, event ledger.Event) []byte {
	leaf, err := ledger.Entry{
		Time: time.Date(2026, 3, 1, 12, minute, 0, 0, time.UTC), Event: event, ID: id(minute), Lease: "tmq5zg3yk7ahwnd2xe4a",
	}.Leaf()
	if err != nil {
		panic(err)
	}
	return leaf
}

func ExampleEntry_Leaf() {
	leaf, err := ledger.Entry{
		Time:  time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Event: ledger.LeaseRevoked, ID: "abcdefghijklmnopqrstuvwxyz", Lease: "tmq5zg3yk7ahwnd2xe4a",
	}.Leaf()
	fmt.Println(string(leaf), err)
	// Output: {"event":"lease.revoked","id":"abcdefghijklmnopqrstuvwxyz","lease":"tmq5zg3yk7ahwnd2xe4a","time":"2026-03-01T12:00:00.000000Z"} <nil>
}

// A ledger grows by groups; its root is signed once per group.
func ExampleAppend() {
	signer, _, err := ledger.GenerateSigner("daypass.example.com/ledger")
	if err != nil {
		panic(err)
	}
	var stored ledger.Hashes // a table in the store
	size := int64(0)
	for group := range 2 {
		leaves := [][]byte{exampleLeaf(2*group, ledger.LeasePending), exampleLeaf(2*group+1, ledger.LeaseActive)}
		newSize, hashes, root, err := ledger.Append(size, leaves, stored)
		if err != nil {
			panic(err)
		}
		size, stored = newSize, append(stored, hashes...)
		checkpoint := signer.Checkpoint(size, root)

		verifier, err := ledger.NewVerifier(signer.VerifierKey())
		if err != nil {
			panic(err)
		}
		c, err := verifier.Checkpoint(checkpoint)
		fmt.Println(c.Origin, c.Size, err)
	}
	// Output:
	// daypass.example.com/ledger 2 <nil>
	// daypass.example.com/ledger 4 <nil>
}

// Who holds a receipt can ask for proof that the promise was kept.
func ExampleVerifier_Inclusion() {
	signer, _, err := ledger.GenerateSigner("daypass.example.com/ledger")
	if err != nil {
		panic(err)
	}
	leaves := [][]byte{exampleLeaf(0, ledger.LeasePending), exampleLeaf(1, ledger.LeaseActive), exampleLeaf(2, ledger.LeaseRevoking)}
	receipt := signer.Receipt(leaves[1], time.Date(2026, 3, 1, 12, 1, 0, 0, time.UTC))

	// The broker's side.
	size, stored, root, err := ledger.Append(0, leaves, ledger.Hashes{})
	if err != nil {
		panic(err)
	}
	hashes, err := ledger.ProveInclusion(size, 1, ledger.Hashes(stored))
	if err != nil {
		panic(err)
	}
	proof := ledger.InclusionProof{Index: 1, Hashes: hashes, Checkpoint: signer.Checkpoint(size, root)}.Text()

	// The holder's side.
	verifier, err := ledger.NewVerifier(signer.VerifierKey())
	if err != nil {
		panic(err)
	}
	promise, err := verifier.Receipt(receipt)
	if err != nil {
		panic(err)
	}
	checkpoint, index, err := verifier.Inclusion(proof, promise.Leaf)
	fmt.Println(promise.Entry.Event, "is entry", index, "of", checkpoint.Size, err)
	// Output: lease.active is entry 1 of 3 <nil>
}

// Who controls the broker can cut the tail and sign again. A receipt that somebody kept shows it.
func ExampleVerifyExport() {
	signer, _, err := ledger.GenerateSigner("daypass.example.com/ledger")
	if err != nil {
		panic(err)
	}
	leaves := [][]byte{exampleLeaf(0, ledger.LeasePending), exampleLeaf(1, ledger.LeaseActive), exampleLeaf(2, ledger.LeaseRevoking)}
	receipt := signer.Receipt(leaves[2], time.Date(2026, 3, 1, 12, 2, 0, 0, time.UTC))

	cut := leaves[:2]
	size, stored, root, err := ledger.Append(0, cut, ledger.Hashes{})
	if err != nil {
		panic(err)
	}
	var export bytes.Buffer
	head := ledger.ExportHead{Checkpoint: signer.Checkpoint(size, root)}
	read := func(from int64, limit int) ([][]byte, error) { return cut[from:][:limit], nil }
	if err := ledger.WriteExport(&export, head, ledger.Hashes(stored), read); err != nil {
		panic(err)
	}

	keys, now := []string{signer.VerifierKey()}, time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	_, err = ledger.VerifyExport(bytes.NewReader(export.Bytes()), keys, nil, now)
	fmt.Println("alone:", err)
	_, err = ledger.VerifyExport(bytes.NewReader(export.Bytes()), keys, []string{receipt}, now)
	fmt.Println("against a receipt, overdue:", errors.Is(err, ledger.ErrOverdue))
	// Output:
	// alone: <nil>
	// against a receipt, overdue: true
}
