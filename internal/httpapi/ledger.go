package httpapi

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// mediaText is what C2SP notes are sent as.
const mediaText = "text/plain; charset=utf-8"

func ledgerRoutes() []route {
	ok := []int{http.StatusOK}
	return []route{
		{method: http.MethodGet, path: "/v1/ledger/checkpoint", id: "checkpoint", media: mediaText, status: ok,
			summary: "Read the ledger's signed checkpoint (C2SP tlog-checkpoint)", serve: (*call).checkpoint},
		with(http.MethodGet, "/v1/ledger/entries", "listEntries", "Read entries of the ledger, in order", (*call).entries).
			asking(parameter{"from", "index of the first entry, from 0"}, parameter{"limit", "how many, 1 to 1000; 100 unless given"}),
		with(http.MethodGet, "/v1/ledger/proof", "proveEntry", "Prove that the ledger holds a leaf", (*call).proof).
			asking(parameter{"leaf", "URL-safe base64 of the leaf's canonical bytes, as a receipt holds them"}, parameter{"index", "or the entry's index"}),
		{method: http.MethodGet, path: "/v1/ledger/export", id: "exportLedger", media: "application/jsonl", status: ok,
			summary: "Read the whole ledger, for daypass ledger verify", serve: (*call).export},
		{method: http.MethodGet, path: "/v1/ledger/tile/{path...}", id: "tile", media: "application/octet-stream", status: ok,
			summary: "Read a tile of the ledger (C2SP tlog-tiles)", serve: (*call).tile},
	}
}

// ledgerView reads the ledger, in a snapshot of its own for each read: what the ledger has once, it keeps, so that
// no snapshot has to last as long as a slow client.
type ledgerView struct {
	ctx   context.Context
	store *store.Store
}

// ReadHashes implements [tlog.HashReader].
func (v ledgerView) ReadHashes(indexes []int64) (hashes []tlog.Hash, err error) {
	err = v.store.View(v.ctx, func(tx *store.Tx) (err error) {
		hashes, err = tx.Hashes().ReadHashes(indexes)
		return err
	})
	return hashes, err
}

func (v ledgerView) leaves(from int64, limit int) (leaves [][]byte, err error) {
	err = v.store.View(v.ctx, func(tx *store.Tx) (err error) {
		leaves, err = tx.Leaves(from, limit)
		return err
	})
	return leaves, err
}

// head returns the signed checkpoint and its size.
func (v ledgerView) head() (checkpoint string, size int64, err error) {
	err = v.store.View(v.ctx, func(tx *store.Tx) (err error) {
		if checkpoint, err = tx.Checkpoint(); err != nil {
			return err
		}
		size, err = tx.LedgerSize()
		return err
	})
	return checkpoint, size, err
}

func (c *call) ledgerView() ledgerView { return ledgerView{c.r.Context(), c.edge.Store} }

// known refuses callers whose evidence is bad. Checkpoints and proofs tell nobody anything but that what they hold
// is true, so that whoever has a lease may ask.
func (c *call) known() error {
	_, err := c.edge.Guard.Identify(c.r.Context(), c.who)
	return err
}

func (c *call) checkpoint() error {
	if err := c.known(); err != nil {
		return err
	}
	if _, err := c.query(); err != nil {
		return err
	}
	text, _, err := c.ledgerView().head()
	if err != nil {
		return err
	}
	if err := c.send(mediaText, []byte(text)); err != nil {
		c.edge.Log.Debug("an answer could not be written", "request", c.id, "err", err)
	}
	return nil
}

func (c *call) entries(none) (page api.Page[api.LedgerEntry], err error) {
	q, err := c.query("from", "limit")
	if err != nil {
		return page, err
	}
	from, err := q.number("from", 0, ledger.MaxSize, 0)
	if err != nil {
		return page, err
	}
	limit, _, err := q.page()
	if err != nil {
		return page, err
	}
	// Entries name roles and targets and tell who is busy: they are for those who may read the installation.
	if _, err := c.edge.Guard.Administer(c.r.Context(), c.who, policy.Read); err != nil {
		return page, err
	}
	leaves, err := c.ledgerView().leaves(from, limit)
	page.Items = make([]api.LedgerEntry, len(leaves))
	for i, leaf := range leaves {
		page.Items[i] = api.LedgerEntry{Index: from + int64(i), Leaf: leaf}
	}
	return page, err
}

