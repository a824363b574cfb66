package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/daypass/daypass/target"
)

// Rights is the `postgres:` section of a role: what its logins may do at the target.
type Rights struct {
	// Grants are privileges that a group role of ours holds; each login is a member of it.
	Grants []Privileges `yaml:"grants" json:"grants,omitempty"`
	// InRole names roles that exist at the server and whose rights the logins get. Predefined roles (pg_…) and roles
	// that may do more than read and write data are refused unless postgres.allow_roles in daypass.yaml lists them;
	// superusers always are. A member may do more
	// than use those rights: DROP OWNED drops what such a role owns and takes default privileges from it, so name
	// roles that own nothing.
	InRole []string `yaml:"in_role" json:"in_role,omitempty"`
	// Owner is a role that exists and that the logins act as (ALTER ROLE … SET role), so that what they create
	// belongs to it. For roles that change the schema.
	Owner string `yaml:"owner" json:"owner,omitempty"`
	// ConnectionLimit bounds the sessions of one login at one time, 20 when it is 0: leases that take all connections
	// of a server keep everybody out, and Daypass too when it must connect anew.
	ConnectionLimit int `yaml:"connection_limit" json:"connection_limit,omitempty"`
	// SearchPath is the schemas that unqualified names are looked up in; empty leaves the server's own.
	SearchPath []string `yaml:"search_path" json:"search_path,omitempty"`
	// ScramIterations is the rounds of the password's verifier, 4096 when it is 0. Our passwords are 256 random
	// bits, so that 1 is as safe and makes a login much cheaper to create; some drivers refuse less than 4096.
	ScramIterations int `yaml:"scram_iterations" json:"scram_iterations,omitempty"`
}

// Privileges is one entry of [Rights].Grants: privileges on things of one kind.
type Privileges struct {
	// Privileges are SQL privilege words that fit On, such as SELECT.
	Privileges []string `yaml:"privileges" json:"privileges"`
	// On is tables, sequences, functions, schema or database (the one of the target's URL).
	On string `yaml:"on" json:"on"`
	// Schema is where the tables, sequences or functions are, or the schema itself. Whoever gets rights on
	// something in a schema gets USAGE on the schema as well.
	Schema string `yaml:"schema" json:"schema,omitempty"`
	// Names are the tables, sequences or functions (all of that name); empty means all in the schema.
	Names []string `yaml:"names" json:"names,omitempty"`
	// Future extends the privileges to what will be created later, by Creators.
	Future bool `yaml:"future" json:"future,omitempty"`
	// Creators are the roles whose later creations Future means; empty means the owners of the schema and of
	// what is in it now.
	Creators []string `yaml:"creators" json:"creators,omitempty"`
}

// The kinds of things that privileges are on.
const (
	onTables    = "tables"
	onSequences = "sequences"
	onFunctions = "functions"
	onSchema    = "schema"
	onDatabase  = "database"
)

// privilegesOn returns the privilege words that fit a kind of thing; nil for an unknown kind.
func privilegesOn(kind string) []string {
	switch kind {
	case onTables:
		return []string{"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"}
	case onSequences:
		return []string{"USAGE", "SELECT", "UPDATE"}
	case onFunctions:
		return []string{"EXECUTE"}
	case onSchema:
		return []string{"USAGE", "CREATE"}
	case onDatabase:
		return []string{"CONNECT", "CREATE", "TEMPORARY"}
	}
	return nil
}

// maxName is the longest identifier of PostgreSQL, which cuts longer ones without an error.
const maxName = 63

// Validate returns every mistake, each a [target.FieldError].
func (r Rights) Validate() error {
	var errs []error
	if len(r.Grants) == 0 && len(r.InRole) == 0 && r.Owner == "" {
		errs = append(errs, target.Wrong("grants", "a role needs grants, in_role or owner"))
	}
	for i, privileges := range r.Grants {
		errs = append(errs, privileges.validate(fmt.Sprintf("grants[%d]", i))...)
	}
	errs = append(errs, checkNames("in_role", r.InRole)...)
	errs = append(errs, checkNames("search_path", r.SearchPath)...)
	if r.Owner != "" {
		errs = append(errs, checkNames("owner", []string{r.Owner})...)
	}
	if r.ConnectionLimit < 0 || r.ConnectionLimit > 1<<20 {
		errs = append(errs, target.Wrong("connection_limit", "%d is not between 0 and %d", r.ConnectionLimit, 1<<20))
	}
	if r.ScramIterations < 0 || r.ScramIterations > 1_000_000 {
		errs = append(errs, target.Wrong("scram_iterations", "%d is not between 1 and 1000000", r.ScramIterations))
	}
	return errors.Join(errs...)
}

