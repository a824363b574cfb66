// Package status is how the server, its targets and its issuers are doing, and what to type where something is ill.
//
// The hints are made here, from what the server says of itself: the server does not know how it is administered.
package status

import (
	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/command"
)

// app is what the commands of this room share: the command line they are given on.
type app struct{ *command.Line }

// Commands returns the commands of this room, for a command line.
func Commands(line *command.Line) []*cobra.Command {
	a := &app{line}
	return command.In("admin", a.statusCommand(), a.targetCommand())
}
