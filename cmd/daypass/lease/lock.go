package lease

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/terminal"
)

func (a *app) lockCommand() *cobra.Command {
	var r api.LockRequest
	period := &command.Duration{}
	c := &cobra.Command{
		Use:   "lock",
		Short: "end matching leases now and refuse new ones",
		Long: command.Wrap(`The kill switch. A lease matches when it fits every given part. With --dry-run it only counts. The lock
			stays until it is lifted with daypass unlock or its time is over; what it ended stays ended.`),
		Example: `daypass lock --role orders-readonly --reason "incident 7" --dry-run
daypass lock --principal "github:repo:acme/orders:ref:refs/heads/main" --reason "runner compromised"
daypass lock --issuer github --for 2h --reason "key leaked at the issuer"`,
		Args: command.Exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if r.Match.IsEmpty() {
				return terminal.UsageOf(c.CommandPath(), "say what to lock: --principal, --issuer, --role, --target or --lease")
			}
			if r.Reason == "" {
				return terminal.UsageOf(c.CommandPath(), "say why with --reason: it is on the record")
			}
			if period.Value != nil {
				until := api.At(a.Now().Add(time.Duration(*period.Value)))
				r.ExpiresAt = &until
			}
			client, err := a.Admin()
			if err != nil {
				return err
			}
			lock, err := client.Lock(c.Context(), r)
			if err != nil {
				return err
			}
			return a.Show(lock, func() { a.tellLock(lock) })
		},
	}
	c.Flags().StringVar(&r.Match.Principal, "principal", "", "this `principal`: issuer, colon, subject")
	c.Flags().StringVar(&r.Match.Issuer, "issuer", "", "every principal of this `issuer`")
	c.Flags().StringVar(&r.Match.Role, "role", "", "this `role`")
	c.Flags().StringVar(&r.Match.Target, "target", "", "every role at this `target`")
	c.Flags().StringVar(&r.Match.Lease, "lease", "", "this `lease`")
	c.Flags().StringVar(&r.Reason, "reason", "", "`why`; it is on the record")
	c.Flags().Var(period, "for", "how long, such as 2h; until it is lifted unless given")
	c.Flags().BoolVar(&r.DryRun, "dry-run", false, "count what it would end, and change nothing")
	return c
}

// tellLock prints what a lock did.
func (a *app) tellLock(l api.Lock) {
	if l.DryRun {
		a.Printf("it would end %s\n", terminal.Count(l.Hits, "lease"))
		if l.Hits == 0 {
			a.Hint("no lease that lives fits it; if one should, see how it is written: daypass leases")
		}
		a.Hint("the same without --dry-run does it")
		return
	}
	a.Printf("lock %s ends %s\n", l.ID, terminal.Count(l.Hits, "lease"))
	if l.Hits == 0 {
		a.Hint("no lease that lives fits it; if one should, see how it is written: daypass leases")
	} else {
		a.Hint("see them die: daypass leases --state revoking")
	}
	a.Hint("lift it: daypass unlock %s", l.ID)
}

func (a *app) unlockCommand() *cobra.Command {
	return &cobra.Command{
		Use: "unlock LOCK", Short: "lift a lock", Args: command.Exactly("LOCK"),
		Long:    command.Wrap(`New leases are possible again. What the lock ended stays ended.`),
		Example: "daypass unlock 4kq2v7",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			lock, err := client.Unlock(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.Show(lock, func() { a.Printf("lock %s is lifted\n", terminal.Clean(args[0])) })
		},
	}
}

func (a *app) locksCommand() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "locks", Short: "show the locks", Args: command.Exactly(),
		Example: "daypass locks\ndaypass locks --output json",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			locks, more, err := command.Collect(client.Locks(c.Context()), limit)
			if err != nil {
				return err
			}
			defer a.TellMore(more, limit)
			return a.Show(api.Page[api.Lock]{Items: locks}, func() { a.listLocks(locks) })
		},
	}
	command.AddLimit(c, &limit)
	return c
}

// listLocks prints a table.
func (a *app) listLocks(locks []api.Lock) {
	if len(locks) == 0 {
		a.Printf("no locks\n")
		return
	}
	var rows [][]string
	for _, l := range locks {
		state := terminal.Yellow("in force")
		switch {
		case l.LiftedAt != nil:
			state = "lifted " + a.Distance(*l.LiftedAt)
		case l.ExpiresAt != nil && l.ExpiresAt.Before(a.Now()):
			state = "expired " + a.Distance(*l.ExpiresAt)
		case l.ExpiresAt != nil:
			state += ", ends " + a.Distance(*l.ExpiresAt)
		}
		rows = append(rows, []string{l.ID, state, matchText(l.Match), strconv.Itoa(l.Hits), a.Distance(l.CreatedAt), terminal.Clean(l.CreatedBy),
			terminal.Clean(l.Reason)})
	}
	a.Table([]string{"LOCK", "STATE", "MATCHES", "ENDED", "PLACED", "BY", "REASON"}, rows)
}

// matchText tells what a lock matches.
func matchText(m api.Match) string {
	var parts []string
	for _, p := range []terminal.Fact{{"principal", m.Principal}, {"issuer", m.Issuer}, {"role", m.Role}, {"target", m.Target}, {"lease", m.Lease}} {
		if p[1] != "" {
			parts = append(parts, p[0]+"="+terminal.Clean(p[1]))
		}
	}
	return strings.Join(parts, " ")
}
