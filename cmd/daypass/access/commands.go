// Package access is the commands for access files: check, apply, show and go back.
//
// Files are checked by internal/inspection without a server, or by the server that was named; what is found looks the same.
package access

import (
	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/command"
)

// app is what the commands of this room share: the command line they are given on.
type app struct{ *command.Line }

// Commands returns the commands of this room, for a command line.
func Commands(line *command.Line) []*cobra.Command {
	a := &app{line}
	return command.In("admin", a.accessCommand(), a.checkCommand("check"), a.applyCommand("apply"), a.schemaCommand())
}
