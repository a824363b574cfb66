package ledger_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass/daypass/ledger"
)

// late is after every promise of the tests.
var late = epoch.Add(24 * time.Hour)

// exportVectors are the ways in which an export can be wrong, one ledger of seven entries each.
func exportVectors(t *testing.T) map[string]vector {
	t.Helper()
	s, stranger, b := signer(t, 1), signer(t, 9), newBook(t, 7)
	good := b.export(b.checkpoint(s, 7))
	edit := func(n int, old, new string) string {
		all := lines(good)
		all[line(n)] = strings.Replace(all[line(n)], old, new, 1)
		return strings.Join(all, "")
	}
	swapped := lines(good)
	swapped[line(2)], swapped[line(5)] = swapped[line(5)], swapped[line(2)]
	twice := slices.Insert(lines(good), line(3), lines(good)[line(2)])

	// Another history: entry 4 differs, and everything fits together.
	forked := newBook(t, 4)
	forked.add(entry(104))
	forked.add(entry(5))
	forked.add(entry(6))
	shorter := newBook(t, 5)
	longer := newBook(t, 9)
	broken := newBook(t, 3) // the tree has something that is no leaf
	broken.addLeaf([]byte("not\na leaf"))
	damaged := newBook(t, 7) // the store's row changed, the tree did not
	damaged.leaves[3] = []byte("\n{\"at\":0}\n")

	group := map[string]vector{
		"ok":                 {Want: "ok", About: "nothing is wrong", Input: good},
		"ok-empty":           {Want: "ok", About: "no entries", Input: newBook(t, 0).export(s.Checkpoint(0, ledger.EmptyRoot()))},
		"ok-held":            {Want: "ok", About: "receipts and checkpoints from outside agree", Input: good, Against: []string{b.checkpoint(s, 5), receipt(t, s, entry(3)), b.checkpoint(s, 7), s.Checkpoint(0, ledger.EmptyRoot())}},
		"ok-pending":         {Want: "ok", About: "a receipt whose time has not come", Input: good, Now: "2026-03-01T12:00:30Z", Against: []string{receipt(t, s, entry(7))}},
		"edited":             {Want: "edited", About: "entry 3 was changed", Input: edit(3, "2026", "2025")},
		"edited-leaf":        {Want: "edited", About: "entry 3 was changed to what is no leaf", Input: edit(3, "{", "x{")},
		"edited-stored":      {Want: "edited", About: "entry 3 was changed in the store to lines that look like ours", Input: damaged.export(damaged.checkpoint(s, 7))},
		"inserted":           {Want: "edited", About: "an entry was added after entry 6", Input: good + lines(good)[line(6)]},
		"inserted-twice":     {Want: "edited", About: "entry 2 comes twice", Input: strings.Join(slices.Delete(twice, line(7), line(7)+1), "")},
		"deleted":            {Want: "deleted", About: "entry 2 is absent", Input: without(good, line(2), line(3))},
		"deleted-first":      {Want: "deleted", About: "entry 0 is absent", Input: without(good, line(0), line(1))},
		"reordered":          {Want: "reordered", About: "entries 2 and 5 changed places", Input: strings.Join(swapped, "")},
		"cut":                {Want: "cut", About: "the last entry's line is absent", Input: without(good, line(6), line(7))},
		"cut-block":          {Want: "cut", About: "all entries are absent", Input: lines(good)[0]},
		"cut-line":           {Want: "cut", About: "the file ends within the last line", Input: good[:len(good)-10]},
		"cut-signed":         {Want: "cut", About: "the tail was cut and the rest signed again; a checkpoint from outside tells", Input: shorter.export(shorter.checkpoint(s, 5)), Against: []string{b.checkpoint(s, 7)}},
		"cut-signed-unheld":  {Want: "ok", About: "the same with nothing from outside: nobody can tell", Input: shorter.export(shorter.checkpoint(s, 5))},
		"forked":             {Want: "forked", About: "entry 4 was replaced and all signed again; a checkpoint from outside tells", Input: forked.export(forked.checkpoint(s, 7)), Against: []string{b.checkpoint(s, 5)}},
		"forked-unheld":      {Want: "ok", About: "the same with nothing from outside: nobody can tell", Input: forked.export(forked.checkpoint(s, 7))},
		"overdue":            {Want: "overdue", About: "a receipt's time has come and its entry is absent", Input: good, Against: []string{receipt(t, s, entry(7))}},
		"overdue-forked":     {Want: "overdue", About: "entry 4 was replaced and all signed again; a receipt from outside tells", Input: forked.export(forked.checkpoint(s, 7)), Against: []string{receipt(t, s, entry(4))}},
		"root":               {Want: "root", About: "entry 4 and its hash were replaced, the checkpoint was not", Input: forked.export(b.checkpoint(s, 7))},
		"root-larger":        {Want: "root", About: "two entries were added with their hashes, and the size changed by who cannot sign it", Input: longer.export(s.Checkpoint(9, b.root(7)))},
		"signature":          {Want: "signature", About: "another key signed", Input: b.export(b.checkpoint(stranger, 7))},
		"signature-changed":  {Want: "signature", About: "the checkpoint's root was changed to fit", Input: forked.export(strings.Replace(b.checkpoint(s, 7), b.root(7).String(), forked.root(7).String(), 1))},
		"signature-held":     {Want: "signature", About: "another key signed what is held against it", Input: good, Against: []string{receipt(t, stranger, entry(3))}},
		"leaf":               {Want: "leaf", About: "entry 3 is in the signed tree and is no leaf", Input: broken.export(broken.checkpoint(s, 4))},
		"format":             {Want: "format", About: "another format's name", Input: strings.Replace(good, "ledger-export/v1", "ledger-export/v2", 1)},
		"format-empty":       {Want: "format", About: "nothing"},
		"format-order":       {Want: "format", About: "the hashes come after an entry", Input: strings.Join([]string{lines(good)[0], lines(good)[2], lines(good)[1]}, "")},
		"format-after":       {Want: "format", About: "a block follows the last entry", Input: good + lines(good)[1]},
		"format-checkpoint":  {Want: "format", About: "the checkpoint is a receipt", Input: strings.Join(slices.Insert(lines(good)[1:], 0, strings.Split(lines(good)[0], `"checkpoint"`)[0]+`"checkpoint":"`+strings.ReplaceAll(receipt(t, s, entry(3)), "\n", `\n`)+"\"}\n"), "")},
		"format-held":        {Want: "format", About: "what is held against it is no signed text", Input: good, Against: []string{"hello"}},
		"format-more-hashes": {Want: "format", About: "more entries than the checkpoint has", Input: strings.Replace(good, lines(good)[0], lines(shorter.export(shorter.checkpoint(s, 5)))[0], 1)},
	}
	maps.Copy(group, rotationVectors(t))
	for name, v := range group {
		v.Kind = "export"
		if v.Keys == nil {
			v.Keys = []string{s.VerifierKey()}
		}
		if v.Now == "" {
			v.Now = late.Format(time.RFC3339)
		}
		group[name] = v
	}
	return group
}

