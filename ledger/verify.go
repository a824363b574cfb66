package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Report is what a verified export proved.
type Report struct {
	Checkpoint Checkpoint // of the whole export; Keys are those that signed it
	First      time.Time  // of the first entry
	Last       time.Time  // of the last entry
	Rotations  []Rotation // the changes of the signing key that were followed
	Held       int        // receipts and checkpoints from outside that agree
	Pending    int        // receipts from outside whose entry is absent and whose time has not come
}

// Rotation is a change of the signing key.
type Rotation struct {
	Size int64  // of the checkpoint that the old and the new key signed
	Key  string // the new verifier key
}

// VerifyExport checks an export from beginning to end with the ledger's verifier keys that the caller trusts, and
// against receipts and checkpoints (signed texts) that others kept. It streams: memory grows with the number of
// held texts and of rotations, not with the export. The error wraps one of the classes of this package and names
// the position, counted from 0.
//
// Trusting one key is enough: VerifyExport follows entries of [LedgerRotated] whose checkpoint was signed by a
// trusted key and by the new one, and no longer accepts the old key for later checkpoints.
//
// A receipt whose entry is absent is [ErrOverdue] when its time has come by now, which is the time up to which the
// export is expected to be complete: when it was made, by the verifier's own clock. The zero time means that every
// receipt must be in.
//
// Without held texts a verified export shows that its entries are those that the keys signed, in that order, and
// nothing more: whoever has the signing key can sign a shorter or another history. See the package comment.
func VerifyExport(r io.Reader, keys, against []string, now time.Time) (Report, error) {
	trusted, err := NewVerifier(keys...)
	if err != nil {
		return Report{}, err
	}
	a := &audit{in: newExportReader(r), trusted: trusted, current: slices.Clone(keys), now: now}
	if err := a.open(against); err != nil {
		return Report{}, fmt.Errorf("verify the ledger: %w", err)
	}
	for a.edge.Size() < a.final.Size {
		if err := a.block(); err != nil {
			return Report{}, fmt.Errorf("verify the ledger: %w", err)
		}
	}
	if err := a.close(); err != nil {
		return Report{}, fmt.Errorf("verify the ledger: %w", err)
	}
	return a.report, nil
}

// mark is a checkpoint whose root is compared when the stream reaches its size.
type mark struct {
	Checkpoint
	text     string
	held     int  // the position among the held texts; -1: from the export's own head
	fits     bool // the tree has this root at this size
	rotation bool
}

// held is one text from outside.
type held struct {
	text    string
	receipt *Receipt
	mark    *mark
	found   bool // for receipts: the tree has the leaf
}

// introduced is a key that an entry names and no checkpoint has confirmed yet.
type introduced struct {
	key string
	at  int64 // the entry's position
}

// audit is one run over an export.
type audit struct {
	in      *exportReader
	trusted *Verifier    // all keys that were ever trusted: signatures of the past stay good
	current []string     // the keys that may sign now
	awaited []introduced // by position
	latest  introduced   // the last key that an entry introduced: it must sign from then on
	final   Checkpoint
	text    string // of the final checkpoint
	now     time.Time

	edge     Edge
	scratch  []Hash
	marks    []*mark // by size; those before position reached are done
	reached  int
	held     []*held
	receipts map[Hash][]*held // those whose leaf was not seen yet
	wrong    error            // the first entry that is not what the tree has
	report   Report
}

