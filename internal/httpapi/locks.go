package httpapi

import (
	"net/http"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
)

func lockRoutes() []route {
	return []route{
		with(http.MethodPost, "/v1/locks", "lock", "Place a lock: end matching leases and refuse new ones", (*call).lock).
			answering(http.StatusOK, http.StatusCreated),
		with(http.MethodGet, "/v1/locks", "listLocks", "List locks, newest first", (*call).locks).asking(pageParameters()...),
		with(http.MethodDelete, "/v1/locks/{id}", "unlock", "Lift a lock", (*call).unlock),
		with(http.MethodGet, "/v1/decisions/{id}", "explain", "Explain a decision", (*call).decision),
	}
}

func (c *call) lock(in api.LockRequest) (api.Lock, error) {
	if _, err := c.query(); err != nil {
		return api.Lock{}, err
	}
	if err := checkReason(in.Reason); err != nil {
		return api.Lock{}, err
	}
	for _, text := range []string{in.Match.Principal, in.Match.Issuer, in.Match.Role, in.Match.Target, in.Match.Lease} {
		if err := checkName("match", text); err != nil {
			return api.Lock{}, err
		}
	}
	request := broker.LockRequest{
		Principal: in.Match.Principal, Issuer: in.Match.Issuer, Role: in.Match.Role, Target: in.Match.Target, Lease: in.Match.Lease,
		Reason: in.Reason, DryRun: in.DryRun,
	}
	if in.ExpiresAt != nil {
		request.ExpiresAt = in.ExpiresAt.Time
	}
	lock, err := c.edge.Broker.Lock(c.r.Context(), c.who, request)
	out := wireLock(lock)
	if in.DryRun {
		out.ID, out.DryRun = "", true
		return out, err
	}
	c.status = http.StatusCreated
	return out, err
}

func (c *call) locks(none) (page api.Page[api.Lock], err error) {
	limit, cursor, err := c.page()
	if err != nil {
		return page, err
	}
	found, next, err := c.edge.Broker.Locks(c.r.Context(), c.who, cursor, limit)
	if err != nil {
		return page, err
	}
	page = api.Page[api.Lock]{Items: make([]api.Lock, len(found)), Next: next}
	for i, k := range found {
		page.Items[i] = wireLock(k)
	}
	return page, nil
}

// recordID returns the ID in the path of something else than a lease. All our IDs look alike.
func (c *call) recordID(what string) (string, error) {
	id := c.r.PathValue("id")
	if _, err := lease.ParseID(id); err != nil {
		return "", fault.New(fault.NotFound, "read the ID", "no such "+what)
	}
	return id, nil
}

func (c *call) unlock(none) (api.Lock, error) {
	if _, err := c.query(); err != nil {
		return api.Lock{}, err
	}
	id, err := c.recordID("lock")
	if err != nil {
		return api.Lock{}, err
	}
	lock, err := c.edge.Broker.Unlock(c.r.Context(), c.who, id)
	return wireLock(lock), err
}

func (c *call) decision(none) (api.Decision, error) {
	if _, err := c.query(); err != nil {
		return api.Decision{}, err
	}
	id, err := c.recordID("decision")
	if err != nil {
		return api.Decision{}, err
	}
	d, err := c.edge.Guard.Decision(c.r.Context(), c.who, id)
	if err != nil {
		return api.Decision{}, err
	}
	return wireDecision(d, c.edge.Guard.View())
}
