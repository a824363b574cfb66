package status

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/terminal"
)

func (a *app) targetCommand() *cobra.Command {
	c := &cobra.Command{Use: "target", Short: "look after targets", RunE: a.Group, Args: cobra.ArbitraryArgs}
	c.AddCommand(&cobra.Command{
		Use: "check NAME", Short: "try what the administrator's credential at a target may do", Args: command.Exactly("NAME"),
		Long: command.Wrap(`Tells what will not work, what is more than needed, and what to type at the target to mend it. Exits with 1
			when something will not work.`),
		Example: "daypass target check orders-db",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			check, err := client.CheckTarget(c.Context(), args[0])
			if problem, ok := errors.AsType[*api.Problem](err); ok && problem.Code == "not_found" {
				return terminal.Hinted(err, "see which there are, and why one is not in service: daypass status")
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
	err := a.Show(check, func() {
		for _, f := range check.Findings {
			a.Printf("%s: %s\n", terminal.Mood(f.Severity), terminal.Clean(f.Message))
			if f.Fix != "" {
				a.Printf("  %s %s\n", terminal.Faint("fix:"), terminal.CleanLines(f.Fix))
			}
		}
		if problems == 0 {
			a.Printf("target %s is %s\n", terminal.Clean(check.Target), terminal.Mood("ok"))
		}
	})
	if err == nil && problems > 0 {
		return fmt.Errorf("target %q has %s", check.Target, terminal.Count(problems, "problem"))
	}
	return err
}
