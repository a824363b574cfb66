package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/daypass/daypass/target"
)

// endItem is one lease that waits for its end.
type endItem struct {
	lease  string
	state  atomic.Int32
	answer chan error // buffered: the lane never waits for a caller that has gone
}

// login is a login role as the server has it.
type login struct {
	lease string
	name  string
	oid   uint32
	open  bool // it may log in
	// creator is the role of ours that made it (16 and later); empty when none did.
	creator string
}

// Revoke ends the login of a lease: it may not log in, its sessions are gone, it has no membership. It returns
// nil only when that is so and nothing that we ever sent can bring it back. What the login owns is left to Clean.
func (p *Postgres) Revoke(ctx context.Context, lease string) error {
	if err := p.revoke(ctx, lease); err != nil {
		return fmt.Errorf("revoke lease %s on %s: %w", lease, p.place.title(), explain(err))
	}
	return nil
}

func (p *Postgres) revoke(ctx context.Context, lease string) error {
	if err := target.CheckLease(lease); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return target.NotDone(err)
	}
	if err := p.book.end(ctx, lease); err != nil {
		return err
	}
	item := &endItem{lease: lease, answer: make(chan error, 1)}
	if err := p.ends.put(item); err != nil {
		p.book.reopen(lease)
		return err
	}
	select {
	case err := <-item.answer:
		return err
	case <-ctx.Done():
		if item.state.CompareAndSwap(waiting, givenUp) {
			p.book.reopen(lease)
		}
		return ctx.Err()
	}
}

// runEnds is a lane: it ends logins, batch after batch, on a connection of its own.
func (p *Postgres) runEnds(ctx context.Context) {
	var c *conn
	defer func() {
		if c != nil {
			c.hangUp()
		}
	}()
	for {
		batch := slices.DeleteFunc(p.ends.take(ctx), func(item *endItem) bool {
			return !item.state.CompareAndSwap(waiting, taken)
		})
		if ctx.Err() != nil {
			p.tell(batch, errors.New("the target is closed"), nil)
			return
		}
		if len(batch) > 0 {
			c = p.endBatch(ctx, c, batch)
		}
	}
}

// tell answers a batch: failed has the leases whose own end failed, err is for the rest.
func (p *Postgres) tell(batch []*endItem, err error, failed map[string]error) {
	for _, item := range batch {
		p.book.reopen(item.lease)
		if own := failed[item.lease]; own != nil {
			item.answer <- own
			continue
		}
		item.answer <- err
	}
}

// endBatch ends the logins of a batch and returns the connection to go on with, nil when it broke. Each step may
// be repeated, so that a lost answer needs no settling: the caller comes again.
func (p *Postgres) endBatch(ctx context.Context, c *conn, batch []*endItem) *conn {
	ctx, cancel := context.WithTimeout(ctx, 2*opTimeout)
	defer cancel()
	var leases []string
	for _, item := range batch {
		leases = append(leases, item.lease)
	}
	leases = sortedSet(leases)
	for fresh := false; ; {
		var err error
		if c == nil {
			if c, err = p.connect(ctx); err != nil {
				failed, err := p.endOnBoss(ctx, leases, err)
				p.tell(batch, err, failed)
				return nil
			}
			fresh = true
		}
		e := ending{p: p, c: c, failed: map[string]error{}}
		err = e.run(ctx, leases)
		if err == nil || !broken(err) && !c.IsClosed() {
			p.tell(batch, err, e.failed)
			return c
		}
		p.strays.lose(c)
		c = nil
		if fresh || ctx.Err() != nil {
			p.tell(batch, err, nil)
			return nil
		}
	}
}

// endOnBoss ends leases on the connection that we already have, when the server takes no more: a lease may have
// taken them all.
func (p *Postgres) endOnBoss(ctx context.Context, leases []string, cause error) (map[string]error, error) {
	if code(cause) != codeNoSlots {
		return nil, cause
	}
	failed := map[string]error{}
	err := p.control(ctx, func(ctx context.Context, c *conn) error {
		e := ending{p: p, c: c, failed: failed, alone: true}
		return e.run(ctx, leases)
	})
	return failed, err
}