func rotationVectors(t *testing.T) map[string]vector {
	t.Helper()
	first, second, third, stranger := signer(t, 1), signer(t, 2), signer(t, 3), signer(t, 9)
	b := newBook(t, 3)
	to2 := b.rotate(first, second)
	b.add(entry(4))
	held := receipt(t, second, entry(4))
	to3 := b.rotate(second, third)
	b.add(entry(6))
	size := b.size()
	keys := func(list ...*ledger.Signer) (keys []string) {
		for _, s := range list {
			keys = append(keys, s.VerifierKey())
		}
		return keys
	}
	good := b.export(b.checkpoint(third, size), to2, to3)

	tail := newBook(t, 3) // the rotation is the last entry
	tailBoth := tail.rotate(first, second)
	stolen := newBook(t, 3) // who has only the store introduces a key
	stolen.add(ledger.Entry{Time: epoch, Event: ledger.LedgerRotated, ID: id(3), Key: stranger.VerifierKey()})
	foreign := newBook(t, 3) // the key introduced is none
	foreign.add(ledger.Entry{Time: epoch, Event: ledger.LedgerRotated, ID: id(3), Key: "none"})
	early := newBook(t, 2) // the checkpoint of both keys is of the time before the entry
	earlyBoth := early.both(first, second, 2)
	early.rotate(first, second)
	return map[string]vector{
		"rotated-first":       {Want: "ok", About: "two rotations, followed from the first key", Keys: keys(first), Input: good, Against: []string{held, to2, receipt(t, first, entry(1))}},
		"rotated-second":      {Want: "ok", About: "the same from the second key", Keys: keys(second), Input: good},
		"rotated-third":       {Want: "ok", About: "the same with the last key alone", Keys: keys(third), Input: good},
		"rotated-all":         {Want: "ok", About: "the same with all keys", Keys: keys(first, second, third), Input: good},
		"rotated-gap":         {Want: "ok", About: "the same with the first and the last key", Keys: keys(first, third), Input: good},
		"rotated-tail":        {Want: "ok", About: "the final checkpoint is that of the rotation", Keys: keys(first), Input: tail.export(tailBoth)},
		"rotated-retired":     {Want: "signature", About: "the first key signed after its rotation", Keys: keys(first), Input: b.export(b.checkpoint(first, size), to2, to3)},
		"rotated-hidden":      {Want: "signature", About: "the same, and the checkpoints of the rotations are absent", Keys: keys(first), Input: b.export(b.checkpoint(first, size))},
		"rotated-unvouched":   {Want: "signature", About: "the key that an entry introduces signed alone", Keys: keys(first), Input: stolen.export(stolen.checkpoint(stranger, 4), stolen.checkpoint(stranger, 4))},
		"rotated-unfollowed":  {Want: "signature", About: "the checkpoints of the rotations are absent", Keys: keys(first), Input: b.export(b.checkpoint(third, size))},
		"rotated-stranger":    {Want: "signature", About: "none of the keys is trusted", Keys: keys(stranger), Input: good},
		"rotated-early":       {Want: "signature", About: "both keys signed before the entry was in", Keys: keys(first), Input: early.export(early.checkpoint(second, 3), earlyBoth)},
		"rotated-malformed":   {Want: "leaf", About: "the key introduced is no verifier key", Keys: keys(first), Input: foreign.export(foreign.checkpoint(first, 4))},
		"rotated-format":      {Want: "format", About: "the checkpoint of a rotation is none", Keys: keys(first), Input: b.export(b.checkpoint(third, size), to2, "hello")},
		"rotated-held-second": {Want: "signature", About: "held by a key that nothing vouches for", Keys: keys(third), Input: good, Against: []string{held}},
	}
}

