package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
)

// principals are applications with a service principal each, one per lease: learn.microsoft.com/graph/api/resources/application.
//
// An application's unique name is that of its lease, and everything is asked for as "create if missing": a request that is
// made twice makes one. Its description is its note while it lives; what is in its notes says that it has ended, and nothing
// but a revocation writes there.
type principals struct{ *entra }

// application is what Graph says of one.
type application struct {
	ID          string `json:"id"`
	AppID       string `json:"appId"`
	DisplayName string `json:"displayName"`
	UniqueName  string `json:"uniqueName"` // no two have the same
	Description string `json:"description"`
	Notes       string `json:"notes"`
}

func (a application) shell() cloud.Shell {
	switch {
	case a.ID == "":
		return cloud.Shell{}
	case a.Notes != "":
		return cloud.Shell{State: cloud.Ended, Note: a.Notes}
	}
	return cloud.Shell{State: cloud.Live, Note: a.Description}
}

const selected = "$select=" + members

// members are what we read of an application.
const members = "id,appId,displayName,uniqueName,description,notes"

// upsert is how Graph is told to make what is missing.
var upsert = map[string]string{"Prefer": "create-if-missing"}

func (principals) Kind() string { return Kind }

func (p principals) Valid(g target.Grant) error {
	rights, err := cloud.ReadRights[Rights](g.Rights)
	if err != nil {
		return err
	}
	if !rights.PerLease {
		return errors.New("the role names an application that exists, for which its target must not have manage")
	}
	for _, a := range rights.Assignments {
		if !p.settings.Manage.covers(a.On) {
			return &target.RefusalError{Text: "the role assigns at a scope that its target does not list in manage.scopes"}
		}
	}
	return nil
}

func (p principals) graphAt(rest string) string {
	return cmp.Or(p.settings.Graph, graphAddress) + "/v1.0" + rest
}

func (p principals) onGraph(ctx context.Context, method, rest string, body, out any) (int, error) {
	r := cloud.Request{Method: method, URL: p.graphAt(rest), Bearer: p.graph, Body: body}
	if method == http.MethodPatch {
		r.Header = upsert
	}
	return p.call.Do(ctx, r, out)
}

func uniqueName(name string) string { return "/applications(uniqueName='" + name + "')" }

// read returns an application, without an ID where there is none.
func (p principals) read(ctx context.Context, name string) (found application, err error) {
	_, err = p.onGraph(ctx, http.MethodGet, uniqueName(name)+"?"+selected, nil, &found)
	return found, cloud.Absent(err)
}

func (p principals) Look(ctx context.Context, lease string) (cloud.Shell, error) {
	found, err := p.read(ctx, p.name(lease))
	return found.shell(), err
}

func (p principals) Make(ctx context.Context, lease, note string) (cloud.Shell, error) {
	_, err := p.create(ctx, p.name(lease), note)
	if err != nil {
		return cloud.Shell{}, err
	}
	found, err := p.see(ctx, p.name(lease))
	return found.shell(), err
}

// create makes an application, unless there is one of its name.
func (p principals) create(ctx context.Context, name, description string) (fresh bool, err error) {
	body := map[string]any{"displayName": name, "signInAudience": "AzureADMyOrg", "tags": []string{"Daypass"}}
	if description != "" {
		body["description"] = description
	}
	status, err := p.onGraph(ctx, http.MethodPatch, uniqueName(name), body, nil)
	return status == http.StatusCreated, cloud.Refused(err)
}

// see reads an application that exists: Graph may show it a little later.
func (p principals) see(ctx context.Context, name string) (found application, err error) {
	err = cloud.Eventually(ctx, func() (bool, error) {
		found, err = p.read(ctx, name)
		return found.ID != "", err
	})
	return found, err
}

