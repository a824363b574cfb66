package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
)

// adminCommands are what administrators use.
func (a *app) adminCommands() []*cobra.Command {
	return in("admin", a.leasesCommand(), a.lockCommand(), a.unlockCommand(), a.locksCommand(), a.explainCommand(),
		a.statusCommand(), a.targetCommand(), a.trustCommand(), a.accessCommand(), a.checkCommand("check"), a.applyCommand("apply"),
		a.schemaCommand(), a.ledgerCommand(), a.keysCommand(), a.issuerCommand(), a.deviceCommand(), a.postureCommand())
}

// collect takes at most limit items of a list (0: all) and tells whether there are more.
func collect[T any](list iter.Seq2[T, error], limit int) (items []T, more bool, err error) {
	items = []T{}
	for item, err := range list {
		if err != nil {
			return items, false, err
		}
		if limit > 0 && len(items) == limit {
			return items, true, nil
		}
		items = append(items, item)
	}
	return items, false, nil
}

// addLimit adds the flag of lists.
func addLimit(c *cobra.Command, limit *int) {
	c.Flags().IntVarP(limit, "limit", "n", 100, "how many at most; 0: all")
}

// tellMore tells that a list goes on.
func (a *app) tellMore(more bool, limit int) {
	if more {
		a.hint("these are the first %d; --limit 0 shows all", limit)
	}
}

func (a *app) leasesCommand() *cobra.Command {
	var filter client.Filter
	var limit int
	c := &cobra.Command{
		Use:   "leases [LEASE]",
		Short: "show who holds what",
		Long: wrap(`Lists leases, newest first, or shows one in full. A credential's name at its target ends in the lease's
			ID.`),
		Example: `daypass leases --role orders-readonly --state active
daypass leases mzxw6ytboi2hk3dpo5zq`,
		Args: atMost("LEASE"),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.admin()
			if err != nil {
				return err
			}
			if len(args) > 0 {
				lease, err := client.Lease(c.Context(), args[0])
				if err != nil {
					return err
				}
				return a.show(lease, func() { a.showLease(lease) })
			}
			leases, more, err := collect(client.Leases(c.Context(), filter), limit)
			if err != nil {
				return err
			}
			defer a.tellMore(more, limit)
			return a.show(api.Page[api.Lease]{Items: leases}, func() { a.listLeases(leases) })
		},
	}
	c.Flags().StringVar(&filter.Principal, "principal", "", "only of this `principal`: issuer, colon, subject")
	c.Flags().StringVar(&filter.Role, "role", "", "only of this `role`")
	c.Flags().StringVar(&filter.Target, "target", "", "only at this `target`")
	c.Flags().StringVar(&filter.State, "state", "", "only in this `state`: pending, active, revoking, revoked")
	addLimit(c, &limit)
	words(c, "state", "pending", "active", "revoking", "revoked")
	return c
}

// listLeases prints a table.
func (a *app) listLeases(leases []api.Lease) {
	if len(leases) == 0 {
		a.printf("no leases\n")
		return
	}
	var rows [][]string
	for _, l := range leases {
		state := mood(l.State)
		if l.Reason != "" {
			state += " " + faint("("+clean(l.Reason)+")")
		}
		expires := ""
		if l.State != "revoked" {
			expires = a.distance(l.ExpiresAt)
		}
		rows = append(rows, []string{l.ID, state, clean(l.Role), clean(l.Target), expires, clean(l.Principal)})
	}
	a.table([]string{"LEASE", "STATE", "ROLE", "TARGET", "EXPIRES", "PRINCIPAL"}, rows)
}

// showLease prints one in full.
func (a *app) showLease(l api.Lease) {
	a.facts(fact{"lease", l.ID}, fact{"state", mood(l.State)}, fact{"reason", clean(l.Reason)}, fact{"role", clean(l.Role)},
		fact{"target", clean(l.Target)}, fact{"principal", clean(l.Principal)}, fact{"acting", clean(strings.Join(l.Actors, ", "))}, fact{"run", clean(l.RunID)},
		fact{"created", a.stamp(l.CreatedAt)}, fact{"expires", a.stamp(l.ExpiresAt)},
		fact{"renewable until", a.stamp(l.RenewableUntil)}, fact{"revoked", a.stampOf(l.RevokedAt)},
		fact{"revocation", l.Revocation}, fact{"decision", l.DecisionID})
}

