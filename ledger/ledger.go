// Package ledger is the audit record that shows when it was changed: entries, a Merkle tree over them, signed
// checkpoints, receipts, proofs, and a verifier that needs neither the broker nor its store.
//
// An [Entry] becomes a leaf: canonical bytes that name things by ID and hold no personal data. Leaves form the
// tree of RFC 6962; a [Signer] signs its root as a checkpoint (C2SP tlog-checkpoint) and single leaves as
// receipts, which are promises that the leaf is in the tree by a given time. Proofs and tiles (C2SP tlog-tiles)
// come from stored hashes, an export carries everything to another machine, and [VerifyExport] checks it there.
// The bytes are described in docs/reference/ledger-format.md, and testdata/vectors has cases for other verifiers.
//
// # What it can and cannot show
//
// Whoever holds the store but not the signing key cannot change, delete, reorder or cut entries unseen: the
// signed root no longer fits. Whoever holds the signing key too, such as root on the broker, can cut the tail or
// rewrite everything and sign again; the result verifies. Only what others hold can then tell: a receipt, a
// checkpoint, a witness's signature. Give those to [VerifyExport]. They bind the ledger up to the newest of them,
// and nothing binds what was written after it. Nor does the ledger show what was never entered.
//
// The package does no I/O of its own, reads no clock, and imports the standard library and golang.org/x/mod only.
package ledger

import "errors"

// The classes of what is wrong. Every error of this package that judges bytes wraps one of them; its message
// names the position. A class says what the bytes look like, not who did it or how much more is wrong: whoever
// changes an export chooses what it looks like.
var (
	// ErrFormat: the text is not of the format at all.
	ErrFormat = errors.New("malformed")
	// ErrLeaf: the bytes are not a canonical leaf that this version knows.
	ErrLeaf = errors.New("bad leaf")
	// ErrSignature: no trusted key signed it, or a trusted key's signature is wrong.
	ErrSignature = errors.New("bad signature")
	// ErrProof: a proof does not lead to the root.
	ErrProof = errors.New("bad proof")
	// ErrEdited: an entry is not the one that the tree has at its place, or is one too many.
	ErrEdited = errors.New("edited")
	// ErrDeleted: an entry that the tree has is absent, and later ones are there.
	ErrDeleted = errors.New("deleted")
	// ErrReordered: an entry of the tree stands in another's place.
	ErrReordered = errors.New("reordered")
	// ErrRoot: the hashes do not lead to the signed root.
	ErrRoot = errors.New("root differs")
	// ErrCut: the ledger ends before the size that it was signed for.
	ErrCut = errors.New("cut")
	// ErrForked: a signed checkpoint held outside is of another history.
	ErrForked = errors.New("forked")
	// ErrOverdue: a receipt's time has passed and its entry is absent.
	ErrOverdue = errors.New("overdue")
)
