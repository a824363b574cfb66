// Package workload is what a workload does with leases: run a command with credentials, acquire, renew, release.
//
// A credential goes to standard output in one place, and nowhere else. What runs a command is internal/agent.
package workload

import (
	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/command"
)

// app is what the commands of this room share: the command line they are given on.
type app struct{ *command.Line }

// Commands returns the commands of this room, for a command line.
func Commands(line *command.Line) []*cobra.Command {
	a := &app{line}
	return command.In("workload", a.runCommand(), a.acquireCommand(), a.renewCommand(), a.releaseCommand())
}
