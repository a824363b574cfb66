package oidctoken

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/daypass/daypass/target"
)

// piece is a part of a template: text as it stands, or the name of a value.
type piece struct{ literal, value string }

// claimPrefix is what the names of claims begin with among the names of values.
const claimPrefix = "claims."

// parse takes a template apart.
func parse(text string) (pieces []piece, err error) {
	for text != "" {
		before, rest, found := strings.Cut(text, "${")
		if before != "" {
			pieces = append(pieces, piece{literal: before})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, errors.New("a ${ is not closed")
		}
		if !isValue(name) {
			return nil, fmt.Errorf("there is no ${%s}: it is ${role}, ${lease}, ${issuer}, ${subject}, ${run} or ${claims.NAME}", name)
		}
		pieces = append(pieces, piece{value: name})
		text = after
	}
	return pieces, nil
}

func isValue(name string) bool {
	claim, isClaim := strings.CutPrefix(name, claimPrefix)
	return isClaim && claim != "" || slices.Contains([]string{"role", "lease", "issuer", "subject", "run"}, name)
}

// valueOf returns a value of a grant, absent where it has none.
func valueOf(name string, g target.Grant) (value any, absent bool) {
	if claim, ok := strings.CutPrefix(name, claimPrefix); ok {
		value, ok = g.Holder.Claims[claim]
		return value, !ok || value == nil
	}
	switch name {
	case "role":
		value = g.Role
	case "lease":
		value = g.Lease
	case "issuer":
		value = g.Holder.Issuer
	case "subject":
		value = g.Holder.Subject
	case "run":
		value = g.Holder.Run
	}
	return value, value == ""
}

// textOf returns a value as text. Values are strangers' text: what could hide or turn it around is refused. The
// refusal names the value and does not quote it.
func textOf(name string, g target.Grant) (string, error) {
	value, absent := valueOf(name, g)
	if absent {
		return "", refused("the role needs ${%s}, which the workload's identity does not have", name)
	}
	var text string
	switch v := value.(type) {
	case string:
		text = v
	case bool:
		text = strconv.FormatBool(v)
	case int64:
		text = strconv.FormatInt(v, 10)
	case json.Number:
		text = v.String()
	default:
		return "", refused("the role needs ${%s} as text, and it is a list or mapping", name)
	}
	if !isPlain(text) {
		return "", refused("the role needs ${%s}, which has characters that cannot be seen", name)
	}
	return text, nil
}

func refused(format string, args ...any) error {
	return &target.RefusalError{Text: fmt.Sprintf(format, args...)}
}

// isPlain reports whether text is UTF-8 without characters that control, hide or turn text around.
func isPlain(text string) bool {
	hidden := func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp)
	}
	return utf8.ValidString(text) && !strings.ContainsFunc(text, hidden)
}

// escape writes all bytes but letters, digits, `.`, `_` and `-` as %XX. Different texts stay different.
func escape(text string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; isUnreserved(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

// fillText fills a template, each value escaped.
func fillText(template string, g target.Grant) (string, error) {
	pieces, err := parse(template)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, p := range pieces {
		if p.value == "" {
			b.WriteString(p.literal)
			continue
		}
		text, err := textOf(p.value, g)
		if err != nil {
			return "", err
		}
		if text == "" {
			return "", refused("the role needs ${%s}, which is empty", p.value)
		}
		b.WriteString(escape(text))
	}
	return b.String(), nil
}

func fillSubject(template string, g target.Grant) (string, error) {
	subject, err := fillText(template, g)
	if err == nil && len(subject) > maxSubject {
		err = refused("the subject of the token would be longer than %d bytes", maxSubject)
	}
	return subject, err
}

// fillClaim fills the templates in a claim. A value that stands alone needs no escaping: JSON keeps it apart.
func fillClaim(value any, g target.Grant) (any, error) {
	switch v := value.(type) {
	case string:
		if pieces, err := parse(v); err == nil && len(pieces) == 1 && pieces[0].value != "" {
			return textOf(pieces[0].value, g)
		}
		return fillText(v, g)
	case []any:
		filled := make([]any, len(v))
		for n, element := range v {
			var err error
			if filled[n], err = fillClaim(element, g); err != nil {
				return nil, err
			}
		}
		return filled, nil
	case map[string]any:
		filled := make(map[string]any, len(v))
		for name, inner := range v {
			var err error
			if filled[name], err = fillClaim(inner, g); err != nil {
				return nil, err
			}
		}
		return filled, nil
	}
	return value, nil
}

// awsTags is the claim that AWS reads session tags from.
const awsTags = "https://aws.amazon.com/tags"

// tagText is what AWS allows in the key and the value of a tag. Wildcards of its policies are not among it.
var tagText = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]{0,256}$`)

// checkTags refuses session tags that AWS would refuse, with a reason that says more than AWS does.
func checkTags(value any) error {
	switch v := value.(type) {
	case string:
		if !tagText.MatchString(v) {
			return refused("a value has characters that AWS session tags cannot hold, or more than 256")
		}
	case []any:
		for _, element := range v {
			if err := checkTags(element); err != nil {
				return err
			}
		}
	case map[string]any:
		for name, inner := range v {
			if err := checkTags(inner); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}
