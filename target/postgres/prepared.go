package postgres

import (
	"context"
	"errors"
	"fmt"
)

// endPrepared rolls back what a login has prepared (max_prepared_transactions is above 0): a prepared transaction
// outlives its session, and one in which the login changed its own password holds the row that bars it. Only the
// login itself or a superuser may end one, and only in its database, so the administrator takes on the login there.
// It reports whether there was any.
func (p *Postgres) endPrepared(ctx context.Context, c *conn, l login) (found bool, err error) {
	rows, err := c.Query(ctx, "select gid, database::text from pg_prepared_xacts where owner = $1", l.name)
	if err != nil {
		return false, err
	}
	byDatabase := map[string][]string{}
	for rows.Next() {
		var gid, database string
		if err := rows.Scan(&gid, &database); err != nil {
			rows.Close()
			return false, err
		}
		byDatabase[database] = append(byDatabase[database], gid)
	}
	if rows.Err() != nil {
		return false, rows.Err()
	}
	var failed []error
	for database, gids := range byDatabase {
		failed = append(failed, p.rollBack(ctx, database, l, gids))
	}
	return len(byDatabase) > 0, errors.Join(failed...)
}

// rollBack ends prepared transactions of a login in one database.
func (p *Postgres) rollBack(ctx context.Context, database string, l login, gids []string) error {
	c, err := p.dialer.dial(ctx, database)
	if err != nil {
		return err
	}
	defer c.hangUp() // and with it SET ROLE
	with := ""
	if c.modern() {
		with = " with inherit false, set true"
	}
	join := fmt.Sprintf("grant %s to %s%s;", quote(l.name), quote(p.place.user), with)
	if err := c.transact(ctx, impatient, p.as(c, l.creator)+join); err != nil {
		return fmt.Errorf("take on %s: %w", l.name, err)
	}
	if err := c.script(ctx, "set role "+quote(l.name)); err != nil {
		return err
	}
	for _, gid := range gids {
		if err := c.script(ctx, "rollback prepared "+literal(gid)); err != nil && code(err) != codeUndefinedObject {
			return fmt.Errorf("roll back what %s prepared: %w", l.name, err)
		}
	}
	return nil
}
