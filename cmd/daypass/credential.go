package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/agent"
)

// handOver prints a lease with its credential: the one place where secrets go to standard output.
func (a *app) handOver(lease *client.Lease, certificate string) error {
	if lease.Clamped {
		a.tell("the role allows no longer ttl than until %s", lease.Info().ExpiresAt)
	}
	switch a.output {
	case "json":
		return a.json(wireForm(lease))
	case "env", "dotenv":
		return a.printVariables(lease, certificate)
	}
	return a.printCredential(lease)
}

// wireForm is the lease as the API gave it.
func wireForm(lease *client.Lease) api.Acquired {
	fields := map[string]any{}
	for _, name := range lease.Credential.Names() {
		fields[name] = lease.Credential.Value(name)
	}
	return api.Acquired{
		Lease:      lease.Info(),
		LeaseToken: lease.Token().Reveal(),
		Credential: api.Credential{Type: lease.Credential.Type, Fields: fields},
		Receipt:    lease.Receipt,
		Clamped:    lease.Clamped,
	}
}

// printCredential prints for people.
func (a *app) printCredential(lease *client.Lease) error {
	info := lease.Info()
	rows := [][]string{
		{faint("lease"), info.ID},
		{faint("role"), clean(info.Role)},
		{faint("target"), clean(info.Target)},
		{faint("expires"), a.stamp(info.ExpiresAt)},
		{faint("renewable until"), a.stamp(info.RenewableUntil)},
		{faint("lease token"), clean(lease.Token().Reveal())},
		{faint("credential"), clean(lease.Credential.Type)},
	}
	for _, name := range lease.Credential.Names() {
		value := lease.Credential.Secret(name).Reveal()
		if strings.Contains(value, "\n") {
			value = fmt.Sprintf("(%d lines; see --output json)", strings.Count(value, "\n"))
		}
		rows = append(rows, []string{faint("  " + clean(name)), clean(value)})
	}
	w := &watched{Writer: a.out}
	columns(w, rows)
	if w.err == nil {
		a.hint("DAYPASS_LEASE_TOKEN=… daypass release %s ends it", info.ID)
	}
	return w.err
}

// watched remembers the first failure to write: a credential that nobody got must not live.
type watched struct {
	io.Writer
	err error
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if w.err == nil {
		w.err = err
	}
	return n, err
}

// printVariables prints for shells and for files of variables.
func (a *app) printVariables(lease *client.Lease, certificate string) error {
	file, err := a.writeCertificate(lease, certificate)
	if err != nil {
		return err
	}
	variables, err := agent.Variables("", lease.Credential, file)
	if err != nil {
		return hinted(err, "--output json prints every credential")
	}
	line := func(name, value string) string { return "export " + name + "=" + shellQuote(value) + "\n" }
	if a.output == "dotenv" {
		line = func(name, value string) string { return name + "=" + dotenvQuote(value) + "\n" }
	}
	var b strings.Builder
	for _, v := range variables {
		b.WriteString(line(v.Name, v.Value.Reveal()))
	}
	b.WriteString(line("DAYPASS_LEASE", lease.ID()))
	b.WriteString(line("DAYPASS_LEASE_TOKEN", lease.Token().Reveal()))
	_, err = io.WriteString(a.stdout, b.String())
	return err
}

// writeCertificate puts the target's certificates, which are no secret, where the variables can name them.
func (a *app) writeCertificate(lease *client.Lease, path string) (string, error) {
	text := agent.NeedsFile(lease.Credential)
	if text == "" {
		return "", nil
	}
	if path == "" {
		directory := a.getenv("XDG_RUNTIME_DIR")
		if directory == "" {
			directory = os.TempDir()
		}
		path = filepath.Join(directory, "daypass-"+lease.ID()+".pem")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("write the target's certificates: %w", err)
	}
	_, err = file.WriteString(text)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return "", fmt.Errorf("write the target's certificates: %w", err)
	}
	a.tell("the target's certificates are in %s", path)
	return path, nil
}

// shellQuote quotes for POSIX shells.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// dotenvQuote quotes for files of variables: double quotes, in which these characters are escaped.
func dotenvQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`", "\n", `\n`).Replace(s) + `"`
}
