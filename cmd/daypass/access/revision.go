package access

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/terminal"
)

func (a *app) revisionsCommand() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "revisions", Short: "show the access configurations that there were", Args: command.Exactly(),
		Example: "daypass access revisions",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			revisions, more, err := command.Collect(client.Revisions(c.Context()), limit)
			if err != nil {
				return err
			}
			defer a.TellMore(more, limit)
			return a.Show(api.Page[api.Revision]{Items: revisions}, func() { a.listRevisions(revisions) })
		},
	}
	command.AddLimit(c, &limit)
	return c
}

// listRevisions prints a table.
func (a *app) listRevisions(revisions []api.Revision) {
	if len(revisions) == 0 {
		a.Printf("no revisions\n")
		return
	}
	var rows [][]string
	for _, r := range revisions {
		state := ""
		if r.Active {
			state = terminal.Mood("active")
		}
		activated := ""
		if r.ActivatedAt != nil {
			activated = a.Distance(*r.ActivatedAt)
		}
		rows = append(rows, []string{terminal.ShortRevision(r.ID), state, a.Distance(r.CreatedAt), terminal.Clean(r.CreatedBy), activated})
	}
	a.Table([]string{"REVISION", "STATE", "CREATED", "BY", "ACTIVATED"}, rows)
}

func (a *app) activateCommand() *cobra.Command {
	var ifMatch string
	c := &cobra.Command{
		Use: "activate REVISION", Short: "go back to an earlier access configuration", Args: command.Exactly("REVISION"),
		Long:    command.Wrap(`A revision can be named by as many of its first characters as tell it from the others.`),
		Example: "daypass access activate 4c1f09ab",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			id, err := findRevision(c.Context(), client, args[0])
			if err != nil {
				return err
			}
			if ifMatch, err = findRevision(c.Context(), client, ifMatch); err != nil {
				return err
			}
			revision, err := client.ActivateAccess(c.Context(), id, ifMatch)
			if err != nil {
				return stale(err, ifMatch)
			}
			return a.Show(revision, func() { a.tellRevision(revision) })
		},
	}
	c.Flags().StringVar(&ifMatch, "if-match", "", "only while this `revision` is active")
	return c
}

// findRevision completes the first characters of a revision.
func findRevision(ctx context.Context, c *client.Client, prefix string) (string, error) {
	if prefix == "" || len(prefix) >= terminal.RevisionLength {
		return prefix, nil
	}
	found := ""
	for r, err := range c.Revisions(ctx) {
		switch {
		case err != nil:
			return "", err
		case !strings.HasPrefix(r.ID, prefix):
		case found != "":
			return "", terminal.Usage(fmt.Sprintf("more than one revision begins with %s", terminal.Quote(prefix)))
		default:
			found = r.ID
		}
	}
	if found == "" {
		return "", terminal.Hinted(terminal.Coded(fmt.Errorf("no revision begins with %s", terminal.Quote(prefix)), terminal.ExitNotFound), "daypass access revisions")
	}
	return found, nil
}

// stale adds what to do when another revision became active meanwhile.
func stale(err error, ifMatch string) error {
	if problem, ok := errors.AsType[*api.Problem](err); ok && problem.Code == "conflict" && ifMatch != "" {
		return terminal.Hinted(err, "somebody else changed it meanwhile; see daypass access revisions")
	}
	return err
}
