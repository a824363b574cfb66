package ledger_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass/daypass/ledger"
)

// seeds adds the inputs of all vectors of a kind.
func seeds(f *testing.F, kind string, add func(v vector)) {
	f.Helper()
	files, err := filepath.Glob("testdata/vectors/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no vectors", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var v vector
		if err := json.Unmarshal(text, &v); err != nil {
			f.Fatal(err)
		}
		if v.Kind == kind && len(v.Input) < 1<<13 {
			add(v)
		}
	}
}

// classed fails when an error has no class or several.
func classed(t *testing.T, err error) {
	t.Helper()
	if word := class(err); classes()[word] == nil && word != "ok" {
		t.Fatalf("class %q: %v", word, err)
	}
}

func FuzzParseLeaf(f *testing.F) {
	seeds(f, "leaf", func(v vector) { f.Add([]byte(v.Input)) })
	f.Fuzz(func(t *testing.T, leaf []byte) {
		e, err := ledger.ParseLeaf(leaf)
		classed(t, err)
		if err != nil {
			return
		}
		if again, err := e.Leaf(); err != nil || !bytes.Equal(again, leaf) {
			t.Fatalf("%q came back as %q, %v", leaf, again, err)
		}
		var object map[string]any
		if err := json.Unmarshal(leaf, &object); err != nil {
			t.Fatalf("%q is not JSON: %v", leaf, err)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	s := signer(f, 1)
	v := verifier(f, s.VerifierKey())
	seeds(f, "checkpoint", func(v vector) { f.Add(v.Input) })
	f.Fuzz(func(t *testing.T, text string) {
		c, err := v.Checkpoint(text)
		classed(t, err)
		if err == nil && (c.Size < 0 || c.Size > ledger.MaxSize || c.Origin != origin || len(c.Keys) != 1) {
			t.Fatalf("%+v", c)
		}
		if cosigned, err := s.Cosign(text); err == nil {
			if _, err := v.Checkpoint(cosigned); err != nil {
				t.Fatalf("cosigned %q does not verify: %v", cosigned, err)
			}
		}
	})
}

func FuzzReceipt(f *testing.F) {
	s := signer(f, 1)
	v := verifier(f, s.VerifierKey())
	seeds(f, "receipt", func(v vector) { f.Add(v.Input) })
	f.Fuzz(func(t *testing.T, text string) {
		r, err := v.Receipt(text)
		classed(t, err)
		if err != nil {
			return
		}
		if again, err := v.Receipt(s.Receipt(r.Leaf, r.IntegrateBy)); err != nil || again.Entry != r.Entry {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

func FuzzProofText(f *testing.F) {
	v := verifier(f, signer(f, 1).VerifierKey())
	seeds(f, "proof", func(v vector) { f.Add(v.Input, []byte(v.Leaf)) })
	f.Fuzz(func(t *testing.T, text string, leaf []byte) {
		if p, err := ledger.ParseProof(text); err == nil && p.Text() != text {
			t.Fatalf("%q came back as %q", text, p.Text())
		}
		_, _, err := v.Inclusion(text, leaf)
		classed(t, err)
	})
}

// FuzzProofs gives hostile proofs, sizes and positions: they must end, and hold for nothing but what is true.
func FuzzProofs(f *testing.F) {
	b := newBook(f, 20)
	root, oldRoot := b.root(20), b.root(13)
	pack := func(hashes []ledger.Hash) (packed []byte) {
		for _, h := range hashes {
			packed = append(packed, h[:]...)
		}
		return packed
	}
	inclusion, _ := ledger.ProveInclusion(20, 7, b.hashes)
	consistency, _ := ledger.ProveConsistency(20, 13, b.hashes)
	f.Add(pack(inclusion), int64(20), int64(7))
	f.Add(pack(consistency), int64(20), int64(13))
	f.Add([]byte{}, int64(1<<62+1), int64(1<<62))
	f.Add([]byte{}, int64(0), int64(0))
	f.Fuzz(func(t *testing.T, packed []byte, size, at int64) {
		var proof []ledger.Hash
		for ; len(packed) >= 32; packed = packed[32:] {
			proof = append(proof, ledger.Hash(packed[:32]))
		}
		err := ledger.VerifyInclusion(proof, size, root, at, ledger.LeafHash(b.leaves[7]))
		if classed(t, err); err == nil && (size != 20 || at != 7) && len(proof) < 2 {
			t.Fatalf("entry 7 of 20 is entry %d of %d by %d hashes", at, size, len(proof))
		}
		err = ledger.VerifyConsistency(proof, size, root, at, oldRoot)
		if classed(t, err); err == nil && size == 20 && at != 13 {
			t.Fatalf("the root of 13 was taken for that of %d", at)
		}
	})
}

func FuzzExport(f *testing.F) {
	s, b := signer(f, 1), newBook(f, 7)
	keys := []string{s.VerifierKey(), signer(f, 2).VerifierKey()}
	against := []string{b.checkpoint(s, 3), receipt(f, s, entry(2))}
	seeds(f, "export", func(v vector) { f.Add([]byte(v.Input)) })
	f.Fuzz(func(t *testing.T, export []byte) {
		report, err := ledger.VerifyExport(bytes.NewReader(export), keys, against, late)
		classed(t, err)
		if err == nil && (report.Held != 2 || report.Checkpoint.Size < 3) {
			t.Fatalf("verified with %+v", report)
		}
		_, err = ledger.VerifyExport(bytes.NewReader(export), keys[:1], nil, late)
		classed(t, err)
	})
}

func FuzzTilesAndBundles(f *testing.F) {
	seeds(f, "tile", func(v vector) { f.Add([]byte(v.Input)) })
	seeds(f, "bundle", func(v vector) { f.Add(v.Base64) })
	f.Add([]byte("tile/0/x018/x446/x744/x073/x709/x551/616"))
	f.Fuzz(func(t *testing.T, input []byte) {
		tile, err := ledger.ParseTilePath(string(input))
		if classed(t, err); err == nil {
			if tile.Path() != string(input) || tile.Index < 0 || tile.Width < 1 || tile.Width > 256 {
				t.Fatalf("%q: %+v", input, tile)
			}
			empty := tlog.HashReaderFunc(func(indexes []int64) ([]ledger.Hash, error) { return make([]ledger.Hash, len(indexes)), nil })
			if data, err := tile.Hashes(ledger.MaxSize, empty); err == nil && len(data) != 32*tile.Width {
				t.Fatalf("%q: %d bytes", input, len(data))
			}
		}
		leaves, err := ledger.DecodeBundle(input)
		if classed(t, err); err == nil {
			if again, err := ledger.EncodeBundle(leaves); err != nil || !bytes.Equal(again, input) {
				t.Fatalf("%x came back as %x, %v", input, again, err)
			}
		}
	})
}
