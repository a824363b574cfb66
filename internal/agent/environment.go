package agent

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/secret"
)

// Variable is one variable that hands over a part of a credential.
type Variable struct {
	Name  string
	Value secret.Text
}

// postgresFields maps the variables that PostgreSQL's own library reads to fields of a credential.
var postgresFields = []struct{ variable, field string }{
	{"PGHOST", "host"}, {"PGPORT", "port"}, {"PGUSER", "username"}, {"PGPASSWORD", "password"},
	{"PGDATABASE", "database"}, {"PGSSLMODE", "sslmode"},
}

// postgresOverrides are variables that could lead the tool elsewhere with our credential, or with another one to
// our server. An inherited one is taken out of the command's environment.
var postgresOverrides = []string{
	"PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGREQUIRESSL",
}

// NeedsFile returns the text that a credential wants in a file and how the file's name ends: certificates to trust, or
// a kubeconfig, which is secret. Text is empty where it wants none.
func NeedsFile(c client.Credential) (ending string, text secret.Text) {
	if c.Type == "kubernetes" {
		return ".kubeconfig", c.Secret("kubeconfig")
	}
	if c.Public("sslrootcert") == "" {
		return "", secret.Text{}
	}
	return ".pem", c.Secret("sslrootcert")
}

// Variables returns the variables for a credential, each name with prefix. File is where the text of [NeedsFile]
// was written.
//
// A postgres credential sets PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE, PGSSLROOTCERT (a file)
// and DATABASE_URL. An oidc-token credential sets OIDC_TOKEN, a kubernetes credential KUBECONFIG (a file),
// an aws credential AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL.
func Variables(prefix string, c client.Credential, file string) ([]Variable, error) {
	switch c.Type {
	case "postgres":
	case "aws":
		return awsVariables(prefix, c), nil
	case "oidc-token":
		return []Variable{{prefix + "OIDC_TOKEN", c.Secret("token")}}, nil
	case "gcp":
		token := c.Secret("access_token")
		return []Variable{{prefix + "CLOUDSDK_AUTH_ACCESS_TOKEN", token}, {prefix + "GOOGLE_OAUTH_ACCESS_TOKEN", token}}, nil
	case "azure":
		return []Variable{{prefix + "AZURE_ACCESS_TOKEN", c.Secret("access_token")}}, nil
	case "kubernetes":
		return []Variable{{prefix + "KUBECONFIG", secret.New(file)}}, nil
	default:
		return nil, fmt.Errorf("no variables are known for a credential of type %q", c.Type)
	}
	var all []Variable
	for _, m := range postgresFields {
		if c.Has(m.field) {
			all = append(all, Variable{prefix + m.variable, c.Secret(m.field)})
		}
	}
	if file != "" {
		all = append(all, Variable{prefix + "PGSSLROOTCERT", secret.New(file)})
	}
	if c.Has("url") {
		address, err := withRootCert(c.Secret("url"), file)
		if err != nil {
			return nil, err
		}
		all = append(all, Variable{prefix + "DATABASE_URL", address})
	}
	return all, nil
}

// withRootCert adds the certificate file to a connection URL, since not every driver reads PGSSLROOTCERT beside it.
func withRootCert(address secret.Text, file string) (secret.Text, error) {
	if file == "" {
		return address, nil
	}
	u, err := url.Parse(address.Reveal())
	if err != nil {
		return secret.Text{}, fmt.Errorf("the credential's url is not a URL") // the cause would quote it
	}
	query := u.Query()
	query.Set("sslrootcert", file)
	u.RawQuery = query.Encode()
	return secret.New(u.String()), nil
}

// merge returns base with the variables set, and without those that would lead the tool elsewhere.
func merge(base []string, variables []Variable) []string {
	drop := map[string]bool{}
	for _, v := range variables {
		drop[v.Name] = true
		var overrides []string
		switch v.Name {
		case "PGHOST":
			overrides = postgresOverrides
		case "AWS_ACCESS_KEY_ID":
			overrides = awsOverrides
		default:
			continue
		}
		for _, name := range overrides {
			drop[name] = true
		}
	}
	merged := slices.DeleteFunc(slices.Clone(base), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return drop[name]
	})
	for _, v := range variables {
		merged = append(merged, v.Name+"="+v.Value.Reveal())
	}
	return merged
}

// runtimeDir is a directory of one run that only this user can enter. It is made when the first file needs it.
type runtimeDir struct {
	parent string // XDG_RUNTIME_DIR, which is kept in memory where it exists; empty: the directory for temporary files
	path   string
}

// write puts text in a file that only this user can read, and returns its path.
func (d *runtimeDir) write(name, text string) (string, error) {
	if d.path == "" {
		path, err := os.MkdirTemp(d.parent, "daypass-run-")
		if err != nil {
			return "", fmt.Errorf("make runtime directory: %w", err)
		}
		d.path = path
	}
	path := filepath.Join(d.path, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write runtime file: %w", err)
	}
	return path, nil
}

// remove takes the directory away with everything in it.
func (d *runtimeDir) remove() error {
	if d.path == "" {
		return nil
	}
	return os.RemoveAll(d.path)
}
