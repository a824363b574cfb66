// Package command is what the commands of daypass share: the command line they are given on, with the flags of every
// command, how they reach a server, what their arguments are, and how help shows them.
//
// Rooms of commands stand above it and do not know each other. It must not import anything of the server.
package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/client/device"
	"github.com/daypass/daypass/internal/agent"
	"github.com/daypass/daypass/internal/terminal"
)

// DefaultSocket is where a server of this machine listens for its administrators.
const DefaultSocket = "/run/daypass/admin.sock"

// Line is one command line: where it runs, and the flags of every command.
type Line struct {
	*terminal.Terminal

	Server, Socket, TokenFile, CAFile string
	Certs                             agent.Certs
}

// NewLine returns a command line before its flags are read.
func NewLine(t *terminal.Terminal) *Line { return &Line{Terminal: t} }

// Outputs is the annotation that names the forms of output of a command, where they are not "text json".
const Outputs = "outputs"

// checkOutput refuses a form of output that the command does not have.
func (l *Line) checkOutput(c *cobra.Command, _ []string) error {
	forms := []string{"text", "json"}
	if own, ok := c.Annotations[Outputs]; ok {
		forms = strings.Fields(own)
	}
	if !slices.Contains(forms, l.Output) {
		return terminal.UsageOf(c.CommandPath(), "--output is one of "+strings.Join(forms, ", ")+", not "+terminal.Quote(l.Output))
	}
	return nil
}

// ServerURL returns the server's URL as the user gave it, and "".
func (l *Line) ServerURL() string {
	if l.Server != "" {
		return l.Server
	}
	if address := l.Getenv("DAYPASS_URL"); address != "" {
		return address
	}
	return l.device().Server
}

// device is what a device that was enrolled knows of its server; nothing where we are none. What is wrong with its
// file is told when the evidence is asked for.
func (l *Line) device() (s device.State) {
	if path := l.Getenv(agent.DeviceVariable); path != "" {
		s, _ = device.Read(path)
	}
	return s
}

// Workload returns a client that acts as the workload we are.
func (l *Line) Workload() (*client.Client, error) {
	c, _, err := l.Identified()
	return c, err
}

// Identified is workload with the evidence that was found.
func (l *Line) Identified() (*client.Client, agent.Evidence, error) {
	address := l.ServerURL()
	if address == "" {
		return nil, agent.Evidence{}, terminal.Hinted(terminal.Usage("no server is named"), "name it once: export DAYPASS_URL=https://daypass.example.com")
	}
	evidence, err := l.evidence(address)
	if err != nil {
		return nil, evidence, err
	}
	c, err := l.Dial(address, evidence)
	return c, evidence, err
}

// evidence finds what says to a server who we are.
func (l *Line) evidence(server string) (agent.Evidence, error) {
	evidence, err := agent.Find(agent.Where{TokenFile: l.TokenFile, Certs: l.Certs, Server: server, Getenv: l.Getenv})
	if _, none := errors.AsType[*agent.NoEvidenceError](err); err != nil && !none {
		return evidence, terminal.Usage(err.Error())
	}
	return evidence, err
}

// Holder returns a client for calls that carry a lease token, and our evidence only where there is some.
func (l *Line) Holder() (*client.Client, error) {
	address := l.ServerURL()
	if address == "" {
		return nil, terminal.Hinted(terminal.Usage("no server is named"), "name it once: export DAYPASS_URL=https://daypass.example.com")
	}
	evidence, err := l.evidence(address)
	if err != nil {
		evidence = agent.Evidence{}
	}
	return l.Dial(address, evidence)
}

// Admin returns a client that acts as an administrator: over the socket where one was named or is there, and with
// our evidence otherwise.
func (l *Line) Admin() (*client.Client, error) {
	switch {
	case l.Socket != "":
		return l.dialSocket(l.Socket)
	case l.Server != "":
		return l.Workload()
	case l.Getenv("DAYPASS_SOCKET") != "":
		return l.dialSocket(l.Getenv("DAYPASS_SOCKET"))
	case isSocket(DefaultSocket):
		return l.dialSocket(DefaultSocket)
	case l.ServerURL() != "":
		return l.Workload()
	}
	return nil, terminal.Hinted(terminal.Usage("no server is named, and there is no socket at "+DefaultSocket),
		"on the server's machine: --socket PATH or DAYPASS_SOCKET; elsewhere: --server URL or DAYPASS_URL")
}

// isSocket reports whether there is a socket at path.
func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeSocket != 0
}

// dialSocket is dial for a socket, which may be named from where we are.
func (l *Line) dialSocket(path string) (*client.Client, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("administration socket %s: %w", terminal.Quote(path), err)
	}
	return l.Dial("unix://"+full, agent.Evidence{})
}

// Dial returns a client for an address. It calls nobody.
func (l *Line) Dial(address string, evidence agent.Evidence) (*client.Client, error) {
	ca := l.CAFile
	if ca == "" {
		ca = l.Getenv("DAYPASS_CA_FILE")
	}
	if known := l.device(); ca == "" && known.Server == address {
		ca = known.CAFile
	}
	c, err := client.New(client.Options{URL: address, Token: evidence.TokenSource, Certificate: evidence.Certificate, CAFile: ca, UserAgent: "daypass/" + Version()})
	if err != nil {
		return nil, terminal.Usage(err.Error())
	}
	return c, nil
}

// Version is the version that the build recorded.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
