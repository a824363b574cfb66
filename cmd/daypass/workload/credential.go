package workload

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/agent"
	"github.com/daypass/daypass/internal/terminal"
)

// handOver prints a lease with its credential: the one place where secrets go to standard output.
func (a *app) handOver(lease *client.Lease, certificate string) error {
	if lease.Clamped {
		a.Tell("the role allows no longer ttl than until %s", a.Stamp(lease.Info().ExpiresAt))
	}
	switch a.Output {
	case "json":
		return a.JSON(wireForm(lease))
	case "env", "dotenv":
		return a.printVariables(lease, certificate)
	case "exec-credential":
		return a.printExecCredential(lease)
	case "aws-credential-process":
		return a.printCredentialProcess(lease)
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
		{terminal.Faint("lease"), info.ID},
		{terminal.Faint("role"), terminal.Clean(info.Role)},
		{terminal.Faint("target"), terminal.Clean(info.Target)},
		{terminal.Faint("expires"), a.Stamp(info.ExpiresAt)},
		{terminal.Faint("renewable until"), a.Stamp(info.RenewableUntil)},
		{terminal.Faint("lease token"), terminal.Clean(lease.Token().Reveal())},
		{terminal.Faint("credential"), terminal.Clean(lease.Credential.Type)},
	}
	for _, name := range lease.Credential.Names() {
		value := lease.Credential.Secret(name).Reveal()
		if value == "" {
			continue
		}
		if strings.Contains(value, "\n") {
			value = fmt.Sprintf("(%d lines; see --output json)", strings.Count(value, "\n"))
		}
		rows = append(rows, []string{terminal.Faint("  " + terminal.Clean(name)), terminal.Clean(value)})
	}
	w := &watched{Writer: a.Out}
	terminal.Columns(w, rows)
	if w.err == nil {
		a.Hint("DAYPASS_LEASE_TOKEN=… daypass release %s ends it", info.ID)
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
	file, err := a.writeFile(lease, certificate)
	if err != nil {
		return err
	}
	variables, err := agent.Variables("", lease.Credential, file)
	if err != nil {
		return terminal.Hinted(err, "--output json prints every credential")
	}
	line := func(name, value string) string { return "export " + name + "=" + shellQuote(value) + "\n" }
	if a.Output == "dotenv" {
		line = func(name, value string) string { return name + "=" + dotenvQuote(value) + "\n" }
	}
	var b strings.Builder
	for _, v := range variables {
		b.WriteString(line(v.Name, v.Value.Reveal()))
	}
	b.WriteString(line("DAYPASS_LEASE", lease.ID()))
	b.WriteString(line("DAYPASS_LEASE_TOKEN", lease.Token().Reveal()))
	_, err = io.WriteString(a.Stdout, b.String())
	return err
}

// writeFile puts what a credential wants in a file where the variables can name it: the target's certificates, which
// are no secret, or a kubeconfig, which is.
func (a *app) writeFile(lease *client.Lease, path string) (string, error) {
	ending, text := agent.NeedsFile(lease.Credential)
	if text.IsZero() {
		return "", nil
	}
	what := "the target's certificates are in"
	if ending != ".pem" {
		what = "the " + strings.TrimPrefix(ending, ".") + " is in"
	}
	if path == "" {
		directory := a.Getenv("XDG_RUNTIME_DIR")
		if directory == "" {
			directory = os.TempDir()
		}
		path = filepath.Join(directory, "daypass-"+lease.ID()+ending)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("write what the credential wants in a file: %w", err)
	}
	_, err = file.WriteString(text.Reveal())
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return "", fmt.Errorf("write what the credential wants in a file: %w", err)
	}
	a.Tell("%s %s", what, path)
	return path, nil
}

// printExecCredential prints for kubectl and its like, which run us as their plugin.
func (a *app) printExecCredential(lease *client.Lease) error {
	if lease.Credential.Type != "kubernetes" {
		return terminal.Hinted(fmt.Errorf("--output exec-credential is for credentials of type kubernetes, not %q", terminal.Clean(lease.Credential.Type)),
			"--output json prints every credential")
	}
	type status struct {
		ExpiresAt string `json:"expirationTimestamp"`
		Token     string `json:"token"`
	}
	return a.JSON(struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Status     status `json:"status"`
	}{"client.authentication.k8s.io/v1", "ExecCredential", status{lease.Info().ExpiresAt.Format(time.RFC3339), lease.Credential.Secret("token").Reveal()}})
}

// printCredentialProcess prints for AWS's CLI and SDKs, whose profile names us as its credential_process. What they are
// told to keep is good as long as the lease, which is not as long as AWS would take it.
func (a *app) printCredentialProcess(lease *client.Lease) error {
	c := lease.Credential
	if c.Type != "aws" {
		return terminal.Hinted(fmt.Errorf("--output aws-credential-process is for credentials of type aws, not %q", terminal.Clean(c.Type)),
			"--output json prints every credential")
	}
	return a.JSON(struct {
		Version         int
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string `json:",omitempty"`
		Expiration      string
	}{1, c.Secret("access_key_id").Reveal(), c.Secret("secret_access_key").Reveal(), c.Secret("session_token").Reveal(), lease.Info().ExpiresAt.Format(time.RFC3339)})
}

// shellQuote quotes for POSIX shells.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// dotenvQuote quotes for files of variables: double quotes, in which these characters are escaped.
func dotenvQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`", "\n", `\n`).Replace(s) + `"`
}
