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
	var standby, readOnly, mayCreate, mayUse bool
	err := d.reader.QueryRowContext(ctx, `select current_setting('server_version_num')::int, current_setting('server_version'),
		current_setting('server_encoding'), pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
		coalesce(current_schema(), ''), coalesce(has_schema_privilege(current_schema(), 'create'), false),
		coalesce(has_schema_privilege(current_schema(), 'usage'), false)`).
		Scan(&version, &text, &encoding, &standby, &readOnly, &schema, &mayCreate, &mayUse)
	switch {
	case err != nil:
		return unasked(err)
	case version < oldest:
		return fmt.Errorf("%w: PostgreSQL %s; at least 15 is needed", store.ErrTooOld, text)
	case standby:
		return fmt.Errorf("%w: the server is a standby and takes no writes; name the primary, or both: host1:5432,host2:5432", store.ErrAccess)
	case readOnly:
		return fmt.Errorf("%w: the database is read only (default_transaction_read_only)", store.ErrAccess)
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
	return fmt.Errorf("%w: %w", store.ErrAccess, err)
}

// holdsStore reports whether there is a store in the schema, and refuses a schema that holds other things. A store
// whose making was cut short is none: its ledger has no head yet.
func (d *dialect) holdsStore(ctx context.Context) (bool, error) {
	var ours, all int
	err := d.reader.QueryRowContext(ctx, `select count(*) filter (where relname in ('goose_db_version', 'ledger_head', 'leases')), count(*)
		from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p')`).Scan(&ours, &all)
	if err != nil {
		return false, unasked(err)
	}
	if ours < 3 {
		if all > ours {
			return false, fmt.Errorf("%w: the schema holds tables that are not of a store; give Daypass a database or ?schema= of its own", store.ErrForeign)
		}
		return false, nil
	}
	var whole bool
	if err := d.reader.QueryRowContext(ctx, "select exists (select from ledger_head)").Scan(&whole); err != nil {
		return false, fmt.Errorf("%w: %w", store.ErrForeign, err)
	}
	return whole, nil
}
