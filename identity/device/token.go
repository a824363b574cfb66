package device

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/identity"
)

// What tokens may hold.
const (
	maxSubject = 255 // bytes; identity.Principal promises it
	maxID      = 256 // bytes of `jti` and `kid`
	maxDepth   = 16
	maxNumber  = 64              // characters
	lastSecond = 253_402_300_799 // the end of the year 9999, the last that RFC 3339 can write
)

// token is what a token says. Nobody has vouched for it before [token.signedBy].
type token struct {
	text                string
	algorithm, keyID    string
	issuer, subject, id string
	audience            any
	issued, expires     time.Time
	from                time.Time // nbf; zero where there is none
}

// parse reads a token in the one spelling that it has, and refuses what any reader could take otherwise.
func parse(text string) (*token, error) {
	if len(text) > api.MaxToken {
		return nil, identity.Reject(WhyMalformed, "it has more than %d bytes", api.MaxToken)
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 || slices.ContainsFunc(parts, func(p string) bool { return !canonical(p) }) {
		return nil, identity.Reject(WhyMalformed, "it is not three segments of base64url")
	}
	t := &token{text: text}
	header, err := parseObject(parts[0])
	if err != nil {
		return nil, identity.Reject(WhyMalformed, "its header is not a JSON object that all readers agree on")
	}
	if err := t.readHeader(header); err != nil {
		return nil, err
	}
	claims, err := parseObject(parts[1])
	if err != nil {
		return nil, identity.Reject(WhyMalformed, "its payload is not a JSON object that all readers agree on")
	}
	return t, t.readClaims(claims)
}

// canonical reports whether a segment is the one way to write its bytes.
func canonical(segment string) bool {
	if segment == "" || strings.ContainsAny(segment, "\r\n") {
		return false
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	return err == nil
}

// readHeader takes a header that names key, algorithm and type, and refuses what it does not know: nobody needs it,
// and whoever sends it hopes that somebody listens.
func (t *token) readHeader(header map[string]any) (err error) {
	for name, value := range header {
		text, ok := value.(string)
		if !ok || text == "" || len(text) > maxID {
			return identity.Reject(WhyMalformed, "a header parameter is empty, too long or no text")
		}
		switch name {
		case "alg":
			t.algorithm = text
		case "kid":
			t.keyID = text
		case "typ":
			if !strings.EqualFold(text, "JWT") {
				return identity.Reject(WhyMalformed, "it is of another type than JWT")
			}
		default:
			return identity.Reject(WhyMalformed, "the header parameter %s is not accepted", identity.Quote(name))
		}
	}
	if t.algorithm == "" || t.keyID == "" {
		return identity.Reject(WhyMalformed, "its header names no algorithm or no key")
	}
	return nil
}

func (t *token) readClaims(claims map[string]any) error {
	for _, name := range []string{"cnf", "events"} {
		if _, ok := claims[name]; ok {
			return identity.Reject(WhyMalformed, "it has the claim %s: it was made for something else", name)
		}
	}
	var ok bool
	t.issuer, _ = claims["iss"].(string)
	t.audience = claims["aud"]
	if t.subject, ok = claims["sub"].(string); !ok || !isSubject(t.subject) {
		return identity.Reject(WhySubject, "it has no subject, or one that nobody could read")
	}
	if t.id, ok = claims["jti"].(string); !ok || t.id == "" || len(t.id) > maxID {
		return identity.Reject(WhyMalformed, "it has no ID (jti), or one of more than %d bytes", maxID)
	}
	var okIssued, okExpires bool
	t.issued, okIssued = numericDate(claims["iat"])
	t.expires, okExpires = numericDate(claims["exp"])
	if !okIssued || !okExpires {
		return identity.Reject(WhyTime, "iat or exp is missing or no time")
	}
	if nbf, present := claims["nbf"]; present {
		if t.from, ok = numericDate(nbf); !ok {
			return identity.Reject(WhyTime, "nbf is no time")
		}
	}
	return nil
}

// isSubject refuses what a log, a terminal or a person could take for another subject.
func isSubject(text string) bool {
	hidden := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }
	return text != "" && len(text) <= maxSubject && !strings.ContainsFunc(text, hidden)
}

// check holds a token to its issuer, its audience and the time.
func (v *Verifier) check(t *token, now time.Time) error {
	if list, ok := t.audience.([]any); ok && len(list) == 1 {
		t.audience = list[0]
	}
	switch {
	case t.issuer != v.url:
		return identity.Reject(WhyIssuer, "it is of issuer %s, not %s", identity.Quote(t.issuer), identity.Quote(v.url))
	case t.audience != any(v.cfg.Audience) && !isList(t.audience):
		return identity.Reject(WhyAudience, "its audience is not %s", identity.Quote(v.cfg.Audience))
	case isList(t.audience):
		return identity.Reject(WhyAudience, "it is not for %s alone", identity.Quote(v.cfg.Audience))
	case !now.Add(-Leeway).Before(t.expires):
		return identity.Reject(WhyTime, "it expired at %s", utc(t.expires))
	case now.Add(Leeway).Before(t.issued), now.Add(Leeway).Before(t.from):
		return identity.Reject(WhyTime, "it is of the future")
	case !t.issued.Before(t.expires) || t.expires.Sub(t.issued) > MaxLife:
		return identity.Reject(WhyTime, "it is meant to live for less than nothing, or longer than %v", MaxLife)
	}
	return nil
}

// isList reports whether a claim is more than one value, which Go cannot compare.
func isList(value any) bool {
	switch value.(type) {
	case []any, map[string]any:
		return true
	}
	return false
}

// numericDate reads seconds since 1970 (RFC 7519 §2), which may have a fraction.
func numericDate(value any) (time.Time, bool) {
	number, ok := value.(json.Number)
	f, err := number.Float64()
	if !ok || err != nil || f <= 0 || f > lastSecond {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(f)
	return time.Unix(int64(whole), int64(fraction*1e9)).UTC(), true
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// parseObject reads a segment that is one JSON object (RFC 8259) which every parser reads alike. The decoder refuses
// names that come twice, and bytes that are no UTF-8.
func parseObject(segment string) (map[string]any, error) {
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return nil, err
	}
	dec := jsontext.NewDecoder(bytes.NewReader(text))
	value, err := parseValue(dec)
	if err != nil {
		return nil, err
	}
	object, ok := value.(map[string]any)
	if _, end := dec.ReadToken(); !ok || !errors.Is(end, io.EOF) {
		return nil, errors.New("not one object")
	}
	return object, nil
}

func parseValue(dec *jsontext.Decoder) (any, error) {
	if dec.StackDepth() >= maxDepth {
		return nil, errors.New("nested too deep")
	}
	read, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch read.Kind() {
	case '{':
		object := map[string]any{}
		for dec.PeekKind() != '}' {
			name, err := dec.ReadToken()
			if err != nil {
				return nil, err
			}
			key := name.String()
			if object[key], err = parseValue(dec); err != nil {
				return nil, err
			}
		}
		_, err = dec.ReadToken()
		return object, err
	case '[':
		list := []any{}
		for dec.PeekKind() != ']' {
			element, err := parseValue(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, element)
		}
		_, err = dec.ReadToken()
		return list, err
	case '0':
		text := read.String()
		if f, err := strconv.ParseFloat(text, 64); err != nil || math.IsInf(f, 0) || len(text) > maxNumber {
			return nil, errors.New("a number out of range")
		}
		return json.Number(text), nil
	case '"':
		return read.String(), nil
	case 't', 'f':
		return read.Bool(), nil
	}
	return nil, nil // null
}
