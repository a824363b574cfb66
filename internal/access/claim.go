package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/daypass/daypass/internal/source"
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

// declared adds what a file declares to the claims of a kind. Not all evidence of a kind has it, such as certificates
// beside tokens: so policies have to ask whether it is there.
func (b *builder) declared(section *source.Section, claims map[string]ClaimType, issuer *Issuer) {
	report := b.reporter(section)
	b.nameClaims(claims, report)
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		claim := claims[name]
		if _, known := issuer.Claims[name]; known {
			report("claims."+name, fmt.Sprintf("issuers of kind %s have claim %q already", issuer.Kind, name), "remove it")
			continue
		}
		if !claim.Optional {
			report("claims."+name, fmt.Sprintf("not all evidence of an issuer of kind %s has claim %q", issuer.Kind, name), fmt.Sprintf("write `%s?`, and ask with `has` in policies", claim.Kind))
		}
		issuer.Claims[name] = claim
	}
}

// nameClaims reports claims that policies cannot speak of, and too many.
func (b *builder) nameClaims(claims map[string]ClaimType, report func(field, message, hint string)) {
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		if message := refuseAttribute(name, 200); message != "" {
			report("claims."+name, fmt.Sprintf("claim %q: %s", name, message), "")
		}
	}
	if len(claims) > 200 {
		report("claims", fmt.Sprintf("the issuer declares %d claims", len(claims)), "declare the ones that policies ask for; at most 200")
	}
}