func (p principals) Endow(ctx context.Context, g target.Grant, _ time.Time) error {
	rights, err := cloud.ReadRights[Rights](g.Rights)
	if err != nil {
		return err
	}
	name := p.name(g.Lease)
	app, err := p.see(ctx, name)
	if err != nil {
		return err
	}
	id, err := p.enlist(ctx, app, name)
	if err != nil {
		return err
	}
	for _, a := range rights.Assignments {
		for _, role := range a.Roles {
			if err := p.assign(ctx, g.Lease, id, a.On, role); err != nil {
				return err
			}
		}
	}
	_, err = p.onGraph(ctx, http.MethodPatch, "/applications/"+url.PathEscape(app.ID)+"/federatedIdentityCredentials(name='lease')", map[string]any{
		"name": "lease", "issuer": p.cfg.Issuer, "subject": cloud.LeaseSubject(g.Lease), "audiences": []string{Audience},
	}, nil)
	return early(err)
}

// early marks what Azure answers until it knows what was made a moment ago.
func early(err error) error { return cloud.Early(err, http.StatusBadRequest, http.StatusNotFound) }

// enlist makes the service principal of an application and returns its object ID.
func (p principals) enlist(ctx context.Context, app application, name string) (id string, err error) {
	_, err = p.onGraph(ctx, http.MethodPatch, byAppID(app), map[string]any{"displayName": name, "tags": []string{"Daypass"}}, nil)
	if err == nil {
		id, err = p.principalOf(ctx, app)
	}
	if err == nil && id == "" {
		err = &cloud.StatusError{Status: http.StatusNotFound, Text: "the service principal does not show yet"}
	}
	return id, early(err)
}

func byAppID(app application) string { return "/servicePrincipals(appId='" + app.AppID + "')" }

// principalOf returns the object ID of an application's service principal, empty where it has none.
func (p principals) principalOf(ctx context.Context, app application) (string, error) {
	var found struct {
		ID string `json:"id"`
	}
	_, err := p.onGraph(ctx, http.MethodGet, byAppID(app)+"?$select=id", nil, &found)
	return found.ID, cloud.Absent(err)
}

// Enter gets a token of the application of a lease. Entra refuses until it knows the application, its principal and its
// federated credential.
func (p principals) Enter(ctx context.Context, g target.Grant) (cloud.Token, error) {
	rights, err := cloud.ReadRights[Rights](g.Rights)
	if err != nil {
		return cloud.Token{}, err
	}
	app, err := p.see(ctx, p.name(g.Lease))
	if err != nil {
		return cloud.Token{}, err
	}
	ours, err := p.cfg.SignFor(ctx, g.Lease, Audience)
	if err != nil {
		return cloud.Token{}, err
	}
	t, err := p.assert(ctx, ours, app.AppID, rights.resource())
	return t, cloud.Early(err, http.StatusBadRequest, http.StatusUnauthorized)
}

// Strip takes away what gives tokens first, then the roles, and the service principal last: without it nobody could tell
// whose the assignments were.
func (p principals) Strip(ctx context.Context, lease string, rights json.RawMessage) error {
	name := p.name(lease)
	app, err := p.read(ctx, name)
	if err != nil {
		return err
	}
	id := ""
	if app.ID != "" {
		_, err := p.onGraph(ctx, http.MethodDelete, "/applications/"+url.PathEscape(app.ID)+"/federatedIdentityCredentials/lease", nil, nil)
		if err := cloud.Absent(err); err != nil {
			return err
		}
		if id, err = p.principalOf(ctx, app); err != nil {
			return err
		}
	}
	if err := p.release(ctx, lease, id, rights); err != nil {
		return err
	}
	if id == "" {
		return nil
	}
	return p.erase(ctx, "/servicePrincipals/", id)
}

