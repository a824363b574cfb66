package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/secret"
)

// Filter selects leases of a list. Empty fields select all.
type Filter struct {
	Principal string // issuer name, colon, subject
	Role      string
	Target    string
	State     string // as in [api.Lease]
}

// Leases lists leases, page by page as the loop goes on. It ends with the first error.
func (c *Client) Leases(ctx context.Context, f Filter) iter.Seq2[api.Lease, error] {
	query := url.Values{}
	for name, value := range map[string]string{"principal": f.Principal, "role": f.Role, "target": f.Target, "state": f.State} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return pages[api.Lease](ctx, c, "list leases", "/v1/leases", query)
}

// Lease reads one lease, as its holder or as an administrator.
func (c *Client) Lease(ctx context.Context, id string) (api.Lease, error) {
	return c.Handle(id, secret.Text{}).Read(ctx)
}

// Lock ends the leases that match and refuses new ones. With DryRun it only counts them.
func (c *Client) Lock(ctx context.Context, r api.LockRequest) (api.Lock, error) {
	return ask[api.Lock](ctx, c, "lock", call{method: http.MethodPost, path: "/v1/locks", body: r})
}

// Unlock lifts a lock. What it ended stays ended.
func (c *Client) Unlock(ctx context.Context, id string) (api.Lock, error) {
	return ask[api.Lock](ctx, c, "lift lock "+id, call{method: http.MethodDelete, path: path("v1", "locks", id), safe: true})
}

// Locks lists locks, page by page.
func (c *Client) Locks(ctx context.Context) iter.Seq2[api.Lock, error] {
	return pages[api.Lock](ctx, c, "list locks", "/v1/locks", nil)
}

// Explain returns a stored decision with everything that the policies saw.
func (c *Client) Explain(ctx context.Context, decision string) (api.Decision, error) {
	return ask[api.Decision](ctx, c, "explain decision "+decision, call{method: http.MethodGet, path: path("v1", "decisions", decision), safe: true})
}

// Status returns how the server and its parts are doing.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	return ask[api.Status](ctx, c, "read status", call{method: http.MethodGet, path: "/v1/status", safe: true})
}

// RotateKey has the server replace the key that signs its ledger, and returns the new one.
func (c *Client) RotateKey(ctx context.Context) (api.KeyRotation, error) {
	return ask[api.KeyRotation](ctx, c, "rotate the ledger's key", call{method: http.MethodPost, path: "/v1/keys/rotate"})
}

// RotateIssuer has the server sign the tokens of its own issuer with the next keys; with withdraw, because keys were
// stolen, with fresh ones, and take all others out of the documents that verifiers read.
func (c *Client) RotateIssuer(ctx context.Context, withdraw bool) (api.IssuerRotation, error) {
	return ask[api.IssuerRotation](ctx, c, "rotate the issuer's keys",
		call{method: http.MethodPost, path: "/v1/keys/issuer/rotate", body: api.IssuerRotationRequest{Withdraw: withdraw}})
}

// IssuerDocument returns one of the documents of the server's own issuer, by its path: what verifiers read.
func (c *Client) IssuerDocument(ctx context.Context, path string) ([]byte, error) {
	text, err := ask[json.RawMessage](ctx, c, "read "+path, call{method: http.MethodGet, path: path, safe: true})
	return text, err
}

// CheckTarget has the server try its administrator's credential at a target.
func (c *Client) CheckTarget(ctx context.Context, name string) (api.TargetCheck, error) {
	return ask[api.TargetCheck](ctx, c, fmt.Sprintf("check target %q", name),
		call{method: http.MethodPost, path: path("v1", "targets", name, "check"), safe: true})
}

// CheckAccess returns every mistake in access files, by path below their directory, and activates nothing.
func (c *Client) CheckAccess(ctx context.Context, files map[string]string) (api.AccessCheck, error) {
	return ask[api.AccessCheck](ctx, c, "check access files",
		call{method: http.MethodPost, path: "/v1/access/check", body: api.AccessRequest{Files: files}, safe: true})
}

// ApplyAccess makes files the active access configuration. With a revision in ifMatch it does so only while that
// one is active, and is a problem with Code "conflict" otherwise; "" applies in any case.
func (c *Client) ApplyAccess(ctx context.Context, files map[string]string, ifMatch string) (api.Revision, error) {
	k := call{method: http.MethodPut, path: "/v1/access", body: api.AccessRequest{Files: files}, header: http.Header{}}
	if ifMatch != "" {
		k.header.Set("If-Match", strconv.Quote(ifMatch))
	}
	return ask[api.Revision](ctx, c, "apply access files", k)
}

// Revisions lists access revisions, newest first, page by page.
func (c *Client) Revisions(ctx context.Context) iter.Seq2[api.Revision, error] {
	return pages[api.Revision](ctx, c, "list access revisions", "/v1/access/revisions", nil)
}

// ActivateAccess makes an earlier revision the active one. The revision in ifMatch is as in [Client.ApplyAccess].
func (c *Client) ActivateAccess(ctx context.Context, revision, ifMatch string) (api.Revision, error) {
	k := call{method: http.MethodPost, path: path("v1", "access", "revisions", revision, "activate"), header: http.Header{}}
	if ifMatch != "" {
		k.header.Set("If-Match", strconv.Quote(ifMatch))
	}
	return ask[api.Revision](ctx, c, fmt.Sprintf("activate access revision %q", revision), k)
}

// Schema returns the Cedar schema of the active revision.
func (c *Client) Schema(ctx context.Context) (string, error) {
	got, err := ask[api.AccessSchema](ctx, c, "read schema", call{method: http.MethodGet, path: "/v1/schema", safe: true})
	return got.Schema, err
}

// ask sends a call with the client's own evidence and returns its answer; what it was for stands before errors.
func ask[T any](ctx context.Context, c *Client, what string, k call) (T, error) {
	var out T
	k.as = c.token
	if _, err := c.do(ctx, k, &out); err != nil {
		return out, fmt.Errorf("%s: %w", what, err)
	}
	return out, nil
}

// pages lists what a paged call answers.
func pages[T any](ctx context.Context, c *Client, what, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		q := url.Values{"limit": {strconv.Itoa(api.MaxPage)}}
		for name, values := range query {
			q[name] = values
		}
		for {
			page, err := ask[api.Page[T]](ctx, c, what, call{method: http.MethodGet, path: path, query: q, safe: true})
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			if page.Next == q.Get("cursor") {
				var none T
				yield(none, fmt.Errorf("%s: the server repeats its cursor", what))
				return
			}
			q.Set("cursor", page.Next)
		}
	}
}