func TestAVerifiedExportReportsWhatItProved(t *testing.T) {
	first, second := signer(t, 1), signer(t, 2)
	b := newBook(t, 600)
	both := b.rotate(first, second)
	b.add(entry(601))
	held := []string{b.checkpoint(first, 300), receipt(t, first, entry(17)), receipt(t, second, entry(900))}
	now := entry(900).Time
	report, err := ledger.VerifyExport(strings.NewReader(b.export(b.checkpoint(second, 602), both)), []string{first.VerifierKey()}, held, now)
	if err != nil {
		t.Fatal(err)
	}
	want := ledger.Report{
		Checkpoint: ledger.Checkpoint{Origin: origin, Size: 602, Root: b.root(602), Keys: []string{second.VerifierKey()}},
		First:      epoch, Last: entry(601).Time, Held: 2, Pending: 1,
		Rotations: []ledger.Rotation{{Size: 601, Key: second.VerifierKey()}},
	}
	if fmt.Sprint(report) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", report, want)
	}
}

// Ledger threat 4: the store's entries are changed, and nothing is signed again.
func TestErrorsNameThePosition(t *testing.T) {
	s, b := signer(t, 1), newBook(t, 1000)
	good := b.export(b.checkpoint(s, 1000))
	other := newBook(t, 400)
	other.add(entry(4000))
	for n := 401; n < 1000; n++ {
		other.add(entry(n))
	}
	all := lines(good)
	edit := slices.Clone(all)
	edit[line(700)] = strings.Replace(edit[line(700)], "2026", "2027", 1)
	swap := slices.Clone(all)
	swap[line(600)], swap[line(610)] = swap[line(610)], swap[line(600)]
	far := slices.Clone(all)
	far[line(3)], far[line(999)] = far[line(999)], far[line(3)]
	blocks := slices.Concat(all[:1], all[258:515], all[1:258], all[515:])
	for name, c := range map[string]struct {
		export  string
		against []string
		class   error
		text    string
	}{
		"an edit":                   {strings.Join(edit, ""), nil, ledger.ErrEdited, "entry 700"},
		"a swap":                    {strings.Join(swap, ""), nil, ledger.ErrReordered, "entry 600"},
		"a swap between blocks":     {strings.Join(far, ""), nil, ledger.ErrEdited, "entry 3:"},
		"an absent entry":           {without(good, line(255), line(255)+1), nil, ledger.ErrDeleted, "entry 255"},
		"absent entries":            {without(good, line(300), line(310)), nil, ledger.ErrDeleted, "entry 300"},
		"a block's last entries":    {without(good, line(500), line(511)+1), nil, ledger.ErrDeleted, "entry 500"},
		"an absent block":           {without(good, 258, 515), nil, ledger.ErrDeleted, "entries 256 to 511"},
		"blocks out of order":       {strings.Join(blocks, ""), nil, ledger.ErrDeleted, "entries 0 to 255"},
		"a repeated block":          {strings.Join(slices.Concat(all[:258], all[1:]), ""), nil, ledger.ErrReordered, "entry 256"},
		"an absent end":             {without(good, line(990), len(all)), nil, ledger.ErrCut, "before entry 990 of 1000"},
		"absent last blocks":        {strings.Join(all[:515], ""), nil, ledger.ErrCut, "before entry 512 of 1000"},
		"a torn end":                {good[:len(good)/2], nil, ledger.ErrCut, "in the middle of a line before entry"},
		"hashes replaced":           {other.export(b.checkpoint(s, 1000)), nil, ledger.ErrRoot, "somewhere in entries 0 to 999"},
		"hashes replaced, held":     {other.export(b.checkpoint(s, 1000)), []string{b.checkpoint(s, 350), b.checkpoint(s, 500)}, ledger.ErrRoot, "somewhere in entries 350 to 499"},
		"a fork":                    {other.export(other.checkpoint(s, 1000)), []string{b.checkpoint(s, 350), b.checkpoint(s, 500)}, ledger.ErrForked, "held text 1"},
		"a cut that is signed":      {newBook(t, 800).export(b.checkpoint(s, 800)), []string{b.checkpoint(s, 1000)}, ledger.ErrCut, "had 1000 entries and the export has 800"},
		"an overdue receipt":        {good, []string{receipt(t, s, entry(5)), receipt(t, s, entry(1001))}, ledger.ErrOverdue, "held text 1: overdue: entry " + id(1001)},
		"a swapped first and third": {strings.Join(slices.Concat(all[:2], all[4:5], all[3:4], all[2:3], all[5:]), ""), nil, ledger.ErrReordered, "entry 0"},
	} {
		_, err := ledger.VerifyExport(strings.NewReader(c.export), []string{s.VerifierKey()}, c.against, late)
		if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v; want %v at %q", name, err, c.class, c.text)
		}
	}
}