func (g Privileges) validate(path string) []error {
	allowed := privilegesOn(g.On)
	if allowed == nil {
		return []error{target.Wrong(path+".on", "%q is not tables, sequences, functions, schema or database", g.On)}
	}
	var errs []error
	if len(g.Privileges) == 0 {
		errs = append(errs, target.Wrong(path+".privileges", "none are named; on %s: %s", g.On, strings.Join(allowed, ", ")))
	}
	for i, word := range g.Privileges {
		if !slices.Contains(allowed, strings.ToUpper(word)) {
			errs = append(errs, target.Wrong(fmt.Sprintf("%s.privileges[%d]", path, i), "%q does not fit %s; want %s", word, g.On, strings.Join(allowed, ", ")))
		}
	}
	if g.On == onDatabase && g.Schema != "" {
		errs = append(errs, target.Wrong(path+".schema", "a database has no schema; it is the one of the target's url"))
	}
	if g.On != onDatabase {
		errs = append(errs, checkNames(path+".schema", []string{g.Schema})...)
	}
	if g.On == onDatabase || g.On == onSchema {
		if len(g.Names) > 0 || g.Future || len(g.Creators) > 0 {
			errs = append(errs, target.Wrong(path, "names, future and creators are for tables, sequences and functions"))
		}
	}
	if g.Future && len(g.Names) > 0 {
		errs = append(errs, target.Wrong(path+".future", "what is created later has no name yet: leave names away"))
	}
	if len(g.Creators) > 0 && !g.Future {
		errs = append(errs, target.Wrong(path+".creators", "they say who creates what future means: set future"))
	}
	errs = append(errs, checkNames(path+".names", g.Names)...)
	return append(errs, checkNames(path+".creators", g.Creators)...)
}

// checkNames refuses names that PostgreSQL would cut or that cannot be.
func checkNames(path string, names []string) []error {
	var errs []error
	for i, name := range names {
		if name == "" || len(name) > maxName || strings.ContainsRune(name, 0) {
			errs = append(errs, target.Wrong(fmt.Sprintf("%s[%d]", path, i), "%q is not a name of 1 to %d bytes", name, maxName))
		}
	}
	return errs
}

// normal is r with one spelling for everything that means the same, so that equal rights have one group.
func (r Rights) normal() Rights {
	r.Grants = slices.Clone(r.Grants)
	for i, privileges := range r.Grants {
		words := make([]string, len(privileges.Privileges))
		for j, word := range privileges.Privileges {
			words[j] = strings.ToUpper(word)
		}
		r.Grants[i].Privileges = sortedSet(words)
		r.Grants[i].Names = sortedSet(privileges.Names)
		r.Grants[i].Creators = sortedSet(privileges.Creators)
	}
	r.InRole = sortedSet(r.InRole)
	return r
}

func sortedSet(words []string) []string {
	words = slices.Clone(words)
	slices.Sort(words)
	return slices.Compact(words)
}

// ofGroup is the part of r that a group holds, in canonical bytes. The rest belongs to each login.
func (r Rights) ofGroup() []byte {
	text, err := json.Marshal(Rights{Grants: r.Grants, InRole: r.InRole, Owner: r.Owner})
	if err != nil {
		panic(err) // strings, integers and booleans: cannot fail
	}
	return text
}

// ParseRights reads the rights of a role from JSON, strictly.
func ParseRights(text []byte) (Rights, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var rights Rights
	if err := decoder.Decode(&rights); err != nil {
		return Rights{}, fmt.Errorf("rights of a postgres role: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Rights{}, errors.New("rights of a postgres role: more than one value")
	}
	if err := rights.Validate(); err != nil {
		return Rights{}, fmt.Errorf("rights of a postgres role: %w", err)
	}
	return rights.normal(), nil
}
