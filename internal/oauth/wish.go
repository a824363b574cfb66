package oauth

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/access"
)

// wish is what a token is wanted for: a role, and how. Without a role it is an access token.
type wish struct {
	api.RoleDetails
	refusal string // the code of a denial: what the role was named by
	scope   string // as it was given, to be said back
}

// wish reads which role is wanted. It may be named in several ways, all of which must name the same.
func (f Form) wish(ours string) (w wish, err error) {
	name := func(role, code string) error {
		if !access.ValidName(role) {
			return &Refusal{Code: code, Text: "that is not the name of a role"}
		}
		if w.Role != "" && w.Role != role {
			return &Refusal{Code: code, Text: "more than one role is named; a token is for one"}
		}
		w.Role, w.refusal = role, code
		return nil
	}
	if f.Has("authorization_details") {
		if w.RoleDetails, err = f.details(); err != nil {
			return w, err
		}
		if err := name(w.Role, InvalidDetails); err != nil {
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
				return w, &Refusal{Code: InvalidTarget, Text: "resource and audience name this server by its own URL, or a role below it as /roles/<name> (RFC 8693 §2.2.2, RFC 8707 §2)"}
			}
		}
		if err := name(role, InvalidTarget); err != nil {
			return w, err
		}
	}
	for _, word := range strings.Fields(f.Text("scope")) {
		role, ok := strings.CutPrefix(word, api.ScopeRole)
		if !ok {
			return w, &Refusal{Code: InvalidScope, Text: "a scope here is role:<name> (RFC 6749 §3.3)"}
		}
		if err := name(role, InvalidScope); err != nil {
			return w, err
		}
	}
	w.scope = f.Text("scope")
	return w, nil
}

// details reads authorization details, which are of one type (RFC 9396 §2).
func (f Form) details() (one api.RoleDetails, err error) {
	var all []api.RoleDetails
	err = json.Unmarshal([]byte(f.Text("authorization_details")), &all, json.RejectUnknownMembers(true))
	switch {
	case err != nil || len(all) != 1 || all[0].Type != api.DetailsRole:
		return one, &Refusal{Code: InvalidDetails, Text: "authorization_details is a list of one object of type " + api.DetailsRole + " with role, and perhaps ttl and reason (RFC 9396 §5)"}
	case all[0].TTL != nil && *all[0].TTL <= 0:
		return one, &Refusal{Code: InvalidDetails, Text: "a ttl is at least 1s"}
	}
	return all[0], nil
}
