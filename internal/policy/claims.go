package policy

import (
	"encoding/json"
	"fmt"
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
		converted, ok := convert(value, c.kind)
		if !ok {
			return cedar.Record{}, &mismatchError{i.name, c.name, c.kind, typeOf(value)}
		}
		if c.used {
			record[c.key] = converted
		}
	}
	return cedar.NewRecord(record), nil
}

func convert(value any, kind access.ClaimKind) (cedar.Value, bool) {
	switch v := value.(type) {
	case string:
		return cedar.String(v), kind == access.String
	case bool:
		return cedar.Boolean(v), kind == access.Bool
	case int64:
		return cedar.Long(v), kind == access.Long
	case json.Number: // whole numbers of a stored input
		n, err := strconv.ParseInt(v.String(), 10, 64)
		return cedar.Long(n), kind == access.Long && err == nil
	case []any:
		if kind != access.StringSet {
			return nil, false
		}
		elements := make([]cedar.Value, len(v))
		for i, element := range v {
			text, ok := element.(string)
			if !ok {
				return nil, false
			}
			elements[i] = cedar.String(text)
		}
		return cedar.NewSet(elements...), true
	}
	return nil, false
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