func (a *app) lockCommand() *cobra.Command {
	var r api.LockRequest
	period := &duration{}
	c := &cobra.Command{
		Use:   "lock",
		Short: "end matching leases now and refuse new ones",
		Long: wrap(`The kill switch. A lease matches when it fits every given part. With --dry-run it only counts. The lock
			stays until it is lifted with daypass unlock or its time is over; what it ended stays ended.`),
		Example: `daypass lock --role orders-readonly --reason "incident 7" --dry-run
daypass lock --principal "github:repo:acme/orders:ref:refs/heads/main" --reason "runner compromised"
daypass lock --issuer github --for 2h --reason "key leaked at the issuer"`,
		Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if r.Match.IsEmpty() {
				return usageError{"say what to lock: --principal, --issuer, --role, --target or --lease", c.CommandPath()}
			}
			if r.Reason == "" {
				return usageError{"say why with --reason: it is on the record", c.CommandPath()}
			}
			if period.value != nil {
				until := api.At(a.now().Add(time.Duration(*period.value)))
				r.ExpiresAt = &until
			}
			client, err := a.admin()
			if err != nil {
				return err
			}
			lock, err := client.Lock(c.Context(), r)
			if err != nil {
				return err
			}
			return a.show(lock, func() { a.tellLock(lock) })
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
		a.printf("it would end %s\n", count(l.Hits, "lease"))
		if l.Hits == 0 {
			a.hint("no lease that lives fits it; if one should, see how it is written: daypass leases")
		}
		a.hint("the same without --dry-run does it")
		return
	}
	a.printf("lock %s ends %s\n", l.ID, count(l.Hits, "lease"))
	if l.Hits == 0 {
		a.hint("no lease that lives fits it; if one should, see how it is written: daypass leases")
	} else {
		a.hint("see them die: daypass leases --state revoking")
	}
	a.hint("lift it: daypass unlock %s", l.ID)
}

// count is a number of things.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

func (a *app) unlockCommand() *cobra.Command {
	return &cobra.Command{
		Use: "unlock LOCK", Short: "lift a lock", Args: exactly("LOCK"),
		Long:    wrap(`New leases are possible again. What the lock ended stays ended.`),
		Example: "daypass unlock 4kq2v7",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.admin()
			if err != nil {
				return err
			}
			lock, err := client.Unlock(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(lock, func() { a.printf("lock %s is lifted\n", clean(args[0])) })
		},
	}
}

func (a *app) locksCommand() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "locks", Short: "show the locks", Args: exactly(),
		Example: "daypass locks\ndaypass locks --output json",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.admin()
			if err != nil {
				return err
			}
			locks, more, err := collect(client.Locks(c.Context()), limit)
			if err != nil {
				return err
			}
			defer a.tellMore(more, limit)
			return a.show(api.Page[api.Lock]{Items: locks}, func() { a.listLocks(locks) })
		},
	}
	addLimit(c, &limit)
	return c
}

// listLocks prints a table.
func (a *app) listLocks(locks []api.Lock) {
	if len(locks) == 0 {
		a.printf("no locks\n")
		return
	}
	var rows [][]string
	for _, l := range locks {
		state := yellow("in force")
		switch {
		case l.LiftedAt != nil:
			state = "lifted " + a.distance(*l.LiftedAt)
		case l.ExpiresAt != nil && l.ExpiresAt.Before(a.now()):
			state = "expired " + a.distance(*l.ExpiresAt)
		case l.ExpiresAt != nil:
			state += ", ends " + a.distance(*l.ExpiresAt)
		}
		rows = append(rows, []string{l.ID, state, matchText(l.Match), strconv.Itoa(l.Hits), a.distance(l.CreatedAt), clean(l.CreatedBy), clean(l.Reason)})
	}
	a.table([]string{"LOCK", "STATE", "MATCHES", "ENDED", "PLACED", "BY", "REASON"}, rows)
}

