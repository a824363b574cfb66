package gcp

import (
	"context"
	"net/http"
	"net/url"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
)

// howto says what to apply.
const howto = "docs/howto/google-target.md says which rights the manager needs"

// Inspect tries what accounts per lease take, and changes nothing.
func (a accounts) Inspect(ctx context.Context) ([]target.Finding, error) {
	var found []target.Finding
	problem := func(what string, err error) {
		found = append(found, target.Finding{Severity: target.Problem, Message: "the manager may not " + what + ": " + err.Error(), Fix: howto})
	}
	if _, err := a.manager.Text(ctx); err != nil {
		if !cloud.IsStatus(err, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound) {
			return nil, err
		}
		problem("be taken", err)
		return found, nil
	}
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
			problem(t.what, err)
		} else if err != nil {
			return nil, err
		}
	}
	return found, nil
}
