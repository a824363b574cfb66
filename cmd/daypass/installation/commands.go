// Package installation is the commands for the server's machine: init, serve, and what is done to store and keys.
//
// They read daypass.yaml. Of the rooms of commands it is the only one that may import internal/server.
package installation

import (
	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/command"
)

// app is what the commands of this room share: the command line they are given on.
type app struct{ *command.Line }

// Commands returns the commands of this room, for a command line.
func Commands(line *command.Line) []*cobra.Command {
	a := &app{line}
	return append(
		command.In("server", a.initCommand(), a.serveCommand(), a.devCommand(), a.storeCommand(), a.alertsCommand()),
		command.In("admin", a.keysCommand())...,
	)
}
