package httpapi

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/source"
)

// decode reads the body, of at most limit bytes, into a value. No body is the empty object. Errors name the place
// and what belongs there, and never show what stood there: it may be a token in the wrong field.
func decode(c *call, limit int64, into any) error {
	if err := checkMedia(c.r.Header); err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, limit))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return fault.New(tooLarge, "read the body", fmt.Sprintf("the body has more than %d bytes (RFC 9110 §15.5.14)", limit))
		}
		return malformed("the body broke off (RFC 9112 §8)")
	}
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, into, json.RejectUnknownMembers(true)); err != nil {
		return malformed(describe(err))
	}
	return nil
}

// noBody refuses a body where a call has none: it would say something that nobody reads.
func noBody(c *call) error {
	if c.r.ContentLength == 0 || c.r.Body == nil {
		return nil
	}
	var one [1]byte
	if n, _ := io.ReadFull(c.r.Body, one[:]); n > 0 {
		return malformed("this call takes no body")
	}
	return nil
}

// checkMedia refuses bodies that say to be something else than JSON. A browser sends other types to strangers
// without asking first, and JSON not.
func checkMedia(h http.Header) error {
	given := h.Values("Content-Type")
	if len(given) == 0 {
		return nil
	}
	media, parameters, err := mime.ParseMediaType(given[0])
	charset, hasCharset := parameters["charset"]
	if len(given) > 1 || err != nil || media != "application/json" || hasCharset && !strings.EqualFold(charset, "utf-8") {
		return fault.New(unsupportedMedia, "read the body", "send the body as Content-Type: application/json, in UTF-8 (RFC 9110 §15.5.16)")
	}
	if h.Get("Content-Encoding") != "" {
		return fault.New(unsupportedMedia, "read the body", "a compressed body is not read here (RFC 9110 §8.4 and §15.5.16)")
	}
	return nil
}

// describe says what is wrong with a body without a byte of its values.
func describe(err error) string {
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if ok && errors.Is(semantic.Err, json.ErrUnknownName) {
		return "the body has an unknown field" + at(semantic.JSONPointer.Parent()) + suggest(semantic)
	}
	if ok && semantic.GoType != nil {
		return fmt.Sprintf("the body has a wrong value%s: want %s", at(semantic.JSONPointer), wanted(semantic.GoType))
	}
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(syntactic.Err, jsontext.ErrDuplicateName) {
			return "the body has a field twice" + at(syntactic.JSONPointer) + " (RFC 8259 §4, RFC 7493 §2.3)"
		}
		return fmt.Sprintf("the body is not JSON in UTF-8, or goes on after its end: see byte %d (RFC 8259 §2 and §8.1)", syntactic.ByteOffset)
	}
	return "the body is not the JSON that this call takes"
}

// suggest says what an unknown field may have been meant to be, without saying it back: names are the sender's, too.
func suggest(e *json.SemanticError) string {
	t := e.GoType
	if t == nil || t.Kind() != reflect.Struct {
		return ""
	}
	var known []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		known = append(known, name)
	}
	return "; " + source.Suggest(e.JSONPointer.LastToken(), "fields", known)
}

// at names a place where that cannot show more than a short plain word or path.
func at(pointer jsontext.Pointer) string {
	text := string(pointer)
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("/_-.", r)
	}
	if text == "" || len(text) > 40 || strings.ContainsFunc(text, func(r rune) bool { return !plain(r) }) {
		return ""
	}
	return " at " + text
}

// wanted says what belongs in a place of a type.
func wanted(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[api.Duration]():
		return "a whole number and s, m or h, such as 15m"
	case reflect.TypeFor[api.Time]():
		return "a time such as 2026-01-02T15:04:05.000Z"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		return "a list"
	}
	return "a number"
}

// checkReason bounds a free text.
func checkReason(text string) error {
	if len(text) > api.MaxReason {
		return malformed(fmt.Sprintf("the reason has more than %d bytes", api.MaxReason))
	}
	return checkText("reason", text)
}

// checkText refuses what would forge lines in a log or on a screen.
func checkText(what, text string) error {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || reorders(r) }) {
		return malformed("the " + what + " has control characters")
	}
	return nil
}

// checkName refuses what cannot be a name of the configuration or an ID, before it goes anywhere.
func checkName(what, text string) error {
	if len(text) > 1000 {
		return malformed("the " + what + " is too long")
	}
	return checkText(what, text)
}