// Ledger threat 4: no change of an export goes unseen, whatever it is called.
func TestNoByteOfAnExportCanChange(t *testing.T) {
	s, b := signer(t, 1), newBook(t, 5)
	good := b.export(b.checkpoint(s, 5))
	keys := strings.Index(good, `"keys"`)
	for i := range good {
		if i >= keys && good[i] != '\n' && i < strings.IndexByte(good, '\n') {
			continue // keys in the head are for people: nothing binds them and nothing trusts them
		}
		bad := []byte(good)
		bad[i] ^= 1
		if _, err := ledger.VerifyExport(bytes.NewReader(bad), []string{s.VerifierKey()}, nil, late); err == nil || class(err) == "" {
			t.Fatalf("byte %d changed, and verified: %v", i, err)
		}
	}
	for i := range len(good) - 1 {
		if _, err := ledger.VerifyExport(strings.NewReader(good[:i]), []string{s.VerifierKey()}, nil, late); err == nil || class(err) == "" {
			t.Fatalf("cut to %d bytes, and verified: %v", i, err)
		}
	}
}

func TestAnyShuffleOfLinesIsSeen(t *testing.T) {
	s, b := signer(t, 1), newBook(t, 600)
	good := lines(b.export(b.checkpoint(s, 600)))
	rapid.Check(t, func(t *rapid.T) {
		bad := slices.Clone(good)
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			i, j := rapid.IntRange(0, len(bad)-1).Draw(t, "i"), rapid.IntRange(0, len(bad)-1).Draw(t, "j")
			switch rapid.IntRange(0, 2).Draw(t, "change") {
			case 0:
				bad[i], bad[j] = bad[j], bad[i]
			case 1:
				bad = slices.Delete(bad, i, i+1)
			case 2:
				bad = slices.Insert(bad, i, bad[j])
			}
		}
		_, err := ledger.VerifyExport(strings.NewReader(strings.Join(bad, "")), []string{s.VerifierKey()}, nil, late)
		if (err == nil) != slices.Equal(bad, good) || err != nil && class(err) == "" {
			t.Fatalf("got %v", err)
		}
	})
}

