package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ClaimKind is the type of a claim as policies see it.
type ClaimKind string

// The types of claims.
const (
	String    ClaimKind = "string"
	Bool      ClaimKind = "bool"
	Long      ClaimKind = "long"        // a whole number of 64 bits
	StringSet ClaimKind = "set<string>" // an array of strings, without order
)

// ClaimType is what policies may expect of a claim. Policies have to ask whether an optional one is there.
type ClaimType struct {
	Kind     ClaimKind
	Optional bool
}

// ParseClaimType reads what an issuer declares: a type, and a question mark where the claim may be missing.
func ParseClaimType(text string) (ClaimType, error) {
	kind, optional := strings.CutSuffix(text, "?")
	switch ClaimKind(kind) {
	case String, Bool, Long, StringSet:
		return ClaimType{Kind: ClaimKind(kind), Optional: optional}, nil
	}
	return ClaimType{}, fmt.Errorf("%q is not a type of claim: write string, bool, long or set<string>, with ? where it may be missing", text)
}

// UnmarshalText reads the form of [ParseClaimType].
func (c *ClaimType) UnmarshalText(text []byte) (err error) {
	*c, err = ParseClaimType(string(text))
	return err
}

// String returns the form of [ParseClaimType].
func (c ClaimType) String() string {
	if c.Optional {
		return string(c.Kind) + "?"
	}
	return string(c.Kind)
}

// Preset is what is known of a kind of issuer, so that nobody has to declare it.
type Preset struct {
	Name   string               // in `preset:`
	Type   string               // Cedar type of its principals
	URL    string               // its issuer where there is one for everybody; empty: the file has to say
	Claims map[string]ClaimType // what its tokens carry
	Run    []string             // claims that together name the run that a token belongs to
}

// GenericType is the Cedar type of principals of issuers without a preset.
const GenericType = "Workload"

// PresetOf returns the preset called name.
func PresetOf(name string) (Preset, bool) {
	preset, ok := presets()[name]
	return preset, ok
}

// PresetNames returns the names of all presets, sorted.
func PresetNames() []string { return slices.Sorted(maps.Keys(presets())) }

// presets is the table of presets. It is a function because a package variable could change.
func presets() map[string]Preset {
	return map[string]Preset{"github-actions": githubActions()}
}

// githubActions is the issuer of GitHub's workflow runs. Every value is a string, also IDs, counters and
// ref_protected ("true" or "false"). In tokens of runs that no pull request started, head_ref and base_ref are
// there and empty. What depends on the job, on the plan of the account or on the age of the installation is
// optional.
func githubActions() Preset {
	claims := map[string]ClaimType{}
	for _, name := range []string{
		"actor", "actor_id", "base_ref", "event_name", "head_ref", "job_workflow_ref", "ref", "ref_type",
		"repository", "repository_id", "repository_owner", "repository_owner_id", "repository_visibility",
		"run_attempt", "run_id", "run_number", "runner_environment", "sha", "workflow", "workflow_ref", "workflow_sha",
	} {
		claims[name] = ClaimType{Kind: String}
	}
	for _, name := range []string{
		"check_run_id",                // since November 2025
		"enterprise", "enterprise_id", // accounts of an enterprise
		"environment",                       // jobs that name an environment
		"environment_node_id",               // the same
		"issuer_scope",                      // issuers of one enterprise
		"job_workflow_sha", "ref_protected", // installations of their own may lack them
	} {
		claims[name] = ClaimType{Kind: String, Optional: true}
	}
	return Preset{
		Name: "github-actions", Type: "GitHub::Workload", URL: "https://token.actions.githubusercontent.com",
		Claims: claims, Run: []string{"run_id", "run_attempt"},
	}
}
