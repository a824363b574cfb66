package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

func leaseRoutes() []route {
	acquire := route{
		method: http.MethodPost, path: "/v1/leases", id: "acquire", summary: "Acquire a lease of a role, with its credential",
		in: reflect.TypeFor[api.AcquireRequest](), out: reflect.TypeFor[api.Acquired](), status: []int{http.StatusCreated},
		header: []parameter{{"Idempotency-Key", "the same key and principal end the earlier lease and get a fresh one"}},
		serve:  (*call).acquire,
	}
	return []route{
		acquire,
		with(http.MethodGet, "/v1/leases", "listLeases", "List leases: one's own, or all for administrators", (*call).leases).
			asking(pageParameters(parameter{"principal", "issuer name, colon, subject"}, parameter{"role", ""},
				parameter{"target", ""}, parameter{"state", "pending, active, revoking or revoked"})...),
		with(http.MethodGet, "/v1/leases/{id}", "readLease", "Read a lease", (*call).lease),
		with(http.MethodPost, "/v1/leases/{id}/renew", "renew", "Renew a lease within its role's maximum", (*call).renew),
		with(http.MethodDelete, "/v1/leases/{id}", "release", "Release a lease: its credential is destroyed", (*call).release).
			asking(parameter{"wait", "how long to wait for the proof, at most 60s"}).
			answering(http.StatusOK, http.StatusAccepted),
	}
}

// acquire makes a credential and hands it over, once.
func (c *call) acquire() error {
	request, err := c.acquireRequest()
	if err != nil {
		return err
	}
	ctx := c.edge.Tracer.Accept(c.r.Context(), c.r.Header.Values("Traceparent"))
	acquired, err := c.edge.Broker.Acquire(ctx, request)
	if err != nil {
		return err
	}
	return c.deliver(acquired, reveal(acquired, c.edge.Guard.View()), http.StatusCreated)
}

// deliver hands a lease over in an answer. One that does not reach the caller ends the lease: what nobody has must
// not live.
func (c *call) deliver(acquired broker.Acquired, answer any, status int) error {
	delivered := false
	defer func() {
		if !delivered {
			c.edge.Broker.Undelivered(c.r.Context(), acquired.Lease.ID)
		}
	}()
	if err := c.r.Context().Err(); err != nil {
		return fmt.Errorf("answer with lease %s: the caller is gone: %w", acquired.Lease.ID, err)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encode lease %s: %w", acquired.Lease.ID, errEncoding)
	}
	c.status = status
	if err := c.send("application/json", body); err != nil {
		c.edge.Log.Warn("an answer with a credential could not be written; its lease ends", "request", c.id, "lease", acquired.Lease.ID, "err", err)
		return nil // what was written is no problem document's place any more
	}
	delivered = true
	return nil
}

// acquireRequest reads and checks what an acquisition asks for. Local administrators show evidence like everybody.
func (c *call) acquireRequest() (broker.AcquireRequest, error) {
	var body api.AcquireRequest
	var request broker.AcquireRequest
	if _, err := c.query(); err != nil {
		return request, err
	}
	key, err := c.idempotencyKey()
	if err != nil {
		return request, err
	}
	if err := decode(c, api.MaxBody, &body); err != nil {
		return request, err
	}
	request = broker.AcquireRequest{Evidence: c.who.Evidence, Role: body.Role, Reason: body.Reason, Key: key, Origin: c.who.Origin}
	if body.TTL != nil {
		request.TTL = time.Duration(*body.TTL)
		if request.TTL < time.Second {
			return request, malformed("a ttl is at least 1s")
		}
	}
	if body.Role == "" {
		return request, malformed("name the role: role is missing")
	}
	if err := checkName("role", body.Role); err != nil {
		return request, err
	}
	return request, checkReason(body.Reason)
}

// leaseID returns the lease in the path. What cannot be an ID is a lease that does not exist.
func (c *call) leaseID() (lease.ID, error) {
	id, err := lease.ParseID(c.r.PathValue("id"))
	if err != nil {
		return "", fault.New(fault.NotFound, "read the lease ID", "no such lease, or it is not yours")
	}
	return id, nil
}

func (c *call) lease(none) (api.Lease, error) {
	id, err := c.leaseID()
	if err != nil {
		return api.Lease{}, err
	}
	if _, err := c.query(); err != nil {
		return api.Lease{}, err
	}
	l, err := c.edge.Broker.Lease(c.r.Context(), c.who, id)
	return wireLease(l, c.edge.Guard.View()), err
}

func (c *call) leases(none) (page api.Page[api.Lease], err error) {
	q, err := c.query("principal", "role", "target", "state", "limit", "cursor")
	if err != nil {
		return page, err
	}
	limit, cursor, err := q.page()
	if err != nil {
		return page, err
	}
	filter, err := c.leaseFilter(q)
	if err != nil {
		return page, err
	}
	found, next, err := c.edge.Broker.Leases(c.r.Context(), c.who, filter, cursor, limit)
	if err != nil {
		return page, err
	}
	page = api.Page[api.Lease]{Items: make([]api.Lease, len(found)), Next: next}
	view := c.edge.Guard.View()
	for i, l := range found {
		page.Items[i] = wireLease(l, view)
	}
	return page, nil
}

// leaseFilter reads what leases to list.
func (c *call) leaseFilter(q query) (f store.Filter, err error) {
	for _, name := range []string{"principal", "role", "target"} {
		if err := checkName(name, q.text(name)); err != nil {
			return f, err
		}
	}
	f = store.Filter{Role: q.text("role"), Target: q.text("target"), State: lease.State(q.text("state"))}
	switch f.State {
	case "", lease.Pending, lease.Active, lease.Revoking, lease.Revoked:
	default:
		return f, malformed("state is one of pending, active, revoking, revoked")
	}
	principal := q.text("principal")
	if principal == "" {
		return f, nil
	}
	issuer, subject, ok := strings.Cut(principal, ":")
	if !ok || issuer == "" || subject == "" {
		return f, malformed("a principal is written as issuer name, colon, subject")
	}
	f.Issuer, f.Subject = issuer, subject
	if view := c.edge.Guard.View(); view != nil {
		if known, ok := view.Access.Issuers[issuer]; ok {
			f.Issuer, f.IssuerURL = "", known.URL // which has an index, and no rename changes it
		}
	}
	return f, nil
}

func (c *call) renew(in api.RenewRequest) (api.Lease, error) {
	id, err := c.leaseID()
	if err != nil {
		return api.Lease{}, err
	}
	if _, err := c.query(); err != nil {
		return api.Lease{}, err
	}
	var ttl time.Duration
	if in.TTL != nil {
		if ttl = time.Duration(*in.TTL); ttl < time.Second {
			return api.Lease{}, malformed("a ttl is at least 1s")
		}
	}
	l, _, err := c.edge.Broker.Renew(c.r.Context(), c.who, id, ttl)
	return wireLease(l, c.edge.Guard.View()), err
}

func (c *call) release(none) (api.Lease, error) {
	id, err := c.leaseID()
	if err != nil {
		return api.Lease{}, err
	}
	q, err := c.query("wait")
	if err != nil {
		return api.Lease{}, err
	}
	wait, err := q.duration("wait", api.MaxWait)
	if err != nil {
		return api.Lease{}, err
	}
	c.allow(answerTime + wait)
	l, err := c.edge.Broker.Release(c.r.Context(), c.who, id, wait)
	if l.State != lease.Revoked {
		c.status = http.StatusAccepted
	}
	return wireLease(l, c.edge.Guard.View()), err
}
