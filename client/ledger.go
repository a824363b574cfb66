package client

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/daypass/daypass/api"
)

// maxCheckpoint bounds a signed note.
const maxCheckpoint = 64 << 10

// Checkpoint returns the ledger's signed head (C2SP tlog-checkpoint). It is short and worth keeping elsewhere:
// `daypass ledger verify --against` finds out with it whether the ledger was cut or rewritten since.
func (c *Client) Checkpoint(ctx context.Context) (string, error) {
	got, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/ledger/checkpoint", as: c.token, safe: true}, nil)
	if err == nil && len(got.body) > maxCheckpoint {
		err = fmt.Errorf("the answer of %s is longer than %d bytes", c.shown, maxCheckpoint)
	}
	if err != nil {
		return "", fmt.Errorf("read ledger checkpoint: %w", err)
	}
	return string(got.body), nil
}

// LedgerEntries lists the ledger's entries from an index to its present end, in order, page by page.
func (c *Client) LedgerEntries(ctx context.Context, from int64) iter.Seq2[api.LedgerEntry, error] {
	return func(yield func(api.LedgerEntry, error) bool) {
		for {
			query := url.Values{"from": {strconv.FormatInt(from, 10)}, "limit": {strconv.Itoa(api.MaxPage)}}
			page, err := ask[api.Page[api.LedgerEntry]](ctx, c, "read ledger entries",
				call{method: http.MethodGet, path: "/v1/ledger/entries", query: query, safe: true})
			if err != nil {
				yield(api.LedgerEntry{}, err)
				return
			}
			for _, entry := range page.Items {
				if entry.Index != from {
					yield(api.LedgerEntry{}, fmt.Errorf("read ledger entries: the server gives entry %d in place of %d", entry.Index, from))
					return
				}
				from++
				if !yield(entry, nil) {
					return
				}
			}
			if len(page.Items) == 0 {
				return
			}
		}
	}
}

// LedgerProof returns the proof that the ledger holds a leaf, given by its canonical bytes, such as a receipt holds.
func (c *Client) LedgerProof(ctx context.Context, leaf []byte) (api.LedgerProof, error) {
	return ask[api.LedgerProof](ctx, c, "prove ledger entry",
		call{method: http.MethodGet, path: "/v1/ledger/proof", query: url.Values{"leaf": {base64.RawURLEncoding.EncodeToString(leaf)}}, safe: true})
}

// ExportLedger writes the whole ledger to w, in the form that `daypass ledger verify` reads. What was written
// when it returns an error is a torso, which does not verify.
func (c *Client) ExportLedger(ctx context.Context, w io.Writer) error {
	response, err := c.send(ctx, call{method: http.MethodGet, path: "/v1/ledger/export", as: c.token})
	if err != nil {
		return fmt.Errorf("export ledger: %w", err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(w, response.Body); err != nil {
		return fmt.Errorf("export ledger: %w", err)
	}
	return nil
}
