package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store"
)

// oldest is the first version whose commits and locks were tried with this package.
const oldest = 150000

// check refuses a server that cannot keep the store.
func (d *dialect) check(ctx context.Context) error {
	var version int
	var text, encoding, schema string
	var mayCreate, mayUse bool
	err := d.reader.QueryRowContext(ctx, `select current_setting('server_version_num')::int, current_setting('server_version'),
		current_setting('server_encoding'), coalesce(current_schema(), ''),
		coalesce(has_schema_privilege(current_schema(), 'create'), false), coalesce(has_schema_privilege(current_schema(), 'usage'), false)`).
		Scan(&version, &text, &encoding, &schema, &mayCreate, &mayUse)
	switch {
	case err != nil:
		return unasked(err)
	case version < oldest:
		return fmt.Errorf("%w: PostgreSQL %s; at least 15 is needed: upgrade it, or name another server", store.ErrTooOld, text)
	case encoding != "UTF8":
		return fmt.Errorf("%w: the database has the encoding %s; make one with: create database daypass encoding 'UTF8' template template0", store.ErrForeign, encoding)
	case schema == "":
		return fmt.Errorf("%w: there is no such schema in the database, or it may not be used; make it, or leave ?schema= out", store.ErrAccess)
	case !mayCreate || !mayUse:
		return fmt.Errorf("%w: the login may not create tables in schema %q; grant it: grant create, usage on schema %s to the login", store.ErrAccess, schema, schema)
	}
	return nil
}

// unasked is why the server could not be asked: it refuses us, which somebody has to change, or it does not answer,
// which passes. Of several servers one may refuse us for being a standby, while the other is on its way.
func unasked(err error) error {
	_, silent := errors.AsType[net.Error](err)
	silent = silent || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
	if said, ok := errors.AsType[*pgconn.PgError](err); ok && len(said.Code) == 5 {
		silent = silent || slices.Contains([]string{"08", "53", "57"}, said.Code[:2]) // connections, resources, an operator's doing
	}
	if silent {
		return fault.Wrap(fault.StoreUnavailable, "ask the server", "the store is not available", err)
	}
	for _, reason := range []error{errStandby, errFrozen} {
		if errors.Is(err, reason) {
			err = reason // without what the driver says of how it found out
		}
	}
	return fmt.Errorf("%w: %w", store.ErrAccess, err)
}

// holdsStore reports whether there is a store in the schema, and refuses a schema that holds other things. A store
// whose making was cut short is none: its ledger has no head yet.
func (d *dialect) holdsStore(ctx context.Context) (bool, error) {
	var ours, all int
	var usable bool
	var login string
	err := d.reader.QueryRowContext(ctx, `select count(*) filter (where relname in ('goose_db_version', 'ledger_head', 'leases')), count(*),
		coalesce(bool_and(pg_has_role(relowner, 'usage')), true), current_user
		from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p')`).Scan(&ours, &all, &usable, &login)
	if err != nil {
		return false, unasked(err)
	}
	if ours < 3 {
		if all > ours {
			return false, fmt.Errorf("%w: the schema holds tables that are not of a store; give Daypass a database or ?schema= of its own", store.ErrForeign)
		}
		return false, nil
	}
	if !usable { // a new version of Daypass changes the schema, which only an owner may
		return false, fmt.Errorf("%w: the store's tables do not belong to the login; restore them with pg_restore --no-owner --role=%s, "+
			"or give each to it: alter table … owner to %s", store.ErrAccess, login, login)
	}
	var whole bool
	if err := d.reader.QueryRowContext(ctx, "select exists (select from ledger_head)").Scan(&whole); err != nil {
		return false, fmt.Errorf("%w: %w", store.ErrForeign, err)
	}
	return whole, nil
}
