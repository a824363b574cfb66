// Package device is the commands for devices: invited and removed by administrators, enrolled and renewed by themselves.
//
// The device's key stays in its state file, which client/device reads and writes.
package device

import (
	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/command"
)

// app is what the commands of this room share: the command line they are given on.
type app struct{ *command.Line }

// Commands returns the commands of this room, for a command line.
func Commands(line *command.Line) []*cobra.Command {
	a := &app{line}
	return command.In("admin", a.deviceCommand())
}
