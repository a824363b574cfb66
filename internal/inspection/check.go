// Package inspection finds out what can be known of access files and of an issuer without the server that they are for.
//
// It owns what `daypass access check` and `lint` say (check.go), and what another side has to know and sees of our issuer
// (outside.go). It promises to ask nobody but the URL that it is told to look at, and to open no file that access files
// refer to. It needs no server that runs, and must not import one.
package inspection

import (
	"fmt"
	"slices"
	"strings"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/kind"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/trust"
)

// Checked is what access files say that have no mistakes.
type Checked struct {
	Revision string          // the content hash that they would have
	Schema   string          // the Cedar schema that their policies were checked against
	Findings []trust.Finding // what is wider in them than it need be
}

// Server is what counts of the configuration of the server that access files are for. Nothing of it is needed.
type Server struct {
	TimeZones          []string // names of the time zones that policies may ask for
	RequiresConditions bool     // a policy that permits acquire under no condition is a mistake
}

// Check returns every mistake in access files that shows without the server they are for, as
// [source.Errors]: files that they refer to are not looked for, and nobody is called.
func Check(files map[string]string, of Server) (Checked, error) {
	locations, err := config.Zones(of.TimeZones)
	if err != nil {
		return Checked{}, err
	}
	// What the server's configuration allows matters when a target is opened, and none is.
	cfg, err := access.Parse(files, kind.All(kind.Allowed{}).Access())
	if err != nil {
		return Checked{}, err
	}
	engine, err := policy.Compile(cfg, locations)
	if err == nil && of.RequiresConditions {
		err = engine.RequireConditions()
	}
	if err != nil {
		return Checked{}, err
	}
	found, err := trust.Lint(cfg, files)
	return Checked{Revision: cfg.Hash, Schema: engine.Schema(), Findings: found}, err
}

// SchemaOf is the schema of issuers of a preset, or of a kind that has one vocabulary. The error names those that there are.
func SchemaOf(preset string) (string, error) {
	var names []string
	for _, p := range access.Presets() {
		if p.Name == preset {
			return policy.SchemaOf(p)
		}
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return "", fmt.Errorf("there is no preset %.40q: it is one of %s", preset, strings.Join(names, ", "))
}

// Lint is Check for who wants the findings alone, whatever the server.
func Lint(files map[string]string) ([]trust.Finding, error) {
	cfg, err := access.Parse(files, kind.All(kind.Allowed{}).Access())
	if err != nil {
		return nil, err
	}
	return trust.Lint(cfg, files)
}
