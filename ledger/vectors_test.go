package ledger_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/ledger"
)

var update = flag.Bool("update", false, "rewrite testdata/vectors")

// vector is a case for any verifier: bytes, and what is to be found wrong with them.
type vector struct {
	About   string   `json:"about"`
	Kind    string   `json:"kind"` // leaf, checkpoint, receipt, proof, consistency, bundle, tile, export
	Want    string   `json:"want"` // ok or the class of the error
	Keys    []string `json:"keys,omitempty"`
	Now     string   `json:"now,omitempty"`
	Against []string `json:"against,omitempty"`
	Input   string   `json:"input,omitempty"`  // the text to judge
	Base64  []byte   `json:"base64,omitempty"` // or the bytes
	Leaf    string   `json:"leaf,omitempty"`   // what a proof is of
	// consistency: the tree of Size leaves and Root begins with that of Old leaves and OldRoot
	Size    int64         `json:"size,omitempty"`
	Root    string        `json:"root,omitempty"`
	Old     int64         `json:"old,omitempty"`
	OldRoot string        `json:"old_root,omitempty"`
	Hashes  []ledger.Hash `json:"hashes,omitempty"`
}

// classes are the words for the errors.
func classes() map[string]error {
	return map[string]error{
		"format": ledger.ErrFormat, "leaf": ledger.ErrLeaf, "signature": ledger.ErrSignature, "proof": ledger.ErrProof, "edited": ledger.ErrEdited,
		"deleted": ledger.ErrDeleted, "reordered": ledger.ErrReordered, "root": ledger.ErrRoot, "cut": ledger.ErrCut, "forked": ledger.ErrForked,
		"overdue": ledger.ErrOverdue,
	}
}

