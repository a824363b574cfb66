// Package inspection finds out what can be known of access files without the server that they are for.
//
// It owns what `daypass access check` and `lint` say. It promises to ask nobody, and to open no file that access files
// refer to. It needs no server that runs, and must not import one.
package inspection

import (
	"strings"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/kind"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/trust"
)

// Checked is what access files say that have no mistakes.
type Checked struct {
	Revision string // the content hash that they would have
	Schema   string // the Cedar schema that their policies were checked against
}

// Check returns every mistake in access files that shows without the server they are for, as
// [source.Errors]: files that they refer to are not looked for, and nobody is called. Zones are the names of the
// time zones that policies may ask for.
func Check(files map[string]string, timeZones []string) (Checked, error) {
	locations, err := config.Zones(timeZones)
	if err != nil {
		return Checked{}, err
	}
	// What the server's configuration allows matters when a target is opened, and none is.
	cfg, err := access.Parse(files, kind.All(kind.Allowed{}).Access())
	if err != nil {
		return Checked{}, err
	}
	engine, err := policy.Compile(cfg, locations)
	if err != nil {
		return Checked{}, err
	}
	return Checked{Revision: cfg.Hash, Schema: engine.Schema()}, nil
}

// Lint returns what is wider in access files than it need be, or every mistake as [source.Errors].
func Lint(files map[string]string) ([]trust.Finding, error) {
	cfg, err := access.Parse(files, kind.All(kind.Allowed{}).Access())
	if err != nil {
		return nil, err
	}
	found, err := trust.Lint(cfg)
	for i, f := range found {
		if lines := strings.Split(files[f.Place.File], "\n"); f.Excerpt == "" && f.Place.Line > 0 && f.Place.Line <= len(lines) {
			found[i].Excerpt = lines[f.Place.Line-1] // of YAML documents these are the lines of names, which hold no secrets
		}
	}
	return found, err
}
