package ledger_test

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/daypass/daypass/ledger"
)

func TestTilePathsAreThoseOfC2SP(t *testing.T) {
	for path, want := range map[string]ledger.Tile{
		"tile/0/000":                 {Level: 0, Index: 0, Width: 256},
		"tile/0/x001/x234/067":       {Level: 0, Index: 1234067, Width: 256},
		"tile/1/000.p/17":            {Level: 1, Index: 0, Width: 17},
		"tile/entries/x001/067.p/1":  {Level: ledger.EntriesLevel, Index: 1067, Width: 1},
		"tile/entries/273.p/112":     {Level: ledger.EntriesLevel, Index: 273, Width: 112},
		"tile/5/x001/x000/000.p/255": {Level: 5, Index: 1000000, Width: 255},
	} {
		got, err := ledger.ParseTilePath(path)
		if err != nil || got != want || got.Path() != path {
			t.Errorf("%s: %+v, %s, %v", path, got, got.Path(), err)
		}
	}
}

// Ledger threat 7: paths from outside.
func TestTilePathsHaveOneSpelling(t *testing.T) {
	for _, path := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/", "tile/0/0", "tile/0/00", "tile/0/0000", "tile/00/000", "tile/-1/000", "tile/7/000", "tile/64/000",
		"tile/data/000", "tile/entries", "tile/entries/", "tile/entries/0", "tile/0/x000/000", "tile/0/001/000", "tile/0/x001", "tile/0/x001/x000",
		"tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/-1", "tile/0/000.p/", "tile/0/000.p", "tile/0/000/", "/tile/0/000",
		"tile/0/../000", "tile/0/000?x", "tile/0/000\x00", "tile/0/+00", "tile/0/-00", "tile/0/x999/x999/x999/x999/x999/x999/999",
		"tile/0/x018/x446/x744/x073/x709/x551/616", "tile/8/0/000", "tile/entries/data/000", "tile/0/x001/x234/x567/x890/x123/x456/x789/x012/x345/678",
	} {
		if got, err := ledger.ParseTilePath(path); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("%q: %+v, %v", path, got, err)
		}
	}
}

func TestATreeHasExactlyTheTilesThatItsSizeGives(t *testing.T) {
	const size = 70_000 // the example of the specification
	for path, want := range map[string]bool{
		"tile/0/272": true, "tile/0/273": false, "tile/0/273.p/112": true, "tile/0/273.p/113": false, "tile/0/273.p/1": true, "tile/0/274.p/1": false,
		"tile/1/000": true, "tile/1/001.p/17": true, "tile/1/001.p/18": false, "tile/2/000.p/1": true, "tile/2/000.p/2": false, "tile/3/000.p/1": false,
		"tile/entries/273.p/112": true, "tile/entries/273": false,
	} {
		tile, err := ledger.ParseTilePath(path)
		if err != nil || tile.Within(size) != want {
			t.Errorf("%s: %v, want %v, %v", path, tile.Within(size), want, err)
		}
	}
	for _, tile := range []ledger.Tile{{}, {Width: 257}, {Width: -1}, {Level: -2, Width: 1}, {Level: 64, Width: 1}, {Index: -1, Width: 1}, {Index: 1 << 62, Width: 1}} {
		if tile.Within(size) {
			t.Errorf("%+v is within", tile)
		}
		if _, err := tile.Hashes(size, ledger.Hashes{}); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("%+v: %v", tile, err)
		}
	}
}

// tiles serves a book by path, as the HTTP edge does.
type tiles struct {
	book *book
	t    *testing.T
}

func (r tiles) Height() int                     { return 8 }
func (r tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (r tiles) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	var data [][]byte
	for _, want := range list {
		tile, err := ledger.ParseTilePath(ledger.Tile{Level: want.L, Index: want.N, Width: want.W}.Path())
		if err != nil {
			return nil, err
		}
		hashes, err := tile.Hashes(r.book.size(), r.book.hashes)
		if err != nil {
			return nil, err
		}
		data = append(data, hashes)
	}
	return data, nil
}

func TestAClientProvesEntriesFromTilesAlone(t *testing.T) {
	b := newBook(t, 66_000)
	root := b.root(b.size())
	reader := tlog.TileHashReader(tlog.Tree{N: b.size(), Hash: root}, tiles{b, t})
	for _, n := range []int64{0, 255, 256, 65_535, 65_536, 65_999} {
		proof, err := ledger.ProveInclusion(b.size(), n, reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := ledger.VerifyInclusion(proof, b.size(), root, n, ledger.LeafHash(b.leaves[n])); err != nil {
			t.Error(err)
		}
	}
	proof, err := ledger.ProveConsistency(b.size(), 1000, reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := ledger.VerifyConsistency(proof, b.size(), root, 1000, b.root(1000)); err != nil {
		t.Error(err)
	}
	if _, err := (ledger.Tile{Level: ledger.EntriesLevel, Width: 1}).Hashes(b.size(), b.hashes); !errors.Is(err, ledger.ErrFormat) {
		t.Errorf("hashes of an entries tile: %v", err)
	}
}

func TestBundlesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leaves := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 1, 256).Draw(t, "leaves")
		bundle, err := ledger.EncodeBundle(leaves)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ledger.DecodeBundle(bundle)
		if err != nil || len(got) != len(leaves) {
			t.Fatalf("%d leaves, %v", len(got), err)
		}
		for i := range got {
			if !bytes.Equal(got[i], leaves[i]) {
				t.Fatalf("leaf %d: %x, want %x", i, got[i], leaves[i])
			}
		}
		if _, err := ledger.DecodeBundle(bundle[:len(bundle)-1]); len(leaves[len(leaves)-1]) > 0 && !errors.Is(err, ledger.ErrFormat) {
			t.Fatalf("cut: %v", err)
		}
	})
}

func TestBundlesHaveTheBytesOfC2SPAndNoMoreThan256Entries(t *testing.T) {
	got, err := ledger.EncodeBundle([][]byte{[]byte("ab"), []byte("c")})
	if err != nil || !bytes.Equal(got, []byte("\x00\x02ab\x00\x01c")) {
		t.Errorf("%x, %v", got, err)
	}
	for _, leaves := range [][][]byte{nil, make([][]byte, 257), {make([]byte, ledger.MaxLeaf+1)}} {
		if _, err := ledger.EncodeBundle(leaves); err == nil {
			t.Errorf("%d leaves: encoded", len(leaves))
		}
	}
	for _, bundle := range [][]byte{nil, {0}, {0, 1}, make([]byte, 2*257)} {
		if _, err := ledger.DecodeBundle(bundle); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("%d bytes: %v", len(bundle), err)
		}
	}
}
