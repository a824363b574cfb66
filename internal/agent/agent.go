// Package agent is the workload's side of Daypass: it finds the evidence that the platform gives, acquires leases
// with it, hands the credentials to a command, keeps the leases alive while that runs, and releases them.
//
// It promises that a credential reaches the command by its environment and never by its arguments, that what must
// be a file is readable by this user alone and is removed, and that leases are released when the command ends, in
// whatever way it ends. If the agent itself is killed with SIGKILL, nobody is left to release them: they expire.
//
// The package imports client, api and secret, and never anything of the server.
package agent

import (
	"fmt"
	"regexp"
	"strings"
)

// RoleRef is a role to acquire and the prefix of the variables that its credential sets.
type RoleRef struct {
	Prefix string // as "REPORTS_"; empty: the names that tools read by themselves
	Role   string
}

// String returns the reference as it is written on a command line.
func (r RoleRef) String() string {
	if r.Prefix == "" {
		return r.Role
	}
	return strings.TrimSuffix(r.Prefix, "_") + "=" + r.Role
}

var (
	roleName   = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)
	prefixName = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,39}$`)
)

// ParseRoles reads role references: `ROLE`, or `NAME=ROLE`, which prefixes each variable with NAME and an
// underscore. A prefix, also the empty one of two equal roles, can be used once.
func ParseRoles(arguments []string) ([]RoleRef, error) {
	roles := make([]RoleRef, 0, len(arguments))
	seen := map[RoleRef]bool{}
	prefixes := map[string]string{}
	for _, argument := range arguments {
		r, err := parseRole(argument)
		if err != nil {
			return nil, err
		}
		if seen[r] {
			return nil, fmt.Errorf("role %q is named twice", argument)
		}
		if other, ok := prefixes[r.Prefix]; ok && r.Prefix != "" {
			return nil, fmt.Errorf("%q and %q have the same prefix", other, argument)
		}
		seen[r], prefixes[r.Prefix] = true, argument
		roles = append(roles, r)
	}
	return roles, nil
}

// parseRole reads one reference.
func parseRole(argument string) (RoleRef, error) {
	name, role, found := strings.Cut(argument, "=")
	if !found {
		name, role = "", argument
	}
	if !roleName.MatchString(role) {
		return RoleRef{}, fmt.Errorf("%q is not a role: role names have 1 to 40 of a-z, 0-9 and -", role)
	}
	if !found {
		return RoleRef{Role: role}, nil
	}
	if !prefixName.MatchString(name) {
		return RoleRef{}, fmt.Errorf("%q: a prefix has capitals, digits and _, such as REPORTS=%s", argument, role)
	}
	return RoleRef{Prefix: name + "_", Role: role}, nil
}
