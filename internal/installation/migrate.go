package installation

import (
	"context"
	"errors"
	"fmt"

	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/keyring"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/relocation"
)

// Place is where a store is or shall be: references as the fields store, store_password and store_ca of daypass.yaml
// have them.
type Place struct {
	Store, Password, CA string
}

// Migrated is what [Migrate] moved.
type Migrated struct {
	relocation.Moved
	Already bool // an earlier command moved it; nothing was done now
}

// Migrate moves the store from one place to another, and returns after everything there was verified. No server may
// run, and there must be no store at the place it goes to. Whatever ends it early, no two servable stores are left,
// and the same command again goes on; see [relocation.Plan]. watch, unless nil, is told how far it is.
func Migrate(ctx context.Context, cfg config.Config, from, to Place, watch func(relocation.Progress)) (done Migrated, err error) {
	m, err := migrationOf(cfg, &from, &to)
	if err != nil {
		return done, err
	}
	m.plan.Watch = watch
	err = m.from.hold(ctx, func(source store.Dialect) error {
		return m.to.fill(ctx, func(destination store.Dialect) (err error) {
			m.plan.From, m.plan.To = source, destination
			done.Moved, err = relocation.Run(ctx, m.plan)
			return err
		})
	})
	if errors.Is(err, store.ErrExists) {
		done.Already, err = m.already(ctx, err)
	}
	return done, m.hint(err)
}

// UndoMigration takes back a migration after which nothing was served: the store at from serves again, and the one
// at to does not. lost says that the store at to is gone for good, so that it need not be asked.
func UndoMigration(ctx context.Context, cfg config.Config, from, to Place, lost bool) error {
	m, err := migrationOf(cfg, &from, &to)
	if err != nil {
		return err
	}
	err = m.from.hold(ctx, func(source store.Dialect) error {
		p := m.plan
		p.From = source
		if lost {
			return relocation.TakeBack(ctx, p, true)
		}
		err := m.to.hold(ctx, func(destination store.Dialect) error {
			p.To = destination
			return relocation.TakeBack(ctx, p, false)
		})
		if errors.Is(err, store.ErrAbsent) {
			p.To = nil
			err = relocation.TakeBack(ctx, p, false)
		}
		return err
	})
	if errors.Is(err, relocation.ErrServed) {
		return fault.WithHint(err, fmt.Sprintf("move it back instead, to a place of its own: daypass store migrate %s NEW", to.Store))
	}
	return m.hint(err)
}

// migration is a move between two places.
type migration struct {
	from, to storage
	plan     relocation.Plan
}

// migrationOf finds the two places. What is not said of one that is the configuration's own is taken from there.
func migrationOf(cfg config.Config, from, to *Place) (m migration, err error) {
	cfg.Fill()
	if err := cfg.Validate(); err != nil {
		return m, err
	}
	key, err := keyring.Load(cfg.MasterKey)
	if err != nil {
		return m, fault.WithHint(err, "the master key goes with the store: name in master_key the one that opens it")
	}
	m.plan.Signer = signerIn(key)
	if m.from, err = at(cfg, from); err != nil {
		return m, fmt.Errorf("%s: %w", from.Store, err)
	}
	if m.to, err = at(cfg, to); err != nil {
		return m, fmt.Errorf("%s: %w", to.Store, err)
	}
	if from.Store == to.Store {
		return m, errors.New("the store is there already: name two places")
	}
	m.plan.FromName, m.plan.ToName = from.Store, to.Store
	return m, nil
}

// at is the storage of a place, whose reference it writes in its one form.
func at(cfg config.Config, p *Place) (storage, error) {
	if err := config.CheckStore(p.Store); err != nil {
		return nil, fault.WithHint(err, "write it as in `store` of daypass.yaml: sqlite:///PATH or postgres://USER@HOST:PORT/DATABASE")
	}
	if p.Store == cfg.Store && p.Password == "" {
		p.Password = cfg.StorePassword
	}
	if p.Store == cfg.Store && p.CA == "" {
		p.CA = cfg.StoreCA
	}
	cfg.Store, cfg.StorePassword, cfg.StoreCA = p.Store, p.Password, p.CA
	kept, err := storageOf(cfg)
	if f, isFile := kept.(file); isFile {
		p.Store = "sqlite://" + f.path
	}
	return kept, err
}

// already reports whether the store that is in the way is the one that an earlier command moved there; cause says
// that there is one.
func (m migration) already(ctx context.Context, cause error) (bool, error) {
	var from, to string
	err := m.from.hold(ctx, func(d store.Dialect) (err error) {
		from, err = movedTo(ctx, d)
		return err
	})
	if err == nil && from != m.plan.ToName {
		return false, cause
	}
	if err == nil {
		err = m.to.hold(ctx, func(d store.Dialect) (err error) {
			to, err = movedTo(ctx, d)
			return err
		})
	}
	if err == nil && to != "" {
		return false, fault.WithHint(cause, "an undo of the migration was interrupted: run it again, with --undo")
	}
	return err == nil, err
}

// movedTo is where a store was moved to.
func movedTo(ctx context.Context, d store.Dialect) (to string, err error) {
	idle := store.NewIdle(d)
	defer idle.Close()
	err = idle.View(ctx, func(rows store.Rows) (err error) {
		to, err = rows.MovedTo()
		return err
	})
	return to, err
}

// hint says what to do about what went wrong.
func (m migration) hint(err error) error {
	p := m.plan
	if _, hinted := errors.AsType[*fault.Hinted](err); hinted {
		return err
	}
	switch {
	case errors.Is(err, store.ErrUnknown):
		return fault.WithHint(err, "the same command again finds out, and goes on")
	case errors.Is(err, relocation.ErrHalfway):
		return fault.WithHint(err, fmt.Sprintf("the same command again goes on; to serve %s instead: daypass store migrate --undo %s %s",
			p.FromName, p.FromName, p.ToName))
	case errors.Is(err, store.ErrInUse):
		return fault.WithHint(err, "stop every server of the store first; one that was killed counts for half a minute longer")
	case errors.Is(err, store.ErrExists):
		return fault.WithHint(err, "nothing is overwritten: name a new file, or a database or ?schema= without a store. One that has moved away is yours to remove")
	case errors.Is(err, keyring.ErrWrongKey), errors.Is(err, store.ErrWrongKey):
		return fault.WithHint(err, "name in master_key the key that was made with this store, or the one of the last daypass keys rewrap")
	case errors.Is(err, store.ErrDamaged):
		return fault.WithHint(err, "nothing has changed over; see what daypass ledger verify says of an export, or restore a backup")
	case errors.Is(err, store.ErrAccess):
		return fault.WithHint(err, "what the connections need is in files that these name: --from-password, --from-ca, --to-password, --to-ca")
	}
	return err
}