// open reads the head and the held texts. Nothing is believed yet: keys may become known on the way.
func (a *audit) open(against []string) error {
	head, err := a.in.head()
	if err != nil {
		return err
	}
	if a.final, _, err = readCheckpoint(head.Checkpoint); err != nil {
		return fmt.Errorf("checkpoint of the export: %w", err)
	}
	if a.text = head.Checkpoint; a.final.Origin != a.trusted.origin {
		return fmt.Errorf("export of ledger %q, not %q: %w", a.final.Origin, a.trusted.origin, ErrSignature)
	}
	for i, text := range head.Rotations {
		c, _, err := readCheckpoint(text)
		if err != nil || c.Origin != a.final.Origin {
			return fmt.Errorf("rotation %d of the export: %w", i, ErrFormat)
		}
		a.marks = append(a.marks, &mark{Checkpoint: c, text: text, held: -1, rotation: true})
	}
	a.receipts = map[Hash][]*held{}
	for i, text := range against {
		if err := a.hold(i, text); err != nil {
			return fmt.Errorf("held text %d: %w", i, err)
		}
	}
	slices.SortStableFunc(a.marks, func(x, y *mark) int { return cmp.Compare(x.Size, y.Size) })
	return a.reach()
}

// hold takes one held text.
func (a *audit) hold(i int, text string) error {
	h := &held{text: text}
	a.held = append(a.held, h)
	receipt, receiptErr := readReceipt(text)
	if receiptErr == nil {
		h.receipt = &receipt
		leaf := LeafHash(receipt.Leaf)
		a.receipts[leaf] = append(a.receipts[leaf], h)
		return nil
	}
	c, _, err := readCheckpoint(text)
	if err != nil {
		if errors.Is(receiptErr, ErrLeaf) {
			return receiptErr
		}
		return fmt.Errorf("%w: neither a receipt nor a checkpoint", ErrFormat)
	}
	h.mark = &mark{Checkpoint: c, text: text, held: i}
	a.marks = append(a.marks, h.mark)
	return nil
}

// block reads up to 256 entries.
func (a *audit) block() error {
	at := a.edge.Size()
	start, hashes, err := a.in.block()
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the export ends %s entry %d of %d", ErrCut, a.torn(), at, a.final.Size)
	case err != nil:
		return err
	case start > at:
		return fmt.Errorf("entries %d to %d: %w", at, start-1, ErrDeleted)
	case start < at:
		return fmt.Errorf("entry %d: %w: the block of entry %d comes after it", at, ErrReordered, start)
	case int64(len(hashes)) > a.final.Size-at:
		return fmt.Errorf("entry %d: %w: there are more hashes than the %d of the checkpoint", at, ErrFormat, a.final.Size)
	}
	leaves, err := a.leaves(at, hashes)
	if err != nil {
		return err
	}
	if a.in.torn && len(leaves) < len(hashes) {
		return fmt.Errorf("%w: the export ends %s entry %d of %d", ErrCut, a.torn(), at+int64(len(leaves)), a.final.Size)
	}
	a.compare(at, hashes, leaves)
	return nil
}

// torn says where an export that ends early ends.
func (a *audit) torn() string {
	if a.in.torn {
		return "in the middle of a line before"
	}
	return "before"
}

// leaves reads the leaves of a block and returns their hashes, no more than one above the number expected. Those
// that are where the tree has them are taken in.
func (a *audit) leaves(at int64, hashes []Hash) (read []Hash, err error) {
	for {
		leaf, ok, err := a.in.leaf()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		hash := LeafHash(leaf)
		if n := len(read); n < len(hashes) && hash == hashes[n] {
			a.entry(at+int64(n), leaf)
		}
		if len(read) <= len(hashes) {
			read = append(read, hash)
		}
	}
	for _, hash := range hashes {
		for _, h := range a.receipts[hash] { // by the tree's hash, whatever the line beside it says
			h.found = true
		}
		a.scratch = a.edge.Append(a.scratch[:0], hash)
		if err := a.reach(); err != nil {
			return nil, err
		}
	}
	return read, nil
}

// entry takes in a leaf that stands where the tree has it.
func (a *audit) entry(at int64, leaf []byte) {
	e, err := ParseLeaf(leaf)
	if err == nil && e.Event == LedgerRotated {
		err = a.await(introduced{e.Key, at})
	}
	if err != nil {
		a.blame(fmt.Errorf("entry %d: %w", at, err))
		return
	}
	if at == 0 {
		a.report.First = e.Time
	}
	a.report.Last = e.Time
}

