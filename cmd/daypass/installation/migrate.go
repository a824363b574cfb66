package installation

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/installation"
	"github.com/daypass/daypass/internal/store/relocation"
	"github.com/daypass/daypass/internal/terminal"
)

// migration is the command line of a migration.
type migration struct {
	config                                 string
	fromPassword, fromCA, toPassword, toCA string
	undo, lost                             bool
}

// migrated is a migration as programs read it.
type migrated struct {
	From       string           `json:"from"`
	To         string           `json:"to"`
	Already    bool             `json:"already,omitempty"`
	Undone     bool             `json:"undone,omitempty"`
	Instance   string           `json:"instance,omitempty"`
	Entries    int64            `json:"ledger_entries,omitempty"`
	Key        string           `json:"ledger_key,omitempty"`
	Checkpoint string           `json:"checkpoint,omitempty"`
	Rows       map[string]int64 `json:"rows,omitempty"`
}

func (a *app) migrateCommand() *cobra.Command {
	m := &migration{}
	c := &cobra.Command{
		Use: "migrate FROM TO", Short: "move the store to another database, while the servers are stopped", Args: command.Exactly("FROM", "TO"),
		Long: command.Wrap(`From a file to PostgreSQL, so that several servers can share it, or back. FROM and TO are references as in store
			of the configuration. Leases, ledger, access revisions, decisions and locks go along, and the master key stays the
			one of the configuration. TO must hold no store.

			Everything is copied and then read back: the rows of every table are compared, the leases counted, and every entry
			of the ledger checked against its tree and the signed head. Then FROM is marked as moved, which no server opens any
			more, and TO becomes the store. At no moment could both be served. When it was interrupted, run it again: it begins
			again, or says that the store has moved.

			--undo takes back a migration after which nothing was served at TO: FROM serves again, and TO does not. Once a server
			has run at TO, migrate back instead. --lost says that TO is gone for good: FROM then knows less than the targets, as
			a restored backup does.`),
		Example: `daypass store migrate sqlite:///var/lib/daypass/daypass.db postgres://daypass@db.internal:5432/daypass --to-password /etc/daypass/store-password
daypass store migrate --undo sqlite:///var/lib/daypass/daypass.db postgres://daypass@db.internal:5432/daypass --to-password /etc/daypass/store-password`,
		RunE: func(c *cobra.Command, args []string) error {
			if m.lost && !m.undo {
				return terminal.UsageOf(c.CommandPath(), "--lost goes with --undo")
			}
			cfg, err := config.Load(m.config)
			if err != nil {
				return err
			}
			from, err := storePlace(args[0], m.fromPassword, m.fromCA)
			if err != nil {
				return err
			}
			to, err := storePlace(args[1], m.toPassword, m.toCA)
			if err != nil {
				return err
			}
			return a.migrate(c, cfg, m, from, to)
		},
	}
	a.AddConfig(c, &m.config)
	c.Flags().StringVar(&m.fromPassword, "from-password", "", "`file` with the password for FROM; that of the configuration where FROM is its store")
	c.Flags().StringVar(&m.fromCA, "from-ca", "", "`file` of PEM certificates to trust for FROM")
	c.Flags().StringVar(&m.toPassword, "to-password", "", "`file` with the password for TO; that of the configuration where TO is its store")
	c.Flags().StringVar(&m.toCA, "to-ca", "", "`file` of PEM certificates to trust for TO")
	c.Flags().BoolVar(&m.undo, "undo", false, "take back a migration after which nothing was served")
	c.Flags().BoolVar(&m.lost, "lost", false, "with --undo: the store at TO is gone and will never be served")
	return c
}

// storePlace is a store with its files as references.
func storePlace(store, password, ca string) (p installation.Place, err error) {
	p.Store = store
	for _, f := range []struct {
		path string
		into *string
	}{{password, &p.Password}, {ca, &p.CA}} {
		if f.path == "" {
			continue
		}
		absolute, err := filepath.Abs(f.path)
		if err != nil {
			return p, err
		}
		*f.into = "file://" + absolute
	}
	return p, nil
}

func (a *app) migrate(c *cobra.Command, cfg config.Config, m *migration, from, to installation.Place) error {
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if m.undo {
		if err := installation.UndoMigration(ctx, cfg, from, to, m.lost); err != nil {
			return err
		}
		a.hintStore(cfg, m.config, from)
		return a.Show(migrated{From: from.Store, To: to.Store, Undone: true}, func() {
			a.Printf("undone: %s serves again, and %s does not\n", terminal.Clean(from.Store), terminal.Clean(to.Store))
		})
	}
	watch, end := a.migrationMeter()
	done, err := installation.Migrate(ctx, cfg, from, to, watch)
	end()
	if err != nil {
		return err
	}
	defer a.hintStore(cfg, m.config, to)
	out := migrated{From: from.Store, To: to.Store, Already: done.Already, Instance: done.Instance, Entries: done.Entries,
		Key: done.Key, Checkpoint: done.Checkpoint, Rows: done.Rows}
	return a.Show(out, func() {
		if done.Already {
			a.Printf("the store was moved to %s already; nothing was done\n", terminal.Clean(to.Store))
			return
		}
		a.Facts([]terminal.Fact{{"moved to", terminal.Clean(to.Store)}, {"instance", terminal.Clean(out.Instance)},
			{"leases", strconv.FormatInt(out.Rows["leases"], 10)}, {"ledger", strconv.FormatInt(out.Entries, 10) + " entries " + terminal.Green("verify")},
			{"ledger key", terminal.Clean(out.Key)}})
	})
}

// hintStore says what to write into the configuration.
func (a *app) hintStore(cfg config.Config, path string, now installation.Place) {
	if cfg.Store != now.Store {
		a.Hint("before the next start, write into %s: store: %s", path, now.Store)
	}
	if now.Password != "" && cfg.StorePassword != now.Password {
		a.Hint("and: store_password: %s", now.Password)
	}
	if now.CA != "" && cfg.StoreCA != now.CA {
		a.Hint("and: store_ca: %s", now.CA)
	}
}

// migrationMeter returns what shows on a terminal how far a migration is, and what ends that.
func (a *app) migrationMeter() (watch func(relocation.Progress), end func()) {
	file, ok := a.Stderr.(*os.File)
	if a.Quiet || !ok || !term.IsTerminal(int(file.Fd())) {
		return nil, func() {}
	}
	begun, shown := a.Now(), time.Time{}
	watch = func(p relocation.Progress) {
		now := a.Now()
		if now.Sub(shown) < 200*time.Millisecond && p.Done < p.All {
			return
		}
		shown = now
		verb := "copying"
		if p.Verifying {
			verb = "verifying"
		}
		perSecond := float64(p.Done) / max(now.Sub(begun).Seconds(), 0.001)
		fmt.Fprintf(a.Err, "\r\x1b[K%s %s %s: %d, %.0f rows/s, %d %%", terminal.Faint("daypass:"), verb, rowsName(p.Table), p.Rows, perSecond, 100*p.Done/max(p.All, 1))
	}
	return watch, func() {
		if !shown.IsZero() {
			fmt.Fprintln(a.Err)
		}
	}
}

// rowsName is what people call the rows of a table.
func rowsName(table string) string {
	switch table {
	case "ledger_leaves":
		return "ledger entries"
	case "ledger_tiles":
		return "ledger hashes"
	}
	return table
}
