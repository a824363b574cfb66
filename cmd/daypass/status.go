package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "show how the server and its parts are doing", Args: exactly(),
		Long:    wrap(`Exits with 8 when the server answers but cannot give leases now.`),
		Example: "daypass status --output json | jq .targets",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.admin()
			if err != nil {
				return err
			}
			status, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			if err := a.show(status, func() { a.showStatus(status) }); err != nil {
				return err
			}
			if !status.Ready {
				return codedError{errors.New("the server cannot give leases now"), exitUnavailable}
			}
			return nil
		},
	}
}

// showStatus prints the server, then each kind of part in a table.
func (a *app) showStatus(s api.Status) {
	ready := green("ready")
	if !s.Ready {
		ready = red("not ready")
	}
	a.facts(fact{"server", ready + ", version " + clean(s.Version)},
		fact{"up since", a.stamp(s.StartedAt)},
		fact{"instance", fmt.Sprintf("%s, boot %d, epoch %d", clean(s.Instance), s.Boot, s.Epoch)},
		fact{"revision", clean(s.Revision)},
		fact{"leases", fmt.Sprintf("%d active, %d pending, %d revoking", s.Leases.Active, s.Leases.Pending, s.Leases.Revoking)},
		fact{"locks", strconv.Itoa(s.Locks)},
		fact{"ledger", fmt.Sprintf("%d entries", s.Ledger.Size)},
		fact{"ledger key", clean(s.Ledger.Key)})
	a.showServers(s.Servers)
	a.showTargets(s.Targets)
	a.showIssuers(s.Issuers)
	for _, warning := range s.Warnings {
		a.printf("%s %s\n", yellow("warning:"), clean(warning))
	}
}

// showServers prints a table, where several servers can share the store.
func (a *app) showServers(servers []api.ServerStatus) {
	var rows [][]string
	for _, s := range servers {
		name := clean(s.Name)
		if s.Self {
			name += " (this one)"
		}
		rows = append(rows, []string{name, strconv.FormatInt(s.Boot, 10), a.distance(s.SeenAt), clean(strings.Join(s.Keeps, " "))})
	}
	if len(rows) > 0 {
		a.printf("\n")
		a.table([]string{"SERVER", "BOOT", "SEEN", "WORKS FOR"}, rows)
	}
}

// showTargets prints a table.
func (a *app) showTargets(targets []api.TargetStatus) {
	var rows [][]string
	for _, t := range targets {
		health, oldest := mood(t.Health), ""
		if t.Draining {
			health += ", " + mood("draining")
		}
		if t.OldestRevoking != nil {
			oldest = a.distance(*t.OldestRevoking)
		}
		rows = append(rows, []string{clean(t.Name), clean(t.Kind), health, strconv.Itoa(t.Leases.Active), strconv.Itoa(t.Leases.Revoking), oldest, clean(t.Error)})
	}
	if len(rows) > 0 {
		a.printf("\n")
		a.table([]string{"TARGET", "KIND", "HEALTH", "ACTIVE", "REVOKING", "OLDEST", "ERROR"}, rows)
	}
}

// showIssuers prints a table.
func (a *app) showIssuers(issuers []api.IssuerStatus) {
	var rows [][]string
	for _, i := range issuers {
		fetched := "never"
		if i.FetchedAt != nil {
			fetched = a.distance(*i.FetchedAt)
		}
		rows = append(rows, []string{clean(i.Name), mood(i.Health), strconv.Itoa(i.Keys), fetched, clean(i.URL), clean(i.Error)})
	}
	if len(rows) > 0 {
		a.printf("\n")
		a.table([]string{"ISSUER", "HEALTH", "KEYS", "FETCHED", "URL", "ERROR"}, rows)
	}
}