// await remembers a key that an entry introduces.
func (a *audit) await(next introduced) error {
	v, err := NewVerifier(next.key)
	if err != nil || v.origin != a.trusted.origin {
		return fmt.Errorf("%w: it introduces a key that is none of this ledger", ErrLeaf)
	}
	if len(a.awaited) == MaxRotations {
		return fmt.Errorf("%w: more than %d keys wait for their checkpoint", ErrLeaf, MaxRotations)
	}
	a.awaited = append(a.awaited, next)
	a.latest = next
	return nil
}

// compare finds the first leaf that is not the one of the tree, and says what it looks like.
func (a *audit) compare(at int64, want, got []Hash) {
	n := 0
	for n < len(want) && n < len(got) && want[n] == got[n] {
		n++
	}
	where := at + int64(n)
	switch {
	case n == len(want) && n == len(got):
	case n == len(want):
		a.blame(fmt.Errorf("entry %d: %w: one that the tree does not have follows it", where-1, ErrEdited))
	case n == len(got) && at+int64(len(want)) == a.final.Size:
		a.blame(fmt.Errorf("%w: the export ends %s entry %d of %d", ErrCut, a.torn(), where, a.final.Size))
	case n == len(got):
		a.blame(fmt.Errorf("entry %d: %w", where, ErrDeleted))
	case !slices.Contains(want[n:], got[n]):
		a.blame(fmt.Errorf("entry %d: %w", where, ErrEdited))
	case slices.Contains(got[n:], want[n]):
		a.blame(fmt.Errorf("entry %d: %w: another stands in its place", where, ErrReordered))
	default:
		a.blame(fmt.Errorf("entry %d: %w: a later one stands in its place", where, ErrDeleted))
	}
}

// blame keeps the first thing that is wrong with an entry. It is told once the root has shown that the hashes are
// the signed ones; before that the hashes may be what is wrong.
func (a *audit) blame(err error) {
	if a.wrong == nil {
		a.wrong = err
	}
}

// reach compares the checkpoints of the size that the stream has reached.
func (a *audit) reach() error {
	for ; a.reached < len(a.marks) && a.marks[a.reached].Size == a.edge.Size(); a.reached++ {
		m := a.marks[a.reached]
		if m.fits = a.edge.Root() == m.Root; m.fits && m.rotation {
			if err := a.rotate(m.Size, m.text); err != nil {
				return err
			}
		}
	}
	return nil
}

// rotate follows a change of key when a key that may sign now and one that an earlier entry introduced both signed
// this checkpoint. A checkpoint that no present key signed proves nothing and is passed over: it may be of the
// time before the keys that the caller trusts.
func (a *audit) rotate(size int64, text string) error {
	candidates := slices.Clone(a.current)
	for _, next := range a.awaited {
		if next.at < size {
			candidates = append(candidates, next.key)
		}
	}
	if len(candidates) == len(a.current) {
		return nil
	}
	v, err := NewVerifier(candidates...)
	if err != nil {
		return err
	}
	signers, err := v.signers(text)
	if errors.Is(err, errUnsigned) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("rotation at size %d: %w", size, err)
	}
	signed := func(key string) bool { return slices.Contains(signers, key) }
	// The latest of them: where the caller trusts a late key, earlier ones may still wait.
	for _, next := range slices.Backward(a.awaited) {
		if next.at < size && signed(next.key) && slices.ContainsFunc(a.current, signed) {
			return a.follow(size, next.key, signed)
		}
	}
	return nil
}

// follow trusts key in the place of those that vouched for it.
func (a *audit) follow(size int64, key string, signed func(key string) bool) error {
	if err := a.trusted.trust(key); err != nil {
		return err
	}
	a.current = append(slices.DeleteFunc(a.current, signed), key)
	a.awaited = slices.DeleteFunc(a.awaited, func(next introduced) bool { return next.at < size })
	a.report.Rotations = append(a.report.Rotations, Rotation{Size: size, Key: key})
	return nil
}