// erase deletes an object, and then what the directory keeps of it for thirty days.
func (p principals) erase(ctx context.Context, kind, id string) error {
	_, err := p.onGraph(ctx, http.MethodDelete, kind+url.PathEscape(id), nil, nil)
	if err := cloud.Absent(err); err != nil {
		return err
	}
	for range 4 { // it may not show there yet; what is missed here is taken by Sweep
		_, err = p.onGraph(ctx, http.MethodDelete, "/directory/deletedItems/"+url.PathEscape(id), nil, nil)
		if cloud.Absent(err) != nil || err == nil {
			return err
		}
		if err := cloud.Pause(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (p principals) Note(ctx context.Context, lease, note string) error {
	return p.jot(ctx, p.name(lease), note)
}

func (p principals) jot(ctx context.Context, name, note string) error {
	app, err := p.see(ctx, name)
	if err == nil {
		_, err = p.call.Do(ctx, cloud.Request{Method: http.MethodPatch, URL: p.graphAt("/applications/" + url.PathEscape(app.ID)), Bearer: p.graph, Body: map[string]any{"notes": note}}, nil)
	}
	return err
}

func (p principals) Destroy(ctx context.Context, lease string) error {
	app, err := p.read(ctx, p.name(lease))
	if err == nil && app.ID != "" {
		err = p.erase(ctx, "/applications/", app.ID)
	}
	if err != nil {
		return err
	}
	return p.purge(ctx, "displayName eq '"+p.name(lease)+"'")
}

// purge hard-deletes what deleted items a filter finds.
func (p principals) purge(ctx context.Context, filter string) error {
	for _, kind := range []string{"servicePrincipal", "application"} {
		var found []string
		err := p.each(ctx, "/directory/deletedItems/microsoft.graph."+kind, filter, func(a application) error {
			if _, ours := p.lease(a.DisplayName); ours {
				found = append(found, a.ID)
			}
			return nil
		})
		for _, id := range found {
			if err == nil {
				_, err = p.onGraph(ctx, http.MethodDelete, "/directory/deletedItems/"+url.PathEscape(id), nil, nil)
				err = cloud.Absent(err)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// each visits what a collection holds, page by page.
func (p principals) each(ctx context.Context, collection, filter string, do func(application) error) error {
	query := url.Values{"$filter": {filter}, "$top": {"100"}}
	if collection == "/applications" {
		query.Set("$select", members)
	}
	next := p.graphAt(collection + "?" + query.Encode())
	for next != "" {
		var page struct {
			Value []application `json:"value"`
			Next  string        `json:"@odata.nextLink"`
		}
		if _, err := p.call.Do(ctx, cloud.Request{Method: http.MethodGet, URL: next, Bearer: p.graph, Long: true}, &page); err != nil {
			return err
		}
		for _, one := range page.Value {
			if err := do(one); err != nil {
				return err
			}
		}
		if next = page.Next; next != "" && !strings.HasPrefix(next, p.graphAt("/")) {
			return errors.New("the next page of a list is elsewhere: our token does not go there")
		}
	}
	return nil
}

func (p principals) List(ctx context.Context, do func(string, cloud.Shell) error) error {
	states := map[string]cloud.State{}
	ours := "startswith(displayName,'" + p.prefix() + "')"
	err := p.each(ctx, "/applications", ours, func(a application) error {
		lease, ours := p.lease(a.DisplayName)
		if !ours || a.UniqueName != a.DisplayName { // a name to show is anybody's to choose
			return nil
		}
		states[lease] = a.shell().State
		return do(lease, a.shell())
	})
	// What is left without a live application.
	left := func(name string) error {
		if lease, ours := p.lease(name); ours && states[lease] != cloud.Live {
			return do(lease, cloud.Shell{State: cloud.Live})
		}
		return nil
	}
	if err == nil {
		err = p.each(ctx, "/servicePrincipals", ours, func(a application) error { return left(a.DisplayName) })
	}
	for _, scope := range p.settings.Manage.Scopes {
		if err == nil {
			err = p.assignments(ctx, scope, "", func(r roleAssignment) error { return left(r.Properties.Description) })
		}
	}
	return err
}

// Sweep takes what was deleted and not yet hard-deleted: until then it counts against the directory's quota.
func (p principals) Sweep(ctx context.Context) error {
	return p.purge(ctx, "startswith(displayName,'"+p.prefix()+"')")
}

func (p principals) Mark(ctx context.Context) (string, error) {
	found, err := p.read(ctx, p.prefix()+"mark")
	return found.Notes, err
}

func (p principals) SetMark(ctx context.Context, text string, fresh bool) (bool, error) {
	name := p.prefix() + "mark"
	if fresh {
		first, err := p.create(ctx, name, "")
		if err == nil && !first {
			// It was there, and may be one that nobody came to write on.
			var found application
			found, err = p.see(ctx, name)
			first = found.Notes == ""
		}
		if err != nil || !first {
			return false, err
		}
	}
	return true, p.jot(ctx, name, text)
}
