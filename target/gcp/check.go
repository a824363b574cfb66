package gcp

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
)

// howto says what to apply.
const howto = "docs/howto/google-target.md says which rights the manager needs"

// Inspect tries what accounts per lease take, and changes nothing.
func (a accounts) Inspect(ctx context.Context, role string) ([]target.Finding, error) {
	if refused, err := a.tryManager(ctx, role); err != nil || len(refused) > 0 {
		return refused, err // what nobody can be asked for
	}
	var found []target.Finding
	tries := []struct {
		what string
		try  func() error
	}{
		{"list accounts", func() error {
			_, err := a.call.Do(ctx, cloud.Request{Method: http.MethodGet, URL: a.iam("?" + url.Values{"pageSize": {"1"}}.Encode()), Bearer: a.manager, Long: true}, nil)
			return err
		}},
		{"disable accounts", func() error {
			_, err := a.call.Do(ctx, cloud.Request{URL: a.at(a.prefix()+"nobody", ":disable"), Bearer: a.manager, Body: map[string]any{}}, nil)
			return err
		}},
		{"delete accounts", func() error {
			_, err := a.call.Do(ctx, cloud.Request{Method: http.MethodDelete, URL: a.at(a.prefix()+"nobody", ""), Bearer: a.manager}, nil)
			return err
		}},
	}
	for _, on := range a.settings.Manage.Resources {
		tries = append(tries, struct {
			what string
			try  func() error
		}{"read the policy of " + on, func() error {
			_, err := a.policies.read(ctx, on)
			return err
		}})
	}
	for _, t := range tries {
		err := cloud.Absent(t.try())
		if cloud.IsStatus(err, http.StatusForbidden) {
			found = append(found, target.Finding{Severity: target.Problem, Message: "the manager may not " + t.what + ": " + err.Error(), Fix: howto})
		} else if err != nil {
			return nil, err
		}
	}
	asked, err := a.ask(ctx)
	return append(found, asked...), err
}

// needed is a permission that cannot be tried without a change, in words.
type needed struct{ permission, words string }

// atHome are what accounts take in the project where they are made, beside what is tried; tooMuch are what outlives a lease
// or brings it back.
func atHome() (needs, tooMuch []needed) {
	return []needed{
			{"iam.serviceAccounts.create", "make accounts"}, {"iam.serviceAccounts.get", "read accounts"},
			{"iam.serviceAccounts.update", "describe accounts"}, {"iam.serviceAccounts.getAccessToken", "get their tokens"},
		}, []needed{
			{"iam.serviceAccountKeys.create", "make keys, which outlive leases"}, {"iam.serviceAccounts.enable", "enable accounts that have ended"},
			{"iam.serviceAccounts.undelete", "bring deleted accounts back"}, {"iam.serviceAccounts.setIamPolicy", "let others be accounts of leases"},
		}
}

// ask asks which permissions the manager has where they cannot be tried. Google answers of the caller, whatever it may do.
func (a accounts) ask(ctx context.Context) ([]target.Finding, error) {
	home := "projects/" + a.settings.Manage.Project
	needs, tooMuch := atHome()
	found, err := a.compare(ctx, home, needs, tooMuch)
	for _, on := range a.settings.Manage.Resources {
		if err != nil {
			break
		}
		permission := "resourcemanager.projects.setIamPolicy"
		if strings.HasPrefix(on, "buckets/") {
			permission = "storage.buckets.setIamPolicy"
		}
		var more []target.Finding
		more, err = a.compare(ctx, on, []needed{{permission, "write the policy"}}, nil)
		found = append(found, more...)
	}
	return found, err
}

func (a accounts) compare(ctx context.Context, on string, needs, tooMuch []needed) (found []target.Finding, err error) {
	var names []string
	for _, n := range slices.Concat(needs, tooMuch) {
		names = append(names, n.permission)
	}
	held, err := a.policies.held(ctx, on, names)
	if cloud.IsStatus(err, http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound) {
		return []target.Finding{{Severity: target.Note, Message: fmt.Sprintf("what the manager may do on %s cannot be asked: %v", on, err),
			Fix: "enable the API that answers for it, in the manager's project, and compare its name"}}, nil
	}
	if err != nil {
		return nil, err
	}
	for _, n := range needs {
		if !slices.Contains(held, n.permission) {
			found = append(found, target.Finding{Severity: target.Problem, Message: fmt.Sprintf("the manager may not %s on %s: it lacks %s", n.words, on, n.permission), Fix: howto})
		}
	}
	for _, n := range tooMuch {
		if slices.Contains(held, n.permission) {
			found = append(found, target.Finding{Severity: target.Warning, Message: fmt.Sprintf("the manager may %s on %s: it has %s and does not need it", n.words, on, n.permission), Fix: howto})
		}
	}
	return found, nil
}

// held asks which of some permissions the manager has on a resource: cloud.google.com/resource-manager/reference/rest/v3/projects/testIamPermissions
// and cloud.google.com/storage/docs/json_api/v1/buckets/testIamPermissions. It takes no permission.
func (p *policies) held(ctx context.Context, on string, permissions []string) ([]string, error) {
	var answer struct {
		Permissions []string `json:"permissions"`
	}
	kind, name, _ := strings.Cut(on, "/")
	r := cloud.Request{URL: p.project(name, ":testIamPermissions"), Bearer: p.manager, Body: map[string]any{"permissions": permissions}}
	if kind == "buckets" {
		r = cloud.Request{Method: http.MethodGet, URL: p.bucket(name) + "/testPermissions?" + url.Values{"permissions": permissions}.Encode(), Bearer: p.manager}
	}
	_, err := p.call.Do(ctx, r, &answer)
	return answer.Permissions, err
}
