package ledger

import (
	"fmt"
	"strconv"
	"strings"
)

// proofLine is the first line of a proof that is kept as text (C2SP tlog-proof).
const proofLine = "c2sp.org/tlog-proof@v1"

// maxProof is more hashes than a proof in a tree of [MaxSize] has.
const maxProof = 64

// InclusionProof is a proof together with the checkpoint that it leads to.
type InclusionProof struct {
	Index      int64
	Hashes     []Hash
	Checkpoint string // signed
}

// Text returns the proof as C2SP tlog-proof text, which verifies offline with the leaf and the ledger's key.
func (p InclusionProof) Text() string {
	var b strings.Builder
	b.WriteString(proofLine + "\nindex " + strconv.FormatInt(p.Index, 10) + "\n")
	for _, h := range p.Hashes {
		b.WriteString(h.String() + "\n")
	}
	b.WriteString("\n" + p.Checkpoint)
	return b.String()
}

// ParseProof reads the text of an [InclusionProof], in the one spelling that [InclusionProof.Text] writes; extra
// lines are refused, for nothing authenticates them. It verifies nothing.
func ParseProof(text string) (InclusionProof, error) {
	malformed := fmt.Errorf("proof: %w", ErrFormat)
	if len(text) > maxNote+maxProof*64 {
		return InclusionProof{}, malformed
	}
	head, checkpoint, ok := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 2 || len(lines) > 2+maxProof {
		return InclusionProof{}, malformed
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil || index < 0 || index >= MaxSize {
		return InclusionProof{}, malformed
	}
	p := InclusionProof{Index: index, Checkpoint: checkpoint}
	for _, line := range lines[2:] {
		h, err := ParseHash(line)
		if err != nil {
			return InclusionProof{}, malformed
		}
		p.Hashes = append(p.Hashes, h)
	}
	if p.Text() != text {
		return InclusionProof{}, malformed
	}
	return p, nil
}

// Inclusion checks that leaf is in the ledger by a proof's text, and returns the checkpoint and leaf's position.
func (v *Verifier) Inclusion(text string, leaf []byte) (Checkpoint, int64, error) {
	p, err := ParseProof(text)
	if err != nil {
		return Checkpoint{}, 0, err
	}
	c, err := v.Checkpoint(p.Checkpoint)
	if err != nil {
		return Checkpoint{}, 0, err
	}
	if err := VerifyInclusion(p.Hashes, c.Size, c.Root, p.Index, LeafHash(leaf)); err != nil {
		return Checkpoint{}, 0, err
	}
	return c, p.Index, nil
}
