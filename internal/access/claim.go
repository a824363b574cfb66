package access

import (
	"fmt"
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
