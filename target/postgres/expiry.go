package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/target"
)

var _ target.Expirer = (*Postgres)(nil)

// Expiry returns until when the login of a lease is valid; zero where there is none that may log in, or one that is
// valid for ever.
func (p *Postgres) Expiry(ctx context.Context, lease string) (until time.Time, err error) {
	err = target.CheckLease(lease)
	if err == nil {
		err = p.control(ctx, func(ctx context.Context, c *conn) error {
			const query = `select case when isfinite(rolvaliduntil) then rolvaliduntil end from pg_roles where rolname = $1 and rolcanlogin`
			var valid *time.Time
			err := c.QueryRow(ctx, query, p.names.login(lease)).Scan(&valid)
			if errors.Is(err, pgx.ErrNoRows) || err == nil && valid == nil {
				until = time.Time{}
				return nil
			}
			if err == nil {
				until = *valid
			}
			return err
		})
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read the expiry of lease %s on %s: %w", lease, p.place.title(), err)
	}
	return until, nil
}
