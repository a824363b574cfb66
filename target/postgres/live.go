package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/target"
)

// Leases lists the leases of the instance whose login may log in, in all databases of the server.
func (p *Postgres) Leases(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var names []string
		err := p.control(ctx, func(ctx context.Context, c *conn) error {
			rows, err := c.Query(ctx, "select rolname::text from pg_roles where starts_with(rolname, $1) and rolcanlogin", p.names.loginPrefix())
			if err != nil {
				return err
			}
			names, err = collect[string](rows)
			return err
		})
		if err != nil {
			yield("", fmt.Errorf("list leases on %s: %w", p.place.title(), err))
			return
		}
		for _, name := range names {
			lease, ours := p.names.lease(name)
			if ours && !yield(lease, nil) {
				return
			}
		}
	}
}

// Renew moves the expiry of a login that may log in. It never touches that right, so that it cannot undo a
// revocation that comes at the same time, and fails when one has come.
func (p *Postgres) Renew(ctx context.Context, lease string, ttl time.Duration) error {
	err := target.CheckLease(lease)
	if err == nil && ttl <= 0 {
		err = target.NotDone(fmt.Errorf("a ttl of %v", ttl))
	}
	if err == nil {
		err = p.control(ctx, func(ctx context.Context, c *conn) error { return p.renew(ctx, c, lease, ttl) })
	}
	if err != nil {
		return fmt.Errorf("renew lease %s on %s: %w", lease, p.place.title(), err)
	}
	return nil
}

var errNotLive = fmt.Errorf("the lease is not live: %w", target.ErrNotDone)

func (p *Postgres) renew(ctx context.Context, c *conn, lease string, ttl time.Duration) error {
	name := p.names.login(lease)
	tx, err := c.begin(ctx)
	if err != nil {
		return err
	}
	undo := func(err error) error {
		if broken(err) && !errors.Is(err, pgx.ErrNoRows) && !errors.Is(err, errNotLive) {
			return err
		}
		if undo := c.script(ctx, "rollback"); undo != nil {
			return undo
		}
		return target.NotDone(err)
	}
	found, err := p.find(ctx, c, []string{lease})
	if err != nil {
		return undo(err)
	}
	if len(found) == 0 || !found[0].open {
		return undo(errNotLive)
	}
	// A login can hold its own row. Everything rare waits behind this connection, so that it waits for nobody.
	err = c.script(ctx, "set local lock_timeout = '200ms';"+p.as(c, found[0].creator)+fmt.Sprintf("alter role %s valid until %s;", quote(name), p.until(tx, ttl)))
	if code(err) == codeUndefinedObject {
		return undo(errNotLive)
	}
	if err != nil {
		return undo(err)
	}
	// The row is ours until commit, so that what we read now stays true.
	var open bool
	if err := c.QueryRow(ctx, "select rolcanlogin from pg_roles where rolname = $1", name).Scan(&open); err != nil {
		return undo(err)
	}
	if !open {
		return undo(errNotLive)
	}
	return c.script(ctx, "commit")
}