// Ledger threat 5: an export is as large as its maker likes.
func TestVerifyingAnExportTakesBoundedMemory(t *testing.T) {
	const size = 60_000 // some 24 MB
	s, b := signer(t, 1), newBook(t, size)
	reader, writer := io.Pipe()
	go func() {
		head := ledger.ExportHead{Checkpoint: b.checkpoint(s, size)}
		writer.CloseWithError(ledger.WriteExport(writer, head, b.hashes, b.read))
	}()
	var before, after runtime.MemStats
	most := uint64(0)
	runtime.GC()
	runtime.ReadMemStats(&before)
	watch := &watched{Reader: reader, every: 4 << 20, look: func() {
		runtime.GC()
		runtime.ReadMemStats(&after)
		most = max(most, after.HeapAlloc)
	}}
	if _, err := ledger.VerifyExport(watch, []string{s.VerifierKey()}, nil, late); err != nil {
		t.Fatal(err)
	}
	if grown := int64(most) - int64(before.HeapAlloc); most == 0 || grown > 4<<20 {
		t.Errorf("verifying %d entries held %d KiB more", size, grown>>10)
	}
	endless := io.MultiReader(strings.NewReader(`{"export":"`), endlessReader('x'))
	if _, err := ledger.VerifyExport(endless, []string{s.VerifierKey()}, nil, late); !errors.Is(err, ledger.ErrFormat) {
		t.Errorf("an endless head: %v", err)
	}
	few := newBook(t, 7)
	head := lines(few.export(few.checkpoint(s, 7)))[0]
	if _, err := ledger.VerifyExport(io.MultiReader(strings.NewReader(head), endlessReader('x')), []string{s.VerifierKey()}, nil, late); !errors.Is(err, ledger.ErrFormat) {
		t.Errorf("an endless line: %v", err)
	}
}

// watched calls look every so many bytes.
type watched struct {
	io.Reader
	every, read int
	look        func()
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if w.read += n; w.read >= w.every {
		w.read = 0
		w.look()
	}
	return n, err
}

type endlessReader byte

func (r endlessReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r)
	}
	return len(p), nil
}