// close judges what the stream has shown, the most telling first.
func (a *audit) close() error {
	if a.wrong != nil && errors.Is(a.wrong, ErrCut) {
		return a.wrong
	}
	_, _, err := a.in.block()
	if err == nil || errors.Is(err, ErrFormat) || a.in.torn {
		return fmt.Errorf("line %d: %w: the export goes on after its %d entries", a.in.line, ErrFormat, a.final.Size)
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	if err := a.seal(); err != nil {
		return err
	}
	if a.wrong != nil {
		return a.wrong
	}
	return a.outside()
}

// seal checks the final checkpoint: who signed it, and whether it is of this tree.
func (a *audit) seal() error {
	if a.edge.Root() != a.final.Root {
		// A tree that is not the signed one cannot vouch for new keys: then it is unknown whether one signed.
		_, err := a.trusted.signers(a.text)
		if unknown := errors.Is(err, errUnsigned) && a.latest.key != ""; err != nil && !unknown {
			return fmt.Errorf("checkpoint at size %d: %w", a.final.Size, err)
		}
		from, to := a.suspects()
		return fmt.Errorf("somewhere in entries %d to %d: %w", from, max(from, to-1), ErrRoot)
	}
	if err := a.rotate(a.final.Size, a.text); err != nil {
		return err
	}
	signers, err := a.trusted.signers(a.text)
	if err != nil {
		return fmt.Errorf("checkpoint at size %d: %w", a.final.Size, err)
	}
	may := func(key string) bool { return slices.Contains(a.current, key) && slices.Contains(signers, key) }
	switch {
	case !slices.ContainsFunc(a.current, may):
		return fmt.Errorf("checkpoint at size %d: %w: only retired keys signed it", a.final.Size, ErrSignature)
	case a.latest.key != "" && !may(a.latest.key):
		return fmt.Errorf("checkpoint at size %d: %w: the key that entry %d introduced did not sign it, or no trusted key vouches for it",
			a.final.Size, ErrSignature, a.latest.at)
	}
	a.report.Checkpoint = a.final
	a.report.Checkpoint.Keys = signers
	return nil
}

// suspects returns the range of entries that the marks leave for a root that differs.
func (a *audit) suspects() (from, to int64) {
	to = a.final.Size
	for _, m := range a.marks[:a.reached] {
		if !m.fits {
			return from, m.Size
		}
		from = m.Size
	}
	return from, to
}

// outside checks the held texts against the verified tree.
func (a *audit) outside() error {
	for i, h := range a.held {
		if err := a.check(h); err != nil {
			return fmt.Errorf("held text %d: %w", i, err)
		}
	}
	return nil
}

func (a *audit) check(h *held) error {
	if h.receipt != nil {
		r, err := a.trusted.Receipt(h.text)
		switch {
		case err != nil:
			return err
		case h.found:
			a.report.Held++
		case !a.now.IsZero() && r.IntegrateBy.After(a.now):
			a.report.Pending++
		default:
			return fmt.Errorf("%w: entry %s (%s) was promised by %s and is not among the %d entries",
				ErrOverdue, r.Entry.ID, r.Entry.Event, r.IntegrateBy.Format(time.RFC3339), a.final.Size)
		}
		return nil
	}
	c, err := a.trusted.Checkpoint(h.text)
	switch {
	case err != nil:
		return err
	case c.Size > a.final.Size:
		return fmt.Errorf("%w: the ledger had %d entries and the export has %d", ErrCut, c.Size, a.final.Size)
	case !h.mark.fits:
		return fmt.Errorf("%w: the first %d entries had another root", ErrForked, c.Size)
	}
	a.report.Held++
	return nil
}
