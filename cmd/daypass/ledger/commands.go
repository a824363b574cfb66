// Package ledger is the commands for the ledger: follow it, export it, and verify an export offline.
//
// To verify asks no server and trusts no key but those that were named; the proofs are the public package ledger's.
package ledger

import (
	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/command"
)

// app is what the commands of this room share: the command line they are given on.
type app struct{ *command.Line }

// Commands returns the commands of this room, for a command line.
func Commands(line *command.Line) []*cobra.Command {
	a := &app{line}
	return command.In("admin", a.ledgerCommand())
}
