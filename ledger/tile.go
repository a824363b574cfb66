package ledger

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// tileHeight is the height of a tile in levels: C2SP tlog-tiles fixes it.
const tileHeight = 8

// TileWidth is how many hashes a full tile has, and how many entries a full bundle.
const TileWidth = 1 << tileHeight

// maxTilePath bounds the paths that are read: no tree of [MaxSize] has longer ones.
const maxTilePath = 64

// EntriesLevel is the level of tiles that hold entries instead of hashes.
const EntriesLevel = -1

// Tile names a piece of the tree that can be cached for ever: up to 256 neighbouring hashes of a level that is a
// multiple of 8, or the entries below level 0.
type Tile struct {
	Level int   // 0 for the hashes of leaves, 1 for the roots over 256 of them, …; [EntriesLevel] for entries
	Index int64 // which tile of the level, from the left
	Width int   // 1 to 256; less than 256 only for the last tile of a level
}

// ParseTilePath returns the tile that a path of C2SP tlog-tiles names: "tile/0/x001/067", "tile/1/000.p/8",
// "tile/entries/000". It refuses every other spelling.
func ParseTilePath(path string) (Tile, error) {
	refused := fmt.Errorf("%w: tile path %.80q", ErrFormat, path)
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok || len(path) > maxTilePath {
		return Tile{}, refused
	}
	if entries, ok := strings.CutPrefix(rest, "entries/"); ok {
		rest = "data/" + entries
	} else if strings.HasPrefix(rest, "data/") {
		return Tile{}, refused
	}
	parsed, err := tlog.ParseTilePath("tile/8/" + rest)
	if err != nil || parsed.L > maxLevel || parsed.N < 0 || parsed.N > MaxSize>>tileHeight {
		return Tile{}, refused
	}
	return Tile{Level: parsed.L, Index: parsed.N, Width: parsed.W}, nil
}

// maxLevel is the highest level of tiles that a tree of [MaxSize] has.
const maxLevel = 6

// Path returns the tile's path, the one that [ParseTilePath] reads.
func (t Tile) Path() string {
	path := t.lower().Path()
	if t.Level == EntriesLevel {
		return "tile/entries/" + strings.TrimPrefix(path, "tile/8/data/")
	}
	return "tile/" + strings.TrimPrefix(path, "tile/8/")
}

func (t Tile) lower() tlog.Tile {
	return tlog.Tile{H: tileHeight, L: t.Level, N: t.Index, W: t.Width}
}

// First returns the index of the first hash of the tile within its level; for entries, of the first entry.
func (t Tile) First() int64 { return t.Index << tileHeight }

// Within reports whether the tree with size leaves has the tile, all of its width.
func (t Tile) Within(size int64) bool {
	if t.Level < EntriesLevel || t.Level > maxLevel || t.Width < 1 || t.Width > TileWidth || t.Index < 0 || t.Index > MaxSize>>tileHeight {
		return false
	}
	return t.First()+int64(t.Width) <= size>>(tileHeight*max(t.Level, 0))
}

// Hashes returns the tile's bytes, its hashes one after the other, for the tree with size leaves whose stored
// hashes r reads. A tile that the tree lacks is an error that wraps [ErrFormat], as are entries.
func (t Tile) Hashes(size int64, r tlog.HashReader) ([]byte, error) {
	if t.Level == EntriesLevel || checkSize(size) != nil || !t.Within(size) {
		return nil, fmt.Errorf("read %s of %d entries: %w", t.Path(), size, ErrFormat)
	}
	data, err := tlog.ReadTileData(t.lower(), r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.Path(), err)
	}
	return data, nil
}

// EncodeBundle returns the bytes of an entries tile: each leaf after its length as two bytes, big end first.
func EncodeBundle(leaves [][]byte) ([]byte, error) {
	if len(leaves) == 0 || len(leaves) > TileWidth {
		return nil, fmt.Errorf("bundle %d entries: %w", len(leaves), ErrFormat)
	}
	size := 0
	for i, leaf := range leaves {
		if len(leaf) > MaxLeaf {
			return nil, fmt.Errorf("bundle entry %d: %w: %d bytes are more than %d", i, ErrLeaf, len(leaf), MaxLeaf)
		}
		size += 2 + len(leaf)
	}
	bundle := make([]byte, 0, size)
	for _, leaf := range leaves {
		bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(leaf))), leaf...)
	}
	return bundle, nil
}

// DecodeBundle returns the leaves of an entries tile. They share the bundle's memory and are not checked.
func DecodeBundle(bundle []byte) ([][]byte, error) {
	var leaves [][]byte
	for rest := bundle; len(rest) > 0; {
		if len(leaves) == TileWidth {
			return nil, fmt.Errorf("bundle: %w: more than %d entries", ErrFormat, TileWidth)
		}
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return nil, fmt.Errorf("bundle: %w: entry %d ends early", ErrFormat, len(leaves))
		}
		end := 2 + int(binary.BigEndian.Uint16(rest))
		leaves = append(leaves, rest[2:end:end])
		rest = rest[end:]
	}
	if len(leaves) == 0 {
		return nil, fmt.Errorf("bundle: %w: no entries", ErrFormat)
	}
	return leaves, nil
}
