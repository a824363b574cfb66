// Command daypass is the workload access broker, its agent and its administration in one binary.
//
// This package is the list of its commands. Each group of them is a room below, named after what it is about; command is
// what they share. Rooms hold flags, texts and output and nothing else: what a command does lives in client,
// internal/agent, ledger, internal/installation, internal/inspection and internal/server.
package main

import (
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/access"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/cmd/daypass/device"
	"github.com/daypass/daypass/cmd/daypass/installation"
	"github.com/daypass/daypass/cmd/daypass/lease"
	"github.com/daypass/daypass/cmd/daypass/ledger"
	"github.com/daypass/daypass/cmd/daypass/posture"
	"github.com/daypass/daypass/cmd/daypass/status"
	"github.com/daypass/daypass/cmd/daypass/trust"
	"github.com/daypass/daypass/cmd/daypass/workload"
	"github.com/daypass/daypass/internal/terminal"
)

func main() {
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command line and returns its exit code.
func run(args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	line := command.NewLine(terminal.New(env, stdin, stdout, stderr, time.Now))
	return line.Run(args, commands(line))
}

// commands are all that daypass can do.
func commands(line *command.Line) []*cobra.Command {
	return slices.Concat(
		workload.Commands(line),
		lease.Commands(line),
		access.Commands(line),
		device.Commands(line),
		posture.Commands(line),
		trust.Commands(line),
		ledger.Commands(line),
		status.Commands(line),
		installation.Commands(line),
		about(line),
	)
}