// class returns the words for an error; one is right.
func class(err error) string {
	if err == nil {
		return "ok"
	}
	var words []string
	for word, class := range classes() {
		if errors.Is(err, class) {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// judge runs the verifier that the vector is for.
func judge(t *testing.T, v vector) error {
	t.Helper()
	var err error
	switch v.Kind {
	case "leaf":
		_, err = ledger.ParseLeaf([]byte(v.Input))
	case "bundle":
		_, err = ledger.DecodeBundle(v.Base64)
	case "tile":
		_, err = ledger.ParseTilePath(v.Input)
	case "checkpoint":
		_, err = verifier(t, v.Keys...).Checkpoint(v.Input)
	case "receipt":
		_, err = verifier(t, v.Keys...).Receipt(v.Input)
	case "proof":
		_, _, err = verifier(t, v.Keys...).Inclusion(v.Input, []byte(v.Leaf))
	case "consistency":
		root, err1 := ledger.ParseHash(v.Root)
		old, err2 := ledger.ParseHash(v.OldRoot)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		err = ledger.VerifyConsistency(v.Hashes, v.Size, root, v.Old, old)
	case "export":
		now := time.Time{}
		if v.Now != "" {
			if now, err = time.Parse(time.RFC3339, v.Now); err != nil {
				t.Fatal(err)
			}
		}
		_, err = ledger.VerifyExport(strings.NewReader(v.Input), v.Keys, v.Against, now)
	default:
		t.Fatalf("unknown kind %q", v.Kind)
	}
	return err
}

func encode(t *testing.T, v vector) []byte {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestVectors judges every file. The files are for verifiers in any language: this is ours.
func TestVectors(t *testing.T) {
	generated := vectors(t)
	if *update {
		write(t, generated)
	}
	files, err := filepath.Glob("testdata/vectors/*.json")
	if err != nil || len(files) != len(generated) {
		t.Fatalf("%d files for %d cases, %v: run go test -run TestVectors -update", len(files), len(generated), err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			decoder := json.NewDecoder(bytes.NewReader(text))
			decoder.DisallowUnknownFields()
			var v vector
			if err := decoder.Decode(&v); err != nil {
				t.Fatal(err)
			}
			if want := encode(t, generated[strings.TrimSuffix(filepath.Base(file), ".json")]); !bytes.Equal(text, want) {
				t.Error("the file is not what the generator writes: run go test -run TestVectors -update")
			}
			err = judge(t, v)
			if got := class(err); got != v.Want {
				t.Errorf("%s: got %s (%v), want %s", v.About, got, err, v.Want)
			}
			seen[v.Want] = true
		})
	}
	for word := range classes() {
		if !seen[word] {
			t.Errorf("no vector for class %s", word)
		}
	}
}

func write(t *testing.T, generated map[string]vector) {
	t.Helper()
	if err := errors.Join(os.RemoveAll("testdata/vectors"), os.MkdirAll("testdata/vectors", 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, v := range generated {
		if err := os.WriteFile(filepath.Join("testdata/vectors", name+".json"), encode(t, v), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// vectors generates all cases by the name of their file.
func vectors(t *testing.T) map[string]vector {
	t.Helper()
	all := map[string]vector{}
	for prefix, group := range map[string]map[string]vector{
		"leaf": leafVectors(t), "note": noteVectors(t), "proof": proofVectors(t), "tile": tileVectors(t), "export": exportVectors(t),
	} {
		for name, v := range group {
			all[prefix+"-"+name] = v
		}
	}
	return all
}

func leafVectors(t *testing.T) map[string]vector {
	t.Helper()
	leaf, err := full().Leaf()
	if err != nil {
		t.Fatal(err)
	}
	text := string(leaf)
	change := func(old, new string) string { return strings.Replace(text, old, new, 1) }
	group := map[string]vector{"ok": {About: "every field", Want: "ok", Input: text}}
	for _, event := range ledger.Events() {
		e := full()
		e.Event = event
		if strings.HasPrefix(string(event), "device.") {
			e.Device = "edge:pump-7"
		}
		leaf, _ := e.Leaf()
		group["ok-"+strings.ReplaceAll(string(event), ".", "-")] = vector{About: "event " + string(event), Want: "ok", Input: string(leaf)}
	}
	for name, bad := range map[string]vector{
		"space":       {About: "space after a comma", Input: change(`,"count"`, `, "count"`)},
		"order":       {About: "names out of order", Input: change(`"role":"r","target":"t"`, `"target":"t","role":"r"`)},
		"twice":       {About: "a name that comes twice", Input: change(`"decision":"d"`, `"decision":"d","decision":"d"`)},
		"unknown":     {About: "an unknown name", Input: change(`"decision"`, `"decisions"`)},
		"event":       {About: "an unknown event", Input: change(`lease.pending`, `lease.lost`)},
		"empty":       {About: "an empty value", Input: change(`"decision":"d"`, `"decision":""`)},
		"zero":        {About: "a count of zero", Input: change(`"count":7`, `"count":0`)},
		"large-count": {About: "a count above 2^53-1", Input: change(`"count":7`, `"count":9007199254740992`)},
		"quoted":      {About: "a quoted count", Input: change(`"count":7`, `"count":"7"`)},
		"escape":      {About: "an escape", Input: change(`"decision":"d"`, `"decision":"\u0064"`)},
		"blank":       {About: "a space in a value", Input: change(`"expired"`, `"it expired"`)},
		"time":        {About: "a time in milliseconds", Input: change(`00:00.123456Z`, `00:00.123Z`)},
		"offset":      {About: "a time with an offset", Input: change(`00:00.123456Z`, `00:00.123456+00:00`)},
		"date":        {About: "the 30th of February", Input: change(`2026-03-01`, `2026-02-30`)},
		"base64":      {About: "a commitment with loose last bits", Input: change(full().Commitment.String()[42:], "B=")},
		"lacking":     {About: "a lease event without a lease", Input: change(`"lease":"l",`, ``)},
		"newline":     {About: "a newline after the object", Input: text + "\n"},
		"long":        {About: "65,536 bytes", Input: change(`"role":"r"`, `"role":"`+strings.Repeat("r", ledger.MaxLeaf-len(text)+2)+`"`)},
	} {
		bad.Want = "leaf"
		group[name] = bad
	}
	for name, v := range group {
		v.Kind = "leaf"
		group[name] = v
	}
	return group
}

func noteVectors(t *testing.T) map[string]vector {
	t.Helper()
	s, other, b := signer(t, 1), signer(t, 2), newBook(t, 3)
	keys, good, root := []string{s.VerifierKey()}, b.checkpoint(s, 3), b.root(3).String()
	promise := receipt(t, s, entry(1))
	spaced := strings.Replace(string(b.leaves[1]), ":", ": ", 1)
	group := map[string]vector{
		"checkpoint-ok":        {Want: "ok", About: "a checkpoint of three entries", Input: good},
		"checkpoint-empty":     {Want: "ok", About: "a checkpoint of the empty tree", Input: s.Checkpoint(0, ledger.EmptyRoot())},
		"checkpoint-both":      {Want: "ok", About: "signed by two keys, one of them trusted", Input: b.both(other, s, 3)},
		"checkpoint-stranger":  {Want: "signature", About: "signed by another key", Input: b.checkpoint(other, 3)},
		"checkpoint-changed":   {Want: "signature", About: "the size was changed after signing", Input: strings.Replace(good, "\n3\n", "\n4\n", 1)},
		"checkpoint-zero":      {Want: "format", About: "a size with a leading zero, signed", Input: sign(t, 1, origin+"\n03\n"+root+"\n")},
		"checkpoint-extension": {Want: "format", About: "an extension line, signed", Input: sign(t, 1, origin+"\n3\n"+root+"\nmore\n")},
		"checkpoint-receipt":   {Want: "format", About: "a receipt as a checkpoint", Input: promise},
		"checkpoint-large":     {Want: "format", About: "a size above 2^48, signed", Input: sign(t, 1, origin+"\n9223372036854775807\n"+root+"\n")},
		"receipt-ok":           {Want: "ok", About: "a receipt", Input: promise},
		"receipt-stranger":     {Want: "signature", About: "signed by another key", Input: receipt(t, other, entry(1))},
		"receipt-changed":      {Want: "signature", About: "the time was changed after signing", Input: strings.Replace(promise, "12:01:01", "12:01:02", 1)},
		"receipt-leaf":         {Want: "leaf", About: "the leaf is not canonical, signed", Input: s.Receipt([]byte(spaced), epoch)},
		"receipt-checkpoint":   {Want: "format", About: "a checkpoint as a receipt", Input: good},
	}
	for name, v := range group {
		v.Kind, _, _ = strings.Cut(name, "-")
		v.Keys = keys
		group[name] = v
	}
	return group
}

func proofVectors(t *testing.T) map[string]vector {
	t.Helper()
	s, b := signer(t, 1), newBook(t, 11)
	prove := func(n int64) string {
		hashes, err := ledger.ProveInclusion(11, n, b.hashes)
		if err != nil {
			t.Fatal(err)
		}
		return ledger.InclusionProof{Index: n, Hashes: hashes, Checkpoint: b.checkpoint(s, 11)}.Text()
	}
	leaf := string(b.leaves[4])
	consistent, err := ledger.ProveConsistency(11, 6, b.hashes)
	if err != nil {
		t.Fatal(err)
	}
	consistency := vector{Kind: "consistency", Size: 11, Root: b.root(11).String(), Old: 6, OldRoot: b.root(6).String(), Hashes: consistent}
	with := func(about, want string, change func(*vector)) vector {
		v := consistency
		v.About, v.Want, v.Hashes = about, want, slices.Clone(consistent)
		change(&v)
		return v
	}
	group := map[string]vector{
		"ok":         {Want: "ok", About: "entry 4 of 11", Input: prove(4), Leaf: leaf},
		"last":       {Want: "ok", About: "entry 10 of 11", Input: prove(10), Leaf: string(b.leaves[10])},
		"other-leaf": {Want: "proof", About: "the proof of entry 4 for the leaf of entry 5", Input: prove(4), Leaf: string(b.leaves[5])},
		"other-at":   {Want: "proof", About: "the proof of entry 4 at position 5", Input: strings.Replace(prove(4), "index 4", "index 5", 1), Leaf: leaf},
		"beyond":     {Want: "format", About: "a position that the tree does not have", Input: strings.Replace(prove(4), "index 4", "index 11", 1), Leaf: leaf},
		"zero":       {Want: "format", About: "a position with a leading zero", Input: strings.Replace(prove(4), "index 4", "index 04", 1), Leaf: leaf},
		"changed":    {Want: "signature", About: "the checkpoint's size was changed", Input: strings.Replace(prove(4), "\n11\n", "\n12\n", 1), Leaf: leaf},

		"consistency-ok":    with("6 entries within 11", "ok", func(*vector) {}),
		"consistency-same":  with("11 entries within 11", "ok", func(v *vector) { v.Old, v.OldRoot, v.Hashes = 11, v.Root, nil }),
		"consistency-empty": with("no entries within 11", "ok", func(v *vector) { v.Old, v.OldRoot, v.Hashes = 0, ledger.EmptyRoot().String(), nil }),
		"consistency-root":  with("another old root", "proof", func(v *vector) { v.OldRoot = b.root(7).String() }),
		"consistency-hash":  with("a hash was changed", "proof", func(v *vector) { v.Hashes[0][0] ^= 1 }),
		"consistency-more":  with("a hash too many", "proof", func(v *vector) { v.Hashes = append(v.Hashes, ledger.Hash{}) }),
		"consistency-less":  with("a hash too few", "proof", func(v *vector) { v.Hashes = v.Hashes[1:] }),
		"consistency-size":  with("more old entries than new ones", "format", func(v *vector) { v.Old = 12 }),
	}
	for name, v := range group {
		if v.Kind == "" {
			v.Kind, v.Keys = "proof", []string{s.VerifierKey()}
		}
		group[name] = v
	}
	return group
}

func tileVectors(t *testing.T) map[string]vector {
	t.Helper()
	group := map[string]vector{
		"bundle-ok":    {Kind: "bundle", Want: "ok", About: "two entries", Base64: []byte("\x00\x02ab\x00\x01c")},
		"bundle-cut":   {Kind: "bundle", Want: "format", About: "the last entry ends early", Base64: []byte("\x00\x02ab\x00\x02c")},
		"bundle-long":  {Kind: "bundle", Want: "format", About: "257 entries", Base64: make([]byte, 514)},
		"bundle-empty": {Kind: "bundle", Want: "format", About: "no entries"},
	}
	for name, path := range map[string]string{"full": "tile/0/x001/234/067", "ok": "tile/0/x001/x234/067", "entries": "tile/entries/000.p/8",
		"zero": "tile/0/000.p/0", "wide": "tile/0/000.p/256", "level": "tile/00/000", "short": "tile/0/0", "prefix": "tile/0/x000/001", "dots": "tile/0/../000"} {
		group["path-"+name] = vector{Kind: "tile", About: "the path " + path, Input: path, Want: map[bool]string{true: "ok", false: "format"}[name == "ok" || name == "entries"]}
	}
	return group
}
