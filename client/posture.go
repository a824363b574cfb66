package client

import (
	"context"
	"iter"
	"net/http"

	"github.com/daypass/daypass/api"
)

// ReportPosture says how a device, a cluster or a principal is doing, as one whom a policy permits to report to the
// source. The record as it stands comes back: one that was reported later stays.
func (c *Client) ReportPosture(ctx context.Context, source, id string, r api.PostureReport) (api.PostureRecord, error) {
	return ask[api.PostureRecord](ctx, c, "report posture "+source,
		call{method: http.MethodPut, path: path("v1", "posture", source, id), body: r, safe: true})
}

// WithdrawPosture takes a record back and returns it: what policies ask of it is then missing.
func (c *Client) WithdrawPosture(ctx context.Context, source, id string) (api.PostureRecord, error) {
	return ask[api.PostureRecord](ctx, c, "withdraw posture "+source, call{method: http.MethodDelete, path: path("v1", "posture", source, id)})
}

// Postures lists the records of a source by their IDs, page by page.
func (c *Client) Postures(ctx context.Context, source string) iter.Seq2[api.PostureRecord, error] {
	return pages[api.PostureRecord](ctx, c, "list posture "+source, path("v1", "posture", source), nil)
}

// Posture reads one record.
func (c *Client) Posture(ctx context.Context, source, id string) (api.PostureRecord, error) {
	return ask[api.PostureRecord](ctx, c, "read posture "+source, call{method: http.MethodGet, path: path("v1", "posture", source, id), safe: true})
}

// PostureSources returns the sources that the active access files declare, by name.
func (c *Client) PostureSources(ctx context.Context) ([]api.PostureSource, error) {
	page, err := ask[api.Page[api.PostureSource]](ctx, c, "list sources of posture", call{method: http.MethodGet, path: path("v1", "posture"), safe: true})
	return page.Items, err
}
