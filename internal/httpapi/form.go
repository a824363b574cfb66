package httpapi

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

	"github.com/go-json-experiment/json"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/secret"
)

// The most that a form may be: two tokens, a client assertion, and names.
const (
	maxForm   = 4 * api.MaxToken
	maxFields = 50
)

// form is the body of a request to an OAuth endpoint: RFC 6749 appendix B. What it does not know it ignores (§3.2).
type form map[string][]string

// repeatable are the parameters that may come more than once: RFC 8693 §2.1.
func repeatable() []string { return []string{"resource", "audience"} }

// form reads the body.
func (c *call) form() (form, error) {
	if c.r.URL.RawQuery != "" || c.r.URL.ForceQuery {
		return nil, badRequest("parameters belong in the body, never in the URL (RFC 6749 §2.3.1)")
	}
	media, parameters, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	charset, hasCharset := parameters["charset"]
	if err != nil || len(c.r.Header.Values("Content-Type")) > 1 || media != "application/x-www-form-urlencoded" ||
		hasCharset && !strings.EqualFold(charset, "utf-8") || c.r.Header.Get("Content-Encoding") != "" {
		return nil, badRequest("send the body as application/x-www-form-urlencoded, in UTF-8 (RFC 6749 appendix B)")
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxForm))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, &oauthError{status: http.StatusRequestEntityTooLarge, code: invalidRequest, text: fmt.Sprintf("the body has more than %d bytes", maxForm)}
	}
	if err != nil {
		return nil, badRequest("the body broke off")
	}
	return parseForm(string(body))
}

// parseForm takes a body apart. A parameter without a value was not sent (RFC 6749 §3.2).
func parseForm(body string) (form, error) {
	if strings.Count(body, "&") >= maxFields {
		return nil, badRequest(fmt.Sprintf("the body has more than %d parameters", maxFields))
	}
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, badRequest("the body is not form-encoded (RFC 6749 appendix B)") // the cause quotes it
	}
	f := form{}
	for name, given := range values {
		if !utf8.ValidString(name) || slices.ContainsFunc(given, func(v string) bool { return !utf8.ValidString(v) || strings.ContainsRune(v, 0) }) {
			return nil, badRequest("the body is not UTF-8 (RFC 6749 appendix B)")
		}
		if len(given) > 1 && !slices.Contains(repeatable(), name) {
			return nil, badRequest("a parameter comes twice (RFC 6749 §3.2)")
		}
		if given = slices.DeleteFunc(given, func(v string) bool { return v == "" }); len(given) > 0 {
			f[name] = given
		}
	}
	return f, nil
}

func (f form) has(name string) bool { return len(f[name]) > 0 }

func (f form) text(name string) string {
	if !f.has(name) {
		return ""
	}
	return f[name][0]
}

// token returns a parameter that is a token, in a shape that tokens have.
func (f form) token(name string) (secret.Text, error) {
	text := f.text(name)
	switch {
	case text == "":
		return secret.Text{}, badRequest(name + " is missing (" + requires(name) + ")")
	case len(text) > api.MaxToken:
		return secret.Text{}, badRequest(fmt.Sprintf("%s has more than %d bytes", name, api.MaxToken))
	case !isToken(text):
		return secret.Text{}, badRequest(name + " has characters that no token has (RFC 6750 §2.1)")
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

// wish is what a token is wanted for: a role, and how. Without a role it is an access token.
type wish struct {
	api.RoleDetails
	refusal string // the code of a denial: what the role was named by
	scope   string // as it was given, to be said back
}

// wish reads which role is wanted. It may be named in several ways, all of which must name the same.
func (f form) wish(ours string) (w wish, err error) {
	name := func(role, code string) error {
		if !access.ValidName(role) {
			return &oauthError{code: code, text: "that is not the name of a role"}
		}
		if w.Role != "" && w.Role != role {
			return &oauthError{code: code, text: "more than one role is named; a token is for one"}
		}
		w.Role, w.refusal = role, code
		return nil
	}
	if f.has("authorization_details") {
		if w.RoleDetails, err = f.details(); err != nil {
			return w, err
		}
		if err := name(w.Role, invalidDetails); err != nil {
			return w, err
		}
	}
	for _, target := range append(slices.Clone(f["resource"]), f["audience"]...) {
		if target == ours {
			continue
		}
		role, isURL := strings.CutPrefix(target, ours+"/roles/")
		if !isURL {
			var isName bool
			if role, isName = strings.CutPrefix(target, api.ScopeRole); !isName || slices.Contains(f["resource"], target) {
				return w, &oauthError{code: invalidTarget, text: "resource and audience name this server by its own URL, or a role below it as /roles/<name> (RFC 8693 §2.2.2, RFC 8707 §2)"}
			}
		}
		if err := name(role, invalidTarget); err != nil {
			return w, err
		}
	}
	for _, word := range strings.Fields(f.text("scope")) {
		role, ok := strings.CutPrefix(word, api.ScopeRole)
		if !ok {
			return w, &oauthError{code: invalidScope, text: "a scope here is role:<name> (RFC 6749 §3.3)"}
		}
		if err := name(role, invalidScope); err != nil {
			return w, err
		}
	}
	w.scope = f.text("scope")
	return w, nil
}

// details reads authorization details, which are of one type (RFC 9396 §2).
func (f form) details() (one api.RoleDetails, err error) {
	var all []api.RoleDetails
	err = json.Unmarshal([]byte(f.text("authorization_details")), &all, json.RejectUnknownMembers(true))
	switch {
	case err != nil || len(all) != 1 || all[0].Type != api.DetailsRole:
		return one, &oauthError{code: invalidDetails, text: "authorization_details is a list of one object of type " + api.DetailsRole + " with role, and perhaps ttl and reason (RFC 9396 §5)"}
	case all[0].TTL != nil && *all[0].TTL <= 0:
		return one, &oauthError{code: invalidDetails, text: "a ttl is at least 1s"}
	}
	if err := checkReason(all[0].Reason); err != nil {
		return one, &oauthError{code: invalidDetails, text: publicOf(err)}
	}
	return all[0], nil
}
