// Package kind says what kinds of targets and issuers there are, and makes one of each from its section of an access
// file.
//
// It owns the list of kinds ([All]), how files write them, which files below secrets_dir they refer to, and what their
// constructors are given. It promises that opening one connects to nothing, and that two with the same fingerprint are made
// from the same. Targets and issuers are made nowhere else, so that nothing above depends on one of them; it must not
// import the broker or what runs.
package kind

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/daypass/daypass/identity/kubernetes"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/secretdir"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/aws"
	"github.com/daypass/daypass/target/azure"
	"github.com/daypass/daypass/target/gcp"
	kubetarget "github.com/daypass/daypass/target/kubernetes"
	"github.com/daypass/daypass/target/oidctoken"
	"github.com/daypass/daypass/target/postgres"
)

// Set is the kinds that access files may speak of, by the name of their section.
type Set struct {
	Targets map[string]Target
	Issuers map[string]Issuer
}

// Allowed is what the server's configuration lets access files ask of targets. It matters when one is opened.
type Allowed struct {
	PostgresRoles []string // roles with power that others may be members of
}

// All are the kinds that there are. This is the one place that names them.
func All(allowed Allowed) Set {
	return Set{
		Targets: map[string]Target{
			postgres.Kind:   postgresTargets(allowed.PostgresRoles),
			aws.Kind:        awsTargets(),
			kubetarget.Kind: kubernetesTargets(),
			oidctoken.Kind:  oidcTokens(),
			gcp.Kind:        googleTargets(),
			azure.Kind:      azureTargets(),
		},
		Issuers: map[string]Issuer{
			access.KindOIDC:    oidcIssuers(),
			access.KindDevices: deviceIssuers(),
			kubernetes.Kind:    kubernetesIssuers(),
			"aws":              awsIssuers(),
			"mtls":             mtlsIssuers(),
			"spiffe":           spiffeIssuers(),
		},
	}
}

// With returns the set with more kinds of target, for test kits: each stands for one target, whatever its section says.
func (s Set) With(targets map[string]target.Target) Set {
	all := maps.Clone(s.Targets)
	for name, t := range targets {
		all[name] = fixed(t)
	}
	return Set{Targets: all, Issuers: s.Issuers}
}

// Access returns how access files write the kinds.
func (s Set) Access() access.Kinds {
	out := access.Kinds{Targets: map[string]access.Kind{}, Issuers: map[string]access.IssuerKind{}}
	for name, k := range s.Targets {
		out.Targets[name] = k.Kind
	}
	for name, k := range s.Issuers {
		if name != access.KindOIDC { // which files write without a section of a kind
			out.Issuers[name] = k.IssuerKind
		}
	}
	return out
}

// decode reads a section strictly into a T.
func decode[T any](section access.Section) (any, error) {
	var value T
	err := section.Decode(&value)
	return value, err
}

// read reads a section back from the form in which the configuration keeps it.
func read[S any](text json.RawMessage, what, name string) (section S, err error) {
	if err = json.Unmarshal(text, &section); err != nil {
		err = fmt.Errorf("read the %s %q: %w", what, name, err)
	}
	return section, err
}

// reference is a file below secrets_dir that settings name.
type reference struct {
	name        string
	certificate bool // it must hold certificates and nothing else
}

// read returns the file's bytes.
func (r reference) read(dir secretdir.Dir) ([]byte, error) {
	if r.certificate {
		return dir.Certificates(r.name)
	}
	return dir.Read(r.name)
}

// fingerprint is a hash of the texts and files that something is made from.
func fingerprint(files []reference, dir secretdir.Dir, texts ...any) (string, error) {
	h := sha256.New()
	for _, text := range texts {
		fmt.Fprintf(h, "%q ", text)
	}
	for _, file := range files {
		data, err := file.read(dir)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, " %q %x", file.name, sha256.Sum256(data))
	}
	return string(h.Sum(nil)), nil
}
