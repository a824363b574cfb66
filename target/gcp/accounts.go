package gcp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
)

// accounts are service accounts, one per lease: cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts.
//
// One that is disabled has ended: Google rejects its tokens and gives none, and nothing here enables one. Its description is
// its note.
type accounts struct {
	*google
	policies *policies
}

// account is what Google says of one.
type account struct {
	Email       string `json:"email"`
	Description string `json:"description"`
	Disabled    bool   `json:"disabled"`
}

func (a account) shell() cloud.Shell {
	s := cloud.Shell{State: cloud.Live, Note: a.Description}
	if a.Disabled {
		s.State = cloud.Ended
	}
	return s
}

func (accounts) Kind() string { return Kind }

func (a accounts) Valid(g target.Grant) error {
	rights, err := cloud.ReadRights[Rights](g.Rights)
	if err != nil {
		return err
	}
	if !rights.PerLease {
		return errors.New("the role names an account that exists, for which its target must not have manage")
	}
	for _, b := range rights.Bindings {
		if !slices.Contains(a.settings.Manage.Resources, b.On) {
			return &target.RefusalError{Text: "the role binds accounts on a resource that its target does not list in manage.resources"}
		}
	}
	return nil
}

func (a accounts) iam(rest string) string {
	return cmp.Or(a.settings.IAM, "https://iam.googleapis.com") + "/v1/projects/" + url.PathEscape(a.settings.Manage.Project) + "/serviceAccounts" + rest
}

func (a accounts) at(name, verb string) string {
	return a.iam("/" + url.PathEscape(a.email(name)) + verb)
}

func (a accounts) Look(ctx context.Context, lease string) (cloud.Shell, error) {
	found, err := a.read(ctx, a.name(lease))
	if err != nil || found.Email == "" {
		return cloud.Shell{}, err
	}
	return found.shell(), nil
}

// read returns an account, without an address where there is none.
func (a accounts) read(ctx context.Context, name string) (found account, err error) {
	_, err = a.call.Do(ctx, cloud.Request{Method: http.MethodGet, URL: a.at(name, ""), Bearer: a.manager}, &found)
	return found, cloud.Absent(err)
}

func (a accounts) Make(ctx context.Context, lease, note string) (cloud.Shell, error) {
	made, fresh, err := a.create(ctx, a.name(lease), note)
	if err != nil || fresh {
		return made.shell(), err
	}
	// It was there before, or a try of ours made it whose answer was lost. Google may not show it yet.
	var found account
	err = cloud.Eventually(ctx, func() (bool, error) {
		found, err = a.read(ctx, a.name(lease))
		return found.Email != "", err
	})
	return found.shell(), err
}

// create makes an account, unless there is one of its name.
func (a accounts) create(ctx context.Context, name, note string) (made account, fresh bool, err error) {
	_, err = a.call.Do(ctx, cloud.Request{URL: a.iam(""), Bearer: a.manager, Body: map[string]any{
		"accountId": name, "serviceAccount": map[string]string{"displayName": "Daypass " + name, "description": note},
	}}, &made)
	if cloud.IsStatus(err, http.StatusConflict) {
		return made, false, nil
	}
	return made, err == nil, cloud.Refused(err)
}

func (a accounts) Endow(ctx context.Context, g target.Grant, until time.Time) error {
	rights, err := cloud.ReadRights[Rights](g.Rights)
	if err != nil {
		return err
	}
	for _, b := range rights.Bindings {
		if err := a.policies.bind(ctx, b, g.Lease, until); err != nil {
			return err
		}
	}
	return nil
}

// Enter impersonates the account of a lease, which Google refuses until it knows it everywhere.
func (a accounts) Enter(ctx context.Context, g target.Grant) (cloud.Token, error) {
	rights, err := cloud.ReadRights[Rights](g.Rights)
	if err != nil {
		return cloud.Token{}, err
	}
	t, err := a.impersonate(ctx, a.manager, a.email(a.name(g.Lease)), rights.Scopes, g.TTL)
	return t, cloud.Early(err, http.StatusForbidden, http.StatusNotFound)
}

// Strip disables an account before it takes its bindings away: that much Google says to be done at once.
func (a accounts) Strip(ctx context.Context, lease string, _ json.RawMessage) error {
	_, err := a.call.Do(ctx, cloud.Request{URL: a.at(a.name(lease), ":disable"), Bearer: a.manager, Body: map[string]any{}}, nil)
	if err := cloud.Absent(err); err != nil {
		return err
	}
	return a.policies.unbind(ctx, a.isOf(lease))
}

func (a accounts) Note(ctx context.Context, lease, note string) error {
	return a.describe(ctx, a.name(lease), note)
}

func (a accounts) describe(ctx context.Context, name, note string) error {
	_, err := a.call.Do(ctx, cloud.Request{Method: http.MethodPatch, URL: a.at(name, ""), Bearer: a.manager, Body: map[string]any{
		"serviceAccount": map[string]string{"description": note}, "updateMask": "description",
	}}, nil)
	return err
}

// Destroy deletes an account. Google keeps it for thirty days, in which whoever may undelete can bring it back, disabled and
// without bindings; it cannot be deleted further.
func (a accounts) Destroy(ctx context.Context, lease string) error {
	_, err := a.call.Do(ctx, cloud.Request{Method: http.MethodDelete, URL: a.at(a.name(lease), ""), Bearer: a.manager}, nil)
	if err := cloud.Absent(err); err != nil {
		return err
	}
	// What a member was called before its account was deleted, and after.
	return a.policies.unbind(ctx, a.isOf(lease))
}

func (a accounts) List(ctx context.Context, do func(string, cloud.Shell) error) error {
	states := map[string]cloud.State{}
	for page := ""; ; {
		var answer struct {
			Accounts []account `json:"accounts"`
			Next     string    `json:"nextPageToken"`
		}
		query := url.Values{"pageSize": {"100"}}
		if page != "" {
			query.Set("pageToken", page)
		}
		_, err := a.call.Do(ctx, cloud.Request{Method: http.MethodGet, URL: a.iam("?" + query.Encode()), Bearer: a.manager, Long: true}, &answer)
		if err != nil {
			return err
		}
		for _, found := range answer.Accounts {
			name, _, _ := strings.Cut(found.Email, "@")
			lease, ours := a.lease(name)
			if !ours || found.Email != a.email(name) {
				continue
			}
			states[lease] = found.shell().State
			if err := do(lease, found.shell()); err != nil {
				return err
			}
		}
		if page = answer.Next; page == "" {
			break
		}
	}
	bound, err := a.policies.bound(ctx)
	for _, lease := range bound {
		if err == nil && states[lease] != cloud.Live {
			err = do(lease, cloud.Shell{State: cloud.Live})
		}
	}
	return err
}

// Sweep has nothing to take: what deleted accounts leave in policies is listed as their leases.
func (accounts) Sweep(context.Context) error { return nil }

func (a accounts) Mark(ctx context.Context) (string, error) {
	found, err := a.read(ctx, a.prefix()+"mark")
	return found.Description, err
}

func (a accounts) SetMark(ctx context.Context, text string, fresh bool) (bool, error) {
	if !fresh {
		return true, a.describe(ctx, a.prefix()+"mark", text)
	}
	_, first, err := a.create(ctx, a.prefix()+"mark", text)
	return first, err
}
