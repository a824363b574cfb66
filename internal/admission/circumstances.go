package admission

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
)

// circumstances are what the store knows of a principal that policies may ask for. They are read before a decision,
// and again in the transaction that records what was decided: where they have changed, it is decided again there.
type circumstances struct {
	live    int // other leases that may live; 0 where no policy asks
	records []record
}

// record is a posture record of a principal, or that there is none.
type record struct {
	key   policy.PostureKey
	found bool
	store.PostureRecord
}

// same reports whether nothing has changed that a policy could see, but for how long ago it was said.
func (c circumstances) same(other circumstances) bool {
	return c.live == other.live && slices.EqualFunc(c.records, other.records, func(a, b record) bool {
		return a.key == b.key && a.found == b.found && a.Turn == b.Turn
	})
}

// lookAround reads the circumstances of a principal, of whose leases some do not count. Where no policy and no source
// of posture asks for any, the store is not asked.
func (g *Guard) lookAround(ctx context.Context, view *View, p identity.Principal, own int) (around circumstances, err error) {
	if !view.Policy.Wants("live_leases") && len(view.Policy.PostureOf(p)) == 0 {
		return around, nil
	}
	err = g.store.View(ctx, func(tx *store.Tx) (err error) {
		around, err = circumstancesOf(tx, view, p, own)
		return err
	})
	return around, err
}

// circumstancesOf reads the circumstances of a principal in a transaction.
func circumstancesOf(tx *store.Tx, view *View, p identity.Principal, own int) (around circumstances, err error) {
	if view.Policy.Wants("live_leases") {
		live, err := tx.Live(store.Scope{IssuerURL: p.IssuerURL, Subject: p.Subject})
		if err != nil {
			return around, err
		}
		around.live = max(live-own, 0)
	}
	for _, key := range view.Policy.PostureOf(p) {
		r := record{key: key}
		if r.PostureRecord, r.found, err = tx.Posture(key.Source, key.ID); err != nil {
			return around, err
		}
		around.records = append(around.records, r)
	}
	return around, nil
}

// tell puts the circumstances into a request.
func (c circumstances) tell(view *View, r *policy.Request) error {
	r.LiveLeases, r.Posture = nil, nil
	if view.Policy.Wants("live_leases") {
		r.LiveLeases = new(c.live)
	}
	return c.tellPosture(r)
}

func (c circumstances) tellPosture(r *policy.Request) error {
	r.Posture = nil
	for _, one := range c.records {
		if !one.found {
			continue
		}
		fields, err := identity.ParseClaims(one.Fields)
		if err != nil {
			return err
		}
		if r.Posture == nil {
			r.Posture = map[string]policy.Posture{}
		}
		r.Posture[one.key.Source] = policy.Posture{ID: one.key.ID, ReportedAt: one.ReportedAt, Fields: fields}
	}
	return nil
}

// watch notes that changes of the records are the business of a lease.
func (c circumstances) watch(tx *store.Tx, l store.Lease) error {
	for _, one := range c.records {
		if err := tx.WatchPosture(one.key.Source, one.key.ID, l.ID); err != nil {
			return err
		}
	}
	return nil
}

// place is where an address is, as far as that is known.
func (g *Guard) place(address netip.Addr) (country, subdivision string) {
	if g.locate == nil {
		return "", ""
	}
	return g.locate(address)
}

// tokenAge is how long ago evidence was issued, where it says when: of fresh evidence its verifier knows, of a lease's
// the claims. Clocks that go ahead of ours make nothing younger than new.
func tokenAge(p identity.Principal, now time.Time) *time.Duration {
	issued := p.IssuedAt
	if issued.IsZero() {
		var seconds int64
		switch iat := p.Claims["iat"].(type) {
		case int64:
			seconds = iat
		case json.Number:
			seconds, _ = iat.Int64()
		}
		if seconds <= 0 {
			return nil
		}
		issued = time.Unix(seconds, 0)
	}
	return new(max(now.Sub(issued), 0))
}

// watched reports whether the store knows which records a lease hangs on.
func (c circumstances) watched(tx *store.Tx, l store.Lease) (bool, error) {
	for _, one := range c.records {
		if known, err := tx.WatchesPosture(one.key.Source, one.key.ID, l.ID); err != nil || !known {
			return false, err
		}
	}
	return true, nil
}
