package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// exportFormat names the format of exports in their first line.
const exportFormat = "daypass/ledger-export/v1"

// Bounds of what is read back from an export.
const (
	maxHeader = 8 << 20 // the first line: checkpoints of some ten thousand rotations
	maxLine   = 1 << 17 // any other: the largest leaf, also when it had to be wrapped as base64
)

// MaxRotations is how many changes of its key a ledger can have and still be verified.
const MaxRotations = 10_000

// ExportHead is what an export says before its entries.
type ExportHead struct {
	// Checkpoint is the signed checkpoint of the tree that is exported.
	Checkpoint string
	// Keys are the ledger's verifier keys, for people to compare: [VerifyExport] does not trust them.
	Keys []string
	// Rotations are the checkpoints that two keys signed, one for each change of the signing key, oldest first.
	// They let a verifier who trusts an old key follow to the present one.
	Rotations []string
}

// headLine is the first line of an export.
type headLine struct {
	Format     string   `json:"export"`
	Checkpoint string   `json:"checkpoint"`
	Keys       []string `json:"keys,omitempty"`
	Rotations  []string `json:"rotations,omitempty"`
}

// blockLine goes before up to 256 entries: the hashes that the tree has for them. They make the difference
// between "the root differs" and "entry 4711 was edited".
type blockLine struct {
	At     int64  `json:"at"`
	Hashes []byte `json:"hashes"` // 32 bytes each
}

// wrapLine carries a leaf that is not one, as the store had it, so that it cannot break the lines.
type wrapLine struct {
	Leaf []byte `json:"leaf"`
}

