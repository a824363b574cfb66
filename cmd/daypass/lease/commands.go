// Package lease is what administrators see of leases and do about them: leases, locks, and the decisions behind them.
//
// It asks the server for everything and decides nothing.
package lease

import (
	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/command"
)

// app is what the commands of this room share: the command line they are given on.
type app struct{ *command.Line }

// Commands returns the commands of this room, for a command line.
func Commands(line *command.Line) []*cobra.Command {
	a := &app{line}
	return command.In("admin", a.leasesCommand(), a.lockCommand(), a.unlockCommand(), a.locksCommand(), a.explainCommand())
}
