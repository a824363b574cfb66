package oauth

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/secret"
)

// The most that a form may be: two tokens, a client assertion, and names.
const (
	maxForm   = 4 * api.MaxToken
	maxFields = 50
)

// Form is the body of a request to an OAuth endpoint: RFC 6749 appendix B. What it does not know it ignores (§3.2).
type Form map[string][]string

// repeatable are the parameters that may come more than once: RFC 8693 §2.1.
func repeatable() []string { return []string{"resource", "audience"} }

// ReadForm reads the body of a request.
func ReadForm(w http.ResponseWriter, r *http.Request) (Form, error) {
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		return nil, bad("parameters belong in the body, never in the URL (RFC 6749 §2.3.1)")
	}
	media, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset, hasCharset := parameters["charset"]
	if err != nil || len(r.Header.Values("Content-Type")) > 1 || media != "application/x-www-form-urlencoded" ||
		hasCharset && !strings.EqualFold(charset, "utf-8") || r.Header.Get("Content-Encoding") != "" {
		return nil, bad("send the body as application/x-www-form-urlencoded, in UTF-8 (RFC 6749 appendix B)")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, &Refusal{Status: http.StatusRequestEntityTooLarge, Code: InvalidRequest, Text: fmt.Sprintf("the body has more than %d bytes", maxForm)}
	}
	if err != nil {
		return nil, bad("the body broke off")
	}
	return ParseForm(string(body))
}

// ParseForm takes a body apart. A parameter without a value was not sent (RFC 6749 §3.2).
func ParseForm(body string) (Form, error) {
	if strings.Count(body, "&") >= maxFields {
		return nil, bad(fmt.Sprintf("the body has more than %d parameters", maxFields))
	}
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, bad("the body is not form-encoded (RFC 6749 appendix B)") // the cause quotes it
	}
	f := Form{}
	for name, given := range values {
		if !utf8.ValidString(name) || slices.ContainsFunc(given, func(v string) bool { return !utf8.ValidString(v) || strings.ContainsRune(v, 0) }) {
			return nil, bad("the body is not UTF-8 (RFC 6749 appendix B)")
		}
		if len(given) > 1 && !slices.Contains(repeatable(), name) {
			return nil, bad("a parameter comes twice (RFC 6749 §3.2)")
		}
		if given = slices.DeleteFunc(given, func(v string) bool { return v == "" }); len(given) > 0 {
			f[name] = given
		}
	}
	return f, nil
}

// Has reports whether a parameter was sent.
func (f Form) Has(name string) bool { return len(f[name]) > 0 }

// Text is the first value of a parameter, or empty.
func (f Form) Text(name string) string {
	if !f.Has(name) {
		return ""
	}
	return f[name][0]
}

// Token returns a parameter that is a token, in a shape that tokens have.
func (f Form) Token(name string) (secret.Text, error) {
	text := f.Text(name)
	switch {
	case text == "":
		return secret.Text{}, bad(name + " is missing (" + requires(name) + ")")
	case len(text) > api.MaxToken:
		return secret.Text{}, bad(fmt.Sprintf("%s has more than %d bytes", name, api.MaxToken))
	case !isToken(text):
		return secret.Text{}, bad(name + " has characters that no token has (RFC 6750 §2.1)")
	}
	return secret.New(text), nil
}

// requires is where it stands that a parameter is required.
func requires(name string) string {
	switch name {
	case "token":
		return "RFC 7009 §2.1, RFC 7662 §2.1"
	case "assertion":
		return "RFC 7521 §4.1"
	case "client_assertion":
		return "RFC 7521 §4.2"
	}
	return "RFC 8693 §2.1"
}
