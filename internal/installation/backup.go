package installation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/keyring"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/ledger"
)

// Copied is what [Backup] made or [Restore] put back.
type Copied struct {
	sqlite.Copied        // of a database only Facts
	Database      string // the one that was put back, as it may be shown; empty for a file
}

// Backup writes a copy of the store, as it is at one moment, to a new file. The server may run or not: it is not
// asked. watch, unless nil, is told how far it is.
func Backup(ctx context.Context, cfg config.Config, to string, watch func(done, all int64)) (Copied, error) {
	cfg.Fill()
	if config.InDatabase(cfg.Store) {
		return Copied{}, fault.WithHint(errors.New("the store is a PostgreSQL database: this command copies stores in a file"),
			"back it up with PostgreSQL's own tools, such as pg_dump")
	}
	path, err := config.StorePath(cfg.Store)
	if err != nil {
		return Copied{}, err
	}
	made, err := sqlite.Backup(ctx, path, to, watch)
	switch {
	case errors.Is(err, store.ErrAbsent):
		err = fault.WithHint(err, "is it the configuration of the server? --config names another")
	case errors.Is(err, store.ErrExists):
		err = fault.WithHint(err, "nothing is overwritten: name a new file")
	case errors.Is(err, store.ErrDamaged):
		err = fault.WithHint(err, "this store cannot be copied whole: keep your earlier backups, and see daypass help store restore")
	}
	return Copied{Copied: made}, err
}

// Restoring is how [Restore] goes about it.
type Restoring struct {
	From     string                // the backup of a store in a file; empty where PostgreSQL has restored its database
	SetAside bool                  // move a store in a file that is there away
	Watch    func(done, all int64) // told how far a copy is, unless nil
}

// Restore makes a store say that it is older than the world, so that its next start opens a new epoch; one in a file
// it puts back from a backup first. No server may run. Before anything is changed it makes sure that the store is
// whole and that the master key opens it. A file that is there is moved aside when that is asked for, and else left
// alone, with an error.
func Restore(ctx context.Context, cfg config.Config, how Restoring) (done Copied, err error) {
	cfg.Fill()
	if err := how.fits(cfg.Store); err != nil {
		return done, err
	}
	key, err := keyring.Load(cfg.MasterKey)
	if err != nil {
		return done, fault.WithHint(err, "the master key is in no backup of the store: put it back from where you keep it")
	}
	approve := func(f store.Facts) error {
		_, err := signerOf(f, key)
		return err
	}
	stop := "stop the server first: what it holds in memory is of the store that is there"
	if config.InDatabase(cfg.Store) {
		stop = "stop every server of the store first: what they hold in memory is of the time before"
		done, err = restoreDatabase(ctx, cfg, approve)
	} else {
		done, err = restoreFile(ctx, cfg, how, approve)
	}
	switch {
	case errors.Is(err, store.ErrInUse):
		err = fault.WithHint(err, stop)
	case errors.Is(err, store.ErrExists) && !how.SetAside:
		err = fault.WithHint(err, "it moves the store that is there away, and never deletes one, with: --set-aside")
	case errors.Is(err, keyring.ErrWrongKey), errors.Is(err, store.ErrWrongKey):
		err = fault.WithHint(err, "name in master_key the key that the store had when the backup was made")
	}
	return done, err
}

// fits refuses what cannot be done with a store of this kind.
func (how Restoring) fits(reference string) error {
	switch inDatabase := config.InDatabase(reference); {
	case inDatabase && (how.From != "" || how.SetAside):
		return fault.WithHint(errors.New("the store is a PostgreSQL database: this command puts back stores in a file"),
			"restore the database with PostgreSQL's own tools, such as pg_restore, and then run: daypass store restore")
	case !inDatabase && how.From == "":
		return fault.WithHint(errors.New("no backup is named to restore the store from"), "name the one that daypass store backup wrote")
	}
	return nil
}

func restoreFile(ctx context.Context, cfg config.Config, how Restoring, approve func(store.Facts) error) (Copied, error) {
	path, err := config.StorePath(cfg.Store)
	if err != nil {
		return Copied{}, err
	}
	done, err := sqlite.Restore(ctx, how.From, path, sqlite.Restoring{Approve: approve, SetAside: how.SetAside, Watch: how.Watch})
	return Copied{Copied: done}, err
}

// restoreDatabase says of the store in a database that it was put back.
func restoreDatabase(ctx context.Context, cfg config.Config, approve func(store.Facts) error) (done Copied, err error) {
	kept, err := storageOf(cfg)
	if err != nil {
		return done, err
	}
	done.Database = kept.name()
	err = kept.hold(ctx, func(d store.Dialect) error {
		idle := store.NewIdle(d)
		defer idle.Close()
		if err := idle.Migrate(ctx); err != nil {
			return err
		}
		if err := outlive(ctx, idle); err != nil {
			return err
		}
		err := idle.View(ctx, func(rows store.Rows) (err error) {
			done.Facts, err = rows.Examine()
			return err
		})
		if err == nil {
			err = approve(done.Facts)
		}
		if err != nil {
			return err
		}
		return idle.Update(ctx, func(rows store.Rows) error {
			if err := rows.Alone(); err != nil {
				return err
			}
			return rows.MarkRestored()
		})
	})
	if err != nil {
		err = fmt.Errorf("restore the store %s: %w", done.Database, err)
	}
	return done, err
}

// lookAgain is how often to look whether a server lives: each shows it every two seconds.
const lookAgain = 500 * time.Millisecond

// outlive waits until every server that the store knows of counts as dead, and refuses as soon as one shows life. A
// copy of a database that was served lists the servers of its time as if they had just been seen.
func outlive(ctx context.Context, idle *store.Idle) error {
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	seen := map[int64]time.Time{}
	for first := true; ; first = false {
		var all []store.Replica
		err := idle.View(ctx, func(rows store.Rows) (err error) {
			all, err = rows.Replicas()
			return err
		})
		if err != nil || len(all) == 0 {
			return err
		}
		for _, r := range all {
			if before, known := seen[r.Boot]; !first && (!known || !r.SeenAt.Equal(before)) {
				return fmt.Errorf("%w: server %q is alive", store.ErrInUse, r.Name)
			}
			seen[r.Boot] = r.SeenAt
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// signerOf opens the ledger's key in a copy with the master key, and makes sure that the copy's ledger is signed
// with it: so a server would start from it.
func signerOf(f store.Facts, key *keyring.Key) (*ledger.Signer, error) {
	sealed, ok := f.Sealed[sealedLedgerKey]
	if !ok {
		return nil, fault.New(fault.NotFound, "read the ledger's key", "it holds no ledger key: it was not made by daypass init")
	}
	signer, err := openLedgerKey(key, sealed)
	if err != nil {
		return nil, fmt.Errorf("the master key does not open it: %w", err)
	}
	if signer.VerifierKey() != f.Key {
		return nil, fmt.Errorf("%w: its ledger is signed with %s and it keeps %s", store.ErrWrongKey, f.Key, signer.VerifierKey())
	}
	return signer, nil
}
