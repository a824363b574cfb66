package lease

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/terminal"
)

func (a *app) leasesCommand() *cobra.Command {
	var filter client.Filter
	var limit int
	c := &cobra.Command{
		Use:   "leases [LEASE]",
		Short: "show who holds what",
		Long: command.Wrap(`Lists leases, newest first, or shows one in full. A credential's name at its target ends in the lease's
			ID.`),
		Example: `daypass leases --role orders-readonly --state active
daypass leases mzxw6ytboi2hk3dpo5zq`,
		Args: command.AtMost("LEASE"),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			if len(args) > 0 {
				lease, err := client.Lease(c.Context(), args[0])
				if err != nil {
					return err
				}
				return a.Show(lease, func() { a.showLease(lease) })
			}
			leases, more, err := command.Collect(client.Leases(c.Context(), filter), limit)
			if err != nil {
				return err
			}
			defer a.TellMore(more, limit)
			return a.Show(api.Page[api.Lease]{Items: leases}, func() { a.listLeases(leases) })
		},
	}
	c.Flags().StringVar(&filter.Principal, "principal", "", "only of this `principal`: issuer, colon, subject")
	c.Flags().StringVar(&filter.Role, "role", "", "only of this `role`")
	c.Flags().StringVar(&filter.Target, "target", "", "only at this `target`")
	c.Flags().StringVar(&filter.State, "state", "", "only in this `state`: pending, active, revoking, revoked")
	command.AddLimit(c, &limit)
	command.Words(c, "state", "pending", "active", "revoking", "revoked")
	return c
}

// listLeases prints a table.
func (a *app) listLeases(leases []api.Lease) {
	if len(leases) == 0 {
		a.Printf("no leases\n")
		return
	}
	var rows [][]string
	for _, l := range leases {
		state := terminal.Mood(l.State)
		if l.Reason != "" {
			state += " " + terminal.Faint("("+terminal.Clean(l.Reason)+")")
		}
		expires := ""
		if l.State != "revoked" {
			expires = a.Distance(l.ExpiresAt)
		}
		rows = append(rows, []string{l.ID, state, terminal.Clean(l.Role), terminal.Clean(l.Target), expires, terminal.Clean(l.Principal)})
	}
	a.Table([]string{"LEASE", "STATE", "ROLE", "TARGET", "EXPIRES", "PRINCIPAL"}, rows)
}

// showLease prints one in full.
func (a *app) showLease(l api.Lease) {
	a.Facts([]terminal.Fact{{"lease", l.ID}, {"state", terminal.Mood(l.State)}, {"reason", terminal.Clean(l.Reason)}, {"role", terminal.Clean(l.Role)},
		{"target", terminal.Clean(l.Target)}, {"principal", terminal.Clean(l.Principal)}, {"acting", terminal.Clean(strings.Join(l.Actors, ", "))}, {"run",
			terminal.Clean(l.RunID)},
		{"created", a.Stamp(l.CreatedAt)}, {"expires", a.Stamp(l.ExpiresAt)},
		{"renewable until", a.Stamp(l.RenewableUntil)}, {"revoked", a.StampOf(l.RevokedAt)},
		{"revocation", l.Revocation}, {"decision", l.DecisionID}})
}
