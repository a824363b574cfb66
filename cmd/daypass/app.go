package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/colorprofile"
	"github.com/spf13/cobra"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/client/device"
	"github.com/daypass/daypass/internal/agent"
)

// defaultSocket is where a server of this machine listens for its administrators.
const defaultSocket = "/run/daypass/admin.sock"

// app is what the commands of one command line share.
type app struct {
	env    []string
	stdin  io.Reader
	stdout io.Writer // as given: for data
	stderr io.Writer // as given: for children
	out    io.Writer // stdout for people: colours only where it is a terminal
	err    io.Writer // the same for stderr
	code   int       // exit code of a command line without an error of ours

	server, socket, tokenFile, caFile, output string
	certs                                     agent.Certs
	quiet                                     bool
}

func newApp(env []string, stdin io.Reader, stdout, stderr io.Writer) *app {
	return &app{env: env, stdin: stdin, stdout: stdout, stderr: stderr,
		out: colorprofile.NewWriter(stdout, env), err: colorprofile.NewWriter(stderr, env)}
}

// getenv returns a variable of the environment, the last one where it is given twice.
func (a *app) getenv(name string) string {
	for _, entry := range slices.Backward(a.env) {
		if value, found := strings.CutPrefix(entry, name+"="); found {
			return value
		}
	}
	return ""
}

// outputs is the annotation that names the forms of output of a command, where they are not "text json".
const outputs = "outputs"

// checkOutput refuses a form of output that the command does not have.
func (a *app) checkOutput(c *cobra.Command, _ []string) error {
	forms := []string{"text", "json"}
	if own, ok := c.Annotations[outputs]; ok {
		forms = strings.Fields(own)
	}
	if !slices.Contains(forms, a.output) {
		return usageError{"--output is one of " + strings.Join(forms, ", ") + ", not " + quote(a.output), c.CommandPath()}
	}
	return nil
}

// serverURL returns the server's URL as the user gave it, and "".
func (a *app) serverURL() string {
	if a.server != "" {
		return a.server
	}
	if address := a.getenv("DAYPASS_URL"); address != "" {
		return address
	}
	return a.device().Server
}

// device is what a device that was enrolled knows of its server; nothing where we are none. What is wrong with its
// file is told when the evidence is asked for.
func (a *app) device() (s device.State) {
	if path := a.getenv(agent.DeviceVariable); path != "" {
		s, _ = device.Read(path)
	}
	return s
}

// workload returns a client that acts as the workload we are.
func (a *app) workload() (*client.Client, error) {
	c, _, err := a.identified()
	return c, err
}

// identified is workload with the evidence that was found.
func (a *app) identified() (*client.Client, agent.Evidence, error) {
	address := a.serverURL()
	if address == "" {
		return nil, agent.Evidence{}, hinted(usageError{"no server is named", ""}, "name it once: export DAYPASS_URL=https://daypass.example.com")
	}
	evidence, err := a.evidence(address)
	if err != nil {
		return nil, evidence, err
	}
	c, err := a.dial(address, evidence)
	return c, evidence, err
}

// evidence finds what says to a server who we are.
func (a *app) evidence(server string) (agent.Evidence, error) {
	evidence, err := agent.Find(agent.Where{TokenFile: a.tokenFile, Certs: a.certs, Server: server, Getenv: a.getenv})
	if _, none := errors.AsType[*agent.NoEvidenceError](err); err != nil && !none {
		return evidence, usageError{err.Error(), ""}
	}
	return evidence, err
}

// holder returns a client for calls that carry a lease token, and our evidence only where there is some.
func (a *app) holder() (*client.Client, error) {
	address := a.serverURL()
	if address == "" {
		return nil, hinted(usageError{"no server is named", ""}, "name it once: export DAYPASS_URL=https://daypass.example.com")
	}
	evidence, err := a.evidence(address)
	if err != nil {
		evidence = agent.Evidence{}
	}
	return a.dial(address, evidence)
}

// admin returns a client that acts as an administrator: over the socket where one was named or is there, and with
// our evidence otherwise.
func (a *app) admin() (*client.Client, error) {
	switch {
	case a.socket != "":
		return a.dialSocket(a.socket)
	case a.server != "":
		return a.workload()
	case a.getenv("DAYPASS_SOCKET") != "":
		return a.dialSocket(a.getenv("DAYPASS_SOCKET"))
	case isSocket(defaultSocket):
		return a.dialSocket(defaultSocket)
	case a.serverURL() != "":
		return a.workload()
	}
	return nil, hinted(usageError{"no server is named, and there is no socket at " + defaultSocket, ""},
		"on the server's machine: --socket PATH or DAYPASS_SOCKET; elsewhere: --server URL or DAYPASS_URL")
}

// isSocket reports whether there is a socket at path.
func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeSocket != 0
}

// dialSocket is dial for a socket, which may be named from where we are.
func (a *app) dialSocket(path string) (*client.Client, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("administration socket %s: %w", quote(path), err)
	}
	return a.dial("unix://"+full, agent.Evidence{})
}

// dial returns a client for an address. It calls nobody.
func (a *app) dial(address string, evidence agent.Evidence) (*client.Client, error) {
	ca := a.caFile
	if ca == "" {
		ca = a.getenv("DAYPASS_CA_FILE")
	}
	if known := a.device(); ca == "" && known.Server == address {
		ca = known.CAFile
	}
	c, err := client.New(client.Options{URL: address, Token: evidence.TokenSource, Certificate: evidence.Certificate, CAFile: ca, UserAgent: "daypass/" + version()})
	if err != nil {
		return nil, usageError{err.Error(), ""}
	}
	return c, nil
}

// now is the clock of output.
func (a *app) now() time.Time { return time.Now() }
