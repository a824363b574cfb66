package installation

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/installation"
	"github.com/daypass/daypass/internal/terminal"
)

func (a *app) storeCommand() *cobra.Command {
	c := &cobra.Command{Use: "store", Short: "back the store up, restore it and move it", RunE: a.Group, Args: cobra.ArbitraryArgs}
	c.AddCommand(a.backupCommand(), a.restoreCommand(), a.migrateCommand())
	return c
}

// copied is a backup or a restore as programs read it.
type copied struct {
	File     string   `json:"file,omitempty"`
	Store    string   `json:"store,omitempty"` // where no file was copied
	Bytes    int64    `json:"bytes,omitempty"`
	Instance string   `json:"instance"`
	Boot     int64    `json:"boot"`
	Epoch    int64    `json:"epoch"`
	Entries  int64    `json:"ledger_entries"`
	Last     api.Time `json:"last_entry_at"`
	Live     int      `json:"live_leases"`
	Key      string   `json:"ledger_key"`
	Aside    string   `json:"set_aside,omitempty"`
	Next     int64    `json:"next_epoch,omitempty"` // what the next start of a restored store opens
}

// show tells what a copy holds, in a file or else in a store that others put back.
func (c copied) show(a *app) error {
	return a.Show(c, func() {
		size, next := "", ""
		if c.File != "" {
			size = mebibytes(c.Bytes)
		}
		if c.Next > 0 {
			next = fmt.Sprintf("%d, which the next start opens", c.Next)
		}
		a.Facts([]terminal.Fact{{"store", terminal.Clean(c.Store)}, {"backup", terminal.Clean(c.File)}, {"size", size}, {"instance", terminal.Clean(c.Instance)},
			{"ledger", strconv.FormatInt(c.Entries, 10) + " entries"}, {"last entry", a.Stamp(c.Last)},
			{"live leases", strconv.Itoa(c.Live)}, {"epoch", next}, {"set aside", terminal.Clean(c.Aside)}})
	})
}

// copyStore runs what copies a store from or to a file, which may be none, and returns what it made of it. The person
// at the terminal sees how far it is, and may end it.
func (a *app) copyStore(c *cobra.Command, file, what string,
	do func(ctx context.Context, watch func(done, all int64)) (installation.Copied, error)) (copied, error) {
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	watch, end := a.meter(what)
	made, err := do(ctx, watch)
	end()
	if err != nil {
		return copied{}, err
	}
	f := made.Facts
	out := copied{File: file, Store: made.Database, Bytes: made.Bytes, Instance: f.Instance, Boot: f.Boot, Epoch: f.Epoch, Entries: f.Entries,
		Last: api.At(f.Last), Live: f.Live, Key: f.Key, Aside: made.Aside}
	if absolute, err := filepath.Abs(file); err == nil && file != "" {
		out.File = absolute
	}
	return out, nil
}

func (a *app) backupCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "backup FILE", Short: "write a copy of the store, while the server runs or not", Args: command.Exactly("FILE"),
		Long: command.Wrap(`Run it on the server's machine, as the user that the server runs as. The server is not stopped and not asked.
			FILE holds the store as it was at one moment. It appears whole and verified, or not at all: the database is checked
			page by page, and the ledger's head against its tree and its signature. It has mode 0600. An existing file is not
			overwritten.

			The master key is not in it: keep a copy of that elsewhere. Who has both has the ledger's signing key.

			What is in it: all leases, decisions, locks, access revisions and the ledger; no credentials, for those are never
			stored. A backup is put back with daypass store restore, and in no other way.`),
		Example: `daypass store backup /var/backups/daypass-2026-01-02
daypass store backup ./daypass.backup --output json`,
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			made, err := a.copyStore(c, args[0], "copying the store", func(ctx context.Context, watch func(done, all int64)) (installation.Copied, error) {
				return installation.Backup(ctx, cfg, args[0], watch)
			})
			if err != nil {
				return err
			}
			defer a.Tell("verified. the master key %s is not in it: keep a copy of that apart from this file", terminal.Clean(cfg.MasterKey))
			return made.show(a)
		},
	}
	a.AddConfig(c, &path)
	return c
}

func (a *app) restoreCommand() *cobra.Command {
	var path string
	var how installation.Restoring
	c := &cobra.Command{
		Use: "restore [FILE]", Short: "put a backup in the place of the store, while the servers are stopped", Args: command.AtMost("FILE"),
		Long: command.Wrap(`A store in a file: FILE is what daypass store backup wrote, or a plain copy of a store with its -wal file beside it.
			It is checked, also that the master key opens it, and copied; FILE itself stays as it is. A store that is in the
			place is left alone, and --set-aside moves it away with its log; nothing is deleted.

			A store in PostgreSQL: put the database back with PostgreSQL's own tools, pg_restore or another, while every server
			is stopped, and run this without FILE before the first start. The store is checked in the same way. It waits for half
			a minute where the copy says of its servers that they live, and refuses when one does.

			The store knows then that it is older than the world. The next start opens a new epoch: it gives leases as ever, and
			for a day, or for the longest life of a lease, ends nothing on the word of the backup alone. A credential that the
			backup does not know lives to its own expiry at the target, and is destroyed then; a lease that was renewed
			after the backup lives as long as the target says.

			What happened after the backup is not in it: locks, access revisions, key rotations, ends of leases. Place locks
			again that must stand.`),
		Example: `daypass store restore /var/backups/daypass-2026-01-02 --set-aside
pg_restore --clean --if-exists --no-owner --role=daypass --dbname=daypass store.dump && daypass store restore`,
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				how.From = args[0]
			}
			done, err := a.copyStore(c, how.From, "copying the backup", func(ctx context.Context, watch func(done, all int64)) (installation.Copied, error) {
				how.Watch = watch
				return installation.Restore(ctx, cfg, how)
			})
			if err != nil {
				return err
			}
			defer a.Hint("before you let workloads in: place again the locks, and apply again the access revisions, that came after the backup")
			done.Next = done.Epoch + 1
			return done.show(a)
		},
	}
	a.AddConfig(c, &path)
	c.Flags().BoolVar(&how.SetAside, "set-aside", false, "move the store that is there to STORE.aside-TIME first")
	return c
}

// meter returns what shows how far a copy is, on a terminal and where it takes long, and what ends that.
func (a *app) meter(what string) (watch func(done, all int64), end func()) {
	file, ok := a.Stderr.(*os.File)
	if a.Quiet || !ok || !term.IsTerminal(int(file.Fd())) {
		return nil, func() {}
	}
	begun, shown := a.Now(), false
	watch = func(done, all int64) {
		if a.Now().Sub(begun) < time.Second {
			return
		}
		shown = true
		fmt.Fprintf(a.Err, "\r%s %s: %s of %s ", terminal.Faint("daypass:"), what, mebibytes(done), mebibytes(all))
	}
	return watch, func() {
		if shown {
			fmt.Fprintln(a.Err)
		}
	}
}

// mebibytes tells a size.
func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
