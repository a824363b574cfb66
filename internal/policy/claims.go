package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/cedar-policy/cedar-go"

	"github.com/daypass/daypass/internal/access"
)

// How claims become attributes. Policies see the claims that the issuer's preset or `claims` declares, and no
// others, under their exact names: a dot in a name is a character (`claims["acme.dev/team"]`), never a path.
//
//	declared      JSON                     Cedar
//	string        string                   String
//	bool          true or false            Bool
//	long          whole number, 64 bits    Long
//	set<string>   array of strings         Set<String>, without order and repetitions
//	any           null, or not there       not there
//	any           anything else            the decision is a denial
//
// "Anything else" is a float, a number beyond 64 bits, an object, an array that holds anything but strings, and a
// string where an array is declared. Nothing is converted: "5" is no number and 5 no string. A required claim
// that is not there makes the policies fail that ask for it, and no others.

// mismatchError says that a claim is not of its declared type. It never holds the value.
type mismatchError struct {
	issuer, claim string
	declared      access.ClaimKind
	found         string
}

func (e *mismatchError) Error() string {
	return fmt.Sprintf("claim %q of issuer %q is declared as %s, the token has %s", e.claim, e.issuer, e.declared, e.found)
}

// attributes checks all claims that the issuer declares, and returns those that policies can see as a record.
func (i compiledIssuer) attributes(claims map[string]any) (cedar.Record, error) {
	record := cedar.RecordMap{}
	for _, c := range i.claims {
		value, ok := claims[c.name]
		if !ok || value == nil {
			continue
		}
		if !fits(value, c.kind) {
			return cedar.Record{}, &mismatchError{i.name, c.name, c.kind, typeOf(value)}
		}
		if c.used {
			record[c.key] = convert(value)
		}
	}
	return cedar.NewRecord(record), nil
}

// fits reports whether a claim is of its declared type.
func fits(value any, kind access.ClaimKind) bool {
	switch v := value.(type) {
	case string:
		return kind == access.String
	case bool:
		return kind == access.Bool
	case int64:
		return kind == access.Long
	case json.Number: // of a stored input
		_, err := strconv.ParseInt(v.String(), 10, 64)
		return kind == access.Long && err == nil
	case []any:
		return kind == access.StringSet && !slices.ContainsFunc(v, func(element any) bool { _, ok := element.(string); return !ok })
	}
	return false
}

// convert returns a claim that fits its type.
func convert(value any) cedar.Value {
	switch v := value.(type) {
	case string:
		return cedar.String(v)
	case bool:
		return cedar.Boolean(v)
	case int64:
		return cedar.Long(v)
	case json.Number:
		n, _ := strconv.ParseInt(v.String(), 10, 64) // fits has tried it
		return cedar.Long(n)
	}
	elements := []cedar.Value{}
	for _, element := range value.([]any) {
		elements = append(elements, cedar.String(element.(string)))
	}
	return cedar.NewSet(elements...)
}

// typeOf names the type of a claim.
func typeOf(value any) string {
	switch v := value.(type) {
	case string:
		return "a string"
	case bool:
		return "true or false"
	case int64:
		return "a whole number"
	case float64:
		return "a number that is not whole"
	case json.Number:
		if _, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return "a whole number"
		}
		return "a number that is not whole or has more than 64 bits"
	case []any:
		for _, element := range v {
			if _, ok := element.(string); !ok {
				return "an array with other values than strings"
			}
		}
		return "an array of strings"
	case map[string]any:
		return "an object"
	}
	return "another value"
}
