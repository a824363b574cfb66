// Package posture is the commands for posture: reported by monitors, looked at and forgotten by administrators.
//
// Fields are sent as they were given: what they must be is said by the active access files, which the server has.
package posture

import (
	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/command"
)

// app is what the commands of this room share: the command line they are given on.
type app struct{ *command.Line }

// Commands returns the commands of this room, for a command line.
func Commands(line *command.Line) []*cobra.Command {
	a := &app{line}
	return command.In("admin", a.postureCommand())
}