// matchText tells what a lock matches.
func matchText(m api.Match) string {
	var parts []string
	for _, p := range []fact{{"principal", m.Principal}, {"issuer", m.Issuer}, {"role", m.Role}, {"target", m.Target}, {"lease", m.Lease}} {
		if p.value != "" {
			parts = append(parts, p.name+"="+clean(p.value))
		}
	}
	return strings.Join(parts, " ")
}

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "explain DECISION", Short: "tell why a decision fell as it did", Args: exactly("DECISION"),
		Long: wrap(`Shows the policies that took part and everything they saw. A denied workload is told the decision's ID
			and nothing else.`),
		Example: "daypass explain 7q2mzk5vbn",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.admin()
			if err != nil {
				return err
			}
			decision, err := client.Explain(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(decision, func() { a.showDecision(decision) })
		},
	}
}

// showDecision prints one in full.
func (a *app) showDecision(d api.Decision) {
	times := ""
	if d.Count > 1 {
		times = fmt.Sprintf("stands for %d equal ones", d.Count)
	}
	a.facts(fact{"decision", d.ID}, fact{"outcome", mood(d.Outcome)}, fact{"count", times}, fact{"at", a.stamp(d.At)},
		fact{"principal", clean(d.Principal)}, fact{"acting", clean(strings.Join(d.Actors, ", "))}, fact{"action", clean(d.Action)}, fact{"resource", clean(d.Resource)},
		fact{"lease", d.Lease}, fact{"revision", clean(d.Revision)})
	if len(d.Reasons) > 0 {
		var rows [][]string
		for _, r := range d.Reasons {
			rows = append(rows, []string{clean(r.Effect), clean(r.Policy), clean(r.Message)})
		}
		a.printf("\n")
		a.table([]string{"EFFECT", "POLICY", "WHY"}, rows)
	}
	var input bytes.Buffer
	if json.Indent(&input, d.Input, "", "  ") == nil && input.Len() > 0 {
		a.printf("\n%s\n%s\n", bold("INPUT"), cleanLines(input.String()))
	}
}

func (a *app) targetCommand() *cobra.Command {
	c := &cobra.Command{Use: "target", Short: "look after targets", RunE: a.group, Args: cobra.ArbitraryArgs}
	c.AddCommand(&cobra.Command{
		Use: "check NAME", Short: "try what the administrator's credential at a target may do", Args: exactly("NAME"),
		Long: wrap(`Tells what will not work, what is more than needed, and what to type at the target to mend it. Exits with 1
			when something will not work.`),
		Example: "daypass target check orders-db",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.admin()
			if err != nil {
				return err
			}
			check, err := client.CheckTarget(c.Context(), args[0])
			if problem, ok := errors.AsType[*api.Problem](err); ok && problem.Code == "not_found" {
				return hinted(err, "see which there are, and why one is not in service: daypass status")
			}
			if err != nil {
				return err
			}
			return a.reportCheck(check)
		},
	})
	return c
}

// reportCheck prints what a check of a target found.
func (a *app) reportCheck(check api.TargetCheck) error {
	problems := 0
	for _, f := range check.Findings {
		if f.Severity == "problem" {
			problems++
		}
	}
	err := a.show(check, func() {
		for _, f := range check.Findings {
			a.printf("%s: %s\n", mood(f.Severity), clean(f.Message))
			if f.Fix != "" {
				a.printf("  %s %s\n", faint("fix:"), cleanLines(f.Fix))
			}
		}
		if problems == 0 {
			a.printf("target %s is %s\n", clean(check.Target), mood("ok"))
		}
	})
	if err == nil && problems > 0 {
		return fmt.Errorf("target %q has %s", check.Target, count(problems, "problem"))
	}
	return err
}
