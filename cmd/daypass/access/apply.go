package access

import (
	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/terminal"
)

func (a *app) applyCommand(name string) *cobra.Command {
	var ifMatch string
	c := &cobra.Command{
		Use:   name + " DIR",
		Short: "make a directory of access files the active configuration",
		Long: command.Wrap(`Takes the files *.yaml and *.cedar below DIR. They are checked first, and take effect together or not at
			all. With --if-match they do only while that revision is the active one, so that nobody's change is lost.`),
		Example: `daypass apply ./access
daypass apply ./access --if-match 4c1f09ab`,
		Args: command.Exactly("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			files, err := command.ReadAccess(args[0])
			if err != nil {
				return err
			}
			client, err := a.Admin()
			if err != nil {
				return err
			}
			check, err := client.CheckAccess(c.Context(), files)
			if err != nil {
				return err
			}
			if len(check.Errors) > 0 {
				return a.reportMistakes(args[0], check)
			}
			if ifMatch, err = findRevision(c.Context(), client, ifMatch); err != nil {
				return err
			}
			revision, err := client.ApplyAccess(c.Context(), files, ifMatch)
			if err != nil {
				return stale(err, ifMatch)
			}
			a.tellFindings(args[0], revision.Findings)
			return a.Show(revision, func() { a.tellRevision(revision) })
		},
	}
	c.Flags().StringVar(&ifMatch, "if-match", "", "only while this `revision` is active")
	return c
}

// tellRevision prints what is active now.
func (a *app) tellRevision(r api.Revision) {
	a.Printf("revision %s is active\n", terminal.ShortRevision(r.ID))
	for _, note := range r.Notes {
		a.Tell("%s", note)
	}
}
