package installation

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/installation"
	"github.com/daypass/daypass/internal/terminal"
)

func (a *app) keysCommand() *cobra.Command {
	c := &cobra.Command{Use: "keys", Short: "replace the ledger's key or the master key", RunE: a.Group, Args: cobra.ArbitraryArgs}
	c.AddCommand(a.rotateCommand(), a.rewrapCommand())
	return c
}

func (a *app) rotateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rotate", Short: "replace the key that signs the ledger", Args: command.Exactly(),
		Long: command.Wrap(`The server makes a new key and goes on without a restart: checkpoints and receipts carry the new key from
			then on. What the old key signed stays good, and daypass ledger verify follows from the old key to the new one: who
			keeps the old key needs no other. Where the old key was stolen, hand out the new one in its place: whoever has the
			old key can sign another way on from it.`),
		Example: `daypass keys rotate
daypass keys rotate --output json | jq -r .key > new.vkey`,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			done, err := client.RotateKey(c.Context())
			if err != nil {
				return err
			}
			defer a.Hint("keep the old key too: it verifies what was signed before")
			return a.Show(done, func() {
				a.Facts([]terminal.Fact{{"ledger key", terminal.Clean(done.Key)}, {"entry", strconv.FormatInt(done.Entry, 10)}})
			})
		},
	}
}

func (a *app) rewrapCommand() *cobra.Command {
	var path, to string
	c := &cobra.Command{
		Use: "rewrap", Short: "seal the store with another master key, while the server is stopped", Args: command.Exactly(),
		Long: command.Wrap(`Makes the new master key where there is none, and changes the store over in one step: at every moment the
			old or the new key opens all of it. When it was interrupted, run it again: it goes on, or says that the new key is the
			one. Then name the new key in the configuration, in master_key.

			What is sealed stays the same behind the new key. Where the old master key was stolen, together with a copy of the
			store, run daypass keys rotate too, once the server is back.`),
		Example: "daypass keys rewrap --config ./daypass.yaml --to file:///var/lib/daypass/master-2.key",
		RunE: func(c *cobra.Command, _ []string) error {
			if to == "" {
				return terminal.UsageOf(c.CommandPath(), "name the new master key: --to file:///PATH")
			}
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			did, err := installation.Rewrap(c.Context(), cfg, to)
			if err != nil {
				for _, line := range did {
					a.Tell("%s", line)
				}
				return err
			}
			if err := a.Show(map[string][]string{"did": did}, func() { a.Printf("%s\n", terminal.CleanLines(strings.Join(did, "\n"))) }); err != nil {
				return err
			}
			if cfg.MasterKey != to {
				a.Hint("before the next start, write into %s: master_key: %s", path, to)
			}
			a.Hint("keep the old key for as long as backups of the store from before are kept")
			return nil
		},
	}
	a.AddConfig(c, &path)
	c.Flags().StringVar(&to, "to", "", "`reference` to the new master key, as in master_key: file:///PATH")
	return c
}