// WriteExport writes the ledger up to head's checkpoint as JSON lines: the head, then for every 256 entries the
// hashes that the tree has for them and the leaves. It asks r for the hashes and leaves for up to limit leaves
// from an index on, and keeps no more than one block in memory. It exports what is there, also when that does
// not fit together: evidence must come out of a damaged ledger too. Verifying is [VerifyExport]'s work.
func WriteExport(w io.Writer, head ExportHead, r tlog.HashReader, leaves func(from int64, limit int) ([][]byte, error)) error {
	checkpoint, _, err := readCheckpoint(head.Checkpoint)
	if err != nil {
		return fmt.Errorf("export the ledger: %w", err)
	}
	out := bufio.NewWriterSize(w, 1<<16)
	if err := writeLine(out, headLine{exportFormat, head.Checkpoint, head.Keys, head.Rotations}); err != nil {
		return fmt.Errorf("export the ledger: %w", err)
	}
	for at := int64(0); at < checkpoint.Size; at += TileWidth {
		width := int(min(TileWidth, checkpoint.Size-at))
		if err := writeBlock(out, at, width, r, leaves); err != nil {
			return fmt.Errorf("export the ledger from entry %d: %w", at, err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("export the ledger: %w", err)
	}
	return nil
}

func writeBlock(out *bufio.Writer, at int64, width int, r tlog.HashReader, leaves func(from int64, limit int) ([][]byte, error)) error {
	hashes, err := tlog.ReadTileData(Tile{Index: at >> tileHeight, Width: width}.lower(), r)
	if err != nil {
		return err
	}
	if err := writeLine(out, blockLine{at, hashes}); err != nil {
		return err
	}
	block, err := leaves(at, width)
	if err != nil {
		return err
	}
	if len(block) > width {
		return fmt.Errorf("asked for %d entries, got %d", width, len(block))
	}
	for _, leaf := range block {
		if _, err := ParseLeaf(leaf); err != nil {
			if err := writeLine(out, wrapLine{leaf}); err != nil {
				return err
			}
			continue
		}
		if _, err := out.Write(append(leaf[:len(leaf):len(leaf)], '\n')); err != nil {
			return err
		}
	}
	return nil
}

func writeLine(out *bufio.Writer, line any) error {
	text, err := encodeLine(line)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

// encodeLine returns a line with its end. It escapes what JSON demands and leaves <, > and & alone, so that
// verifiers in other languages find what they expect.
func encodeLine(line any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(line)
	return b.Bytes(), err
}

// exportReader reads an export line by line.
type exportReader struct {
	in   *bufio.Reader
	long []byte // a line longer than in's buffer
	line int    // the number of the last line read, from 1
	next []byte // the line ahead, without its end; nil: not read yet
	torn bool   // the export ends within a line
}

func newExportReader(r io.Reader) *exportReader {
	return &exportReader{in: bufio.NewReaderSize(r, maxLine)}
}

// peek returns the next line without its end, and io.EOF at the end of the export. A last line without end is torn
// and not returned. The line is valid until take.
func (x *exportReader) peek(limit int) ([]byte, error) {
	if x.next != nil {
		return x.next, nil
	}
	line, err := x.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		x.long = append(x.long[:0], line...)
		for errors.Is(err, bufio.ErrBufferFull) && len(x.long) <= limit {
			line, err = x.in.ReadSlice('\n')
			x.long = append(x.long, line...)
		}
		line = x.long
	}
	switch {
	case len(line) > limit || errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("line %d: %w: more than %d bytes", x.line+1, ErrFormat, limit)
	case err == io.EOF:
		x.torn = x.torn || len(line) > 0
		return nil, io.EOF
	case err != nil:
		return nil, err
	}
	x.line++
	x.next = line[:len(line)-1]
	return x.next, nil
}

// take lets the next peek read on.
func (x *exportReader) take() { x.next = nil }

// head reads the first line.
func (x *exportReader) head() (ExportHead, error) {
	line, err := x.peek(maxHeader)
	if errors.Is(err, io.EOF) {
		return ExportHead{}, fmt.Errorf("head of the export: %w: it is absent", ErrFormat)
	}
	if err != nil {
		return ExportHead{}, fmt.Errorf("head of the export: %w", err)
	}
	defer x.take()
	var h headLine
	if err := decodeExact(line, &h); err != nil || h.Format != exportFormat || len(h.Rotations) > MaxRotations {
		return ExportHead{}, fmt.Errorf("head of the export: %w: not %q", ErrFormat, exportFormat)
	}
	return ExportHead{h.Checkpoint, h.Keys, h.Rotations}, nil
}

// block reads the line that begins a block. The error is io.EOF where the export ends.
func (x *exportReader) block() (at int64, hashes []Hash, err error) {
	line, err := x.peek(maxLine)
	if err != nil {
		return 0, nil, err
	}
	defer x.take()
	var b blockLine
	if err := decodeExact(line, &b); err != nil || len(b.Hashes) == 0 || len(b.Hashes)%len(Hash{}) != 0 ||
		len(b.Hashes) > TileWidth*len(Hash{}) {
		return 0, nil, fmt.Errorf("line %d: %w: not the hashes of a block", x.line, ErrFormat)
	}
	hashes = make([]Hash, 0, TileWidth)
	for rest := b.Hashes; len(rest) > 0; rest = rest[len(Hash{}):] {
		hashes = append(hashes, Hash(rest[:len(Hash{})]))
	}
	return b.At, hashes, nil
}

// blockStart and wrapStart tell the lines that are not leaves; no leaf begins like them.
const (
	blockStart = `{"at":`
	wrapStart  = `{"leaf":`
)

// leaf reads the next leaf of the block. It reports false where the block or the export ends. The bytes are valid
// until the next call.
func (x *exportReader) leaf() (leaf []byte, ok bool, err error) {
	x.take()
	line, err := x.peek(maxLine)
	if err != nil || bytes.HasPrefix(line, []byte(blockStart)) {
		if errors.Is(err, io.EOF) {
			err = nil // the block is over; whoever asks for the next one sees the end
		}
		return nil, false, err
	}
	if bytes.HasPrefix(line, []byte(wrapStart)) {
		var wrapped wrapLine
		if err := decodeExact(line, &wrapped); err != nil {
			return nil, false, fmt.Errorf("line %d: %w: not a leaf", x.line, ErrFormat)
		}
		return wrapped.Leaf, true, nil
	}
	return line, true, nil
}

// decodeExact decodes a line, and refuses one that [writeLine] would have written otherwise.
func decodeExact[T any](line []byte, into *T) error {
	if err := json.Unmarshal(line, into); err != nil {
		return err
	}
	again, err := encodeLine(into)
	if err != nil {
		return err
	}
	if !bytes.Equal(bytes.TrimSuffix(again, []byte("\n")), line) {
		return ErrFormat
	}
	return nil
}
