package access

import (
	"github.com/spf13/cobra"
)

func (a *app) accessCommand() *cobra.Command {
	c := &cobra.Command{Use: "access", Short: "look after the access configuration", RunE: a.Group, Args: cobra.ArbitraryArgs}
	c.AddCommand(a.checkCommand("check"), a.applyCommand("apply"), a.revisionsCommand(), a.activateCommand())
	return c
}