func TestAFailingReaderIsNoVerdict(t *testing.T) {
	s, b := signer(t, 1), newBook(t, 600)
	good := b.export(b.checkpoint(s, 600))
	sick := errors.New("the disk is sick")
	for _, after := range []int{10, 5000, len(good) - 5, len(good)} {
		reader := io.MultiReader(strings.NewReader(good[:after]), iotest.ErrReader(sick))
		if _, err := ledger.VerifyExport(reader, []string{s.VerifierKey()}, nil, late); !errors.Is(err, sick) {
			t.Errorf("after %d bytes: %v", after, err)
		}
	}
	if _, err := ledger.VerifyExport(iotest.OneByteReader(strings.NewReader(good)), []string{s.VerifierKey()}, nil, late); err != nil {
		t.Errorf("byte by byte: %v", err)
	}
	if _, err := ledger.VerifyExport(strings.NewReader(good), nil, nil, late); !errors.Is(err, ledger.ErrFormat) {
		t.Errorf("without keys: %v", err)
	}
}

func TestWriteExportStopsAtErrors(t *testing.T) {
	s, b := signer(t, 1), newBook(t, 600)
	head, sick := ledger.ExportHead{Checkpoint: b.checkpoint(s, 600)}, errors.New("sick")
	if err := ledger.WriteExport(io.Discard, head, b.hashes, func(int64, int) ([][]byte, error) { return nil, sick }); !errors.Is(err, sick) {
		t.Errorf("sick leaves: %v", err)
	}
	if err := ledger.WriteExport(io.Discard, head, b.hashes[:100], b.read); err == nil || !strings.Contains(err.Error(), "entry 0") {
		t.Errorf("absent hashes: %v", err)
	}
	if err := ledger.WriteExport(io.Discard, head, b.hashes, func(int64, int) ([][]byte, error) { return b.leaves, nil }); err == nil {
		t.Error("more leaves than asked for: written")
	}
	if err := ledger.WriteExport(io.Discard, ledger.ExportHead{}, b.hashes, b.read); !errors.Is(err, ledger.ErrFormat) {
		t.Errorf("no checkpoint: %v", err)
	}
	reader, writer := io.Pipe()
	reader.CloseWithError(sick)
	if err := ledger.WriteExport(writer, head, b.hashes, b.read); !errors.Is(err, sick) {
		t.Errorf("a sick writer: %v", err)
	}
}

func TestADamagedStoreIsExportedAndTheDamageLocated(t *testing.T) {
	s := signer(t, 1)
	for name, c := range map[string]struct {
		damage func(b *book)
		class  error
	}{
		"a changed row":  {func(b *book) { b.leaves[310] = bytes.ToUpper(b.leaves[310]) }, ledger.ErrEdited},
		"a lost row":     {func(b *book) { b.leaves = slices.Delete(b.leaves, 310, 311) }, ledger.ErrDeleted},
		"swapped rows":   {func(b *book) { b.leaves[310], b.leaves[320] = b.leaves[320], b.leaves[310] }, ledger.ErrReordered},
		"a changed hash": {func(b *book) { b.hashes[ledger.StoredIndex(310)][0] ^= 1 }, ledger.ErrRoot},
	} {
		b := newBook(t, 600)
		checkpoint := b.checkpoint(s, 600)
		c.damage(b)
		_, err := ledger.VerifyExport(strings.NewReader(b.export(checkpoint)), []string{s.VerifierKey()}, nil, late)
		if !errors.Is(err, c.class) || c.class != ledger.ErrRoot && !strings.Contains(err.Error(), "entry 310") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWrappedBytesInAnExportAreStandardBase64(t *testing.T) {
	s, b := signer(t, 1), newBook(t, 3)
	b.leaves[1] = []byte("\n\xff")
	if got, want := lines(b.export(b.checkpoint(s, 3)))[line(1)], `{"leaf":"`+base64.StdEncoding.EncodeToString(b.leaves[1])+"\"}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