func (c *call) proof(none) (proof api.LedgerProof, err error) {
	const op = "prove a ledger entry"
	if err := c.known(); err != nil {
		return proof, err
	}
	q, err := c.query("leaf", "index")
	if err != nil {
		return proof, err
	}
	index, err := q.number("index", 0, ledger.MaxSize, -1)
	if err != nil {
		return proof, err
	}
	text := q.text("leaf")
	if (text == "") == (index < 0) {
		return proof, malformed("give leaf or index")
	}
	leaf, err := parseLeaf(text)
	if err != nil {
		return proof, err
	}
	err = c.edge.Store.View(c.r.Context(), func(tx *store.Tx) (err error) {
		if text != "" {
			if index, err = tx.Position(leaf); err != nil {
				return err
			}
		}
		size, err := tx.LedgerSize()
		if err != nil {
			return err
		}
		if index >= size {
			return fault.New(fault.NotFound, op, "the ledger is not that long")
		}
		if proof.Checkpoint, err = tx.Checkpoint(); err != nil {
			return err
		}
		hashes, err := ledger.ProveInclusion(size, index, tx.Hashes())
		proof.Hashes = make([][]byte, len(hashes))
		for i := range hashes {
			proof.Hashes[i] = hashes[i][:]
		}
		proof.Index, proof.Size = index, size
		return err
	})
	return proof, err
}

// parseLeaf reads a leaf in base64, of either alphabet, with or without padding.
func parseLeaf(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	plain := strings.NewReplacer("+", "-", "/", "_", " ", "-").Replace(strings.TrimRight(text, "="))
	leaf, err := base64.RawURLEncoding.Strict().DecodeString(plain)
	if err == nil {
		_, err = ledger.ParseLeaf(leaf)
	}
	if err != nil {
		return nil, malformed("leaf is not the base64 of an entry's canonical bytes")
	}
	return leaf, nil
}

// export streams the ledger. What breaks off on the way must not look whole: the connection is cut.
func (c *call) export() error {
	if err := c.administrator(); err != nil {
		return err
	}
	view := c.ledgerView()
	var head ledger.ExportHead
	err := view.store.View(view.ctx, func(tx *store.Tx) (err error) {
		head, err = tx.ExportHead()
		return err
	})
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/jsonl")
	c.wrote = true
	if err := ledger.WriteExport(&patient{c}, head, view, view.leaves); err != nil {
		c.edge.Log.Warn("the export of the ledger broke off", "request", c.id, "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

// patient gives each piece of a long answer time of its own.
type patient struct{ *call }

func (p *patient) Write(b []byte) (int, error) {
	p.allow(30 * time.Second)
	return p.w.Write(b)
}

// tile serves the tiles that monitors read. Full ones never change.
func (c *call) tile() error {
	if err := c.administrator(); err != nil {
		return err
	}
	tile, err := ledger.ParseTilePath("tile/" + c.r.PathValue("path"))
	if err != nil {
		return fault.Wrap(fault.NotFound, "read a tile", "no such tile", err)
	}
	view := c.ledgerView()
	_, size, err := view.head()
	if err != nil {
		return err
	}
	if !tile.Within(size) {
		return fault.New(fault.NotFound, "read a tile", "the ledger does not have this tile yet")
	}
	var data []byte
	if tile.Level == ledger.EntriesLevel {
		var leaves [][]byte
		if leaves, err = view.leaves(tile.First(), tile.Width); err == nil {
			data, err = ledger.EncodeBundle(leaves)
		}
	} else {
		data, err = tile.Hashes(size, view)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", tile.Path(), err)
	}
	if err := c.send("application/octet-stream", data); err != nil {
		c.edge.Log.Debug("an answer could not be written", "request", c.id, "err", err)
	}
	return nil
}
