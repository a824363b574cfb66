// Package trust is the commands for our own issuer: its keys and documents, and who trusts them.
//
// What others have to be told, and whether they can verify our tokens, is worked out in internal/trust.
package trust

import (
	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/command"
)

// app is what the commands of this room share: the command line they are given on.
type app struct{ *command.Line }

// Commands returns the commands of this room, for a command line.
func Commands(line *command.Line) []*cobra.Command {
	a := &app{line}
	return command.In("admin", a.trustCommand(), a.issuerCommand())
}
