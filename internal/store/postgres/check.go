package postgres

import (
	"context"
	"fmt"

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
		return fmt.Errorf("%w: %w", store.ErrAccess, err)
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

// holdsStore reports whether there is a store in the schema, and refuses a schema that holds other things. A store
// whose making was cut short is none: its ledger has no head yet.
func (d *dialect) holdsStore(ctx context.Context) (bool, error) {
	var ours, all int
	err := d.reader.QueryRowContext(ctx, `select count(*) filter (where relname in ('goose_db_version', 'ledger_head', 'leases')), count(*)
		from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p')`).Scan(&ours, &all)
	if err != nil {
		return false, fmt.Errorf("%w: %w", store.ErrAccess, err)
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
