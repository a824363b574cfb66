package azuretest

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const graphResource = "https://graph.microsoft.com"

func (c *Cloud) routes() {
	tenant := "/" + c.cfg.Tenant
	c.handle("GET "+tenant+"/v2.0/.well-known/openid-configuration", c.configuration)
	c.handle("POST "+tenant+"/oauth2/v2.0/token", c.assert)
	c.handle("POST /{tenant}/oauth2/v2.0/token", c.noTenant)
	c.handle("GET /v1.0/{collection}", c.graphGet)
	c.handle("PATCH /v1.0/{collection}", c.graphUpsert)
	c.handle("PATCH /v1.0/applications/{id}", c.update)
	c.handle("PATCH /v1.0/applications/{id}/{credential}", c.federate)
	c.handle("DELETE /v1.0/applications/{id}/federatedIdentityCredentials/{name}", c.defederate)
	c.handle("DELETE /v1.0/{collection}/{id}", c.remove)
	c.handle("DELETE /v1.0/directory/deletedItems/{id}", c.purge)
	c.handle("GET /v1.0/directory/deletedItems/{kind}", c.listDeleted)
	c.handle("PUT /subscriptions/{rest...}", c.assign)
	c.handle("GET /subscriptions/{rest...}", c.arm)
	c.handle("DELETE /subscriptions/{rest...}", c.arm)
}

// manages refuses who is not the manager, or may not use Graph.
func (c *Cloud) manages(r *http.Request) (token, error) {
	t, err := c.bearer(r, graphResource)
	if err == nil && (t.appID != c.cfg.Manager || !c.graph) {
		err = forbidden()
	}
	return t, err
}

var keyForm = regexp.MustCompile(`^(applications|servicePrincipals)\((uniqueName|appId)='([^']*)'\)$`)

// byKey finds an object by an alternate key.
func (c *Cloud) byKey(collection string) (found *object, kind, key, value string) {
	parts := keyForm.FindStringSubmatch(collection)
	if parts == nil {
		return nil, "", "", ""
	}
	all := c.apps
	if parts[1] == "servicePrincipals" {
		all = c.principals
	}
	for _, o := range all {
		if parts[2] == "uniqueName" && o.unique == parts[3] || parts[2] == "appId" && o.appID == parts[3] {
			return o, parts[1], parts[2], parts[3]
		}
	}
	return nil, parts[1], parts[2], parts[3]
}

func (o *object) show() map[string]any {
	return map[string]any{"id": o.id, "appId": o.appID, "displayName": o.display, "description": orNull(o.description), "notes": orNull(o.notes), "uniqueName": orNull(o.unique)}
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// graphGet reads one object by a key, or a collection.
func (c *Cloud) graphGet(r *http.Request, _ map[string]any) (answer, error) {
	if _, err := c.manages(r); err != nil {
		return answer{}, err
	}
	switch r.PathValue("collection") {
	case "applications":
		return c.page(r, c.apps)
	case "servicePrincipals":
		return c.page(r, c.principals)
	}
	found, _, _, value := c.byKey(r.PathValue("collection"))
	if found == nil || hide(&found.hidden) {
		return answer{}, missing(value)
	}
	return ok(found.show())
}

var filterForm = regexp.MustCompile(`^(?:startswith\(displayName,'([^']*)'\)|displayName eq '([^']*)')$`)

// page shows two objects a page, so that there are pages.
func (c *Cloud) page(r *http.Request, all []*object) (answer, error) {
	filter := filterForm.FindStringSubmatch(r.FormValue("$filter"))
	if filter == nil {
		return answer{}, errors.New("the filter is not one that this knows")
	}
	var fits []*object
	for _, o := range all {
		if filter[1] != "" && strings.HasPrefix(o.display, filter[1]) || filter[2] != "" && o.display == filter[2] {
			fits = append(fits, o)
		}
	}
	from, _ := strconv.Atoi(r.FormValue("$skiptoken"))
	out, shown := map[string]any{}, []any{}
	for i := from; i < len(fits) && i < from+2; i++ {
		shown = append(shown, fits[i].show())
	}
	if from+2 < len(fits) {
		query := url.Values{"$filter": {r.FormValue("$filter")}, "$skiptoken": {strconv.Itoa(from + 2)}}
		out["@odata.nextLink"] = c.url + r.URL.Path + "?" + query.Encode()
	}
	out["value"] = shown
	return ok(out)
}

// graphUpsert makes an object of a key, or changes it.
func (c *Cloud) graphUpsert(r *http.Request, body map[string]any) (answer, error) {
	who, err := c.manages(r)
	if err != nil {
		return answer{}, err
	}
	found, kind, key, value := c.byKey(r.PathValue("collection"))
	switch {
	case kind == "" || r.Header.Get("Prefer") != "create-if-missing":
		return answer{}, missing(value)
	case found != nil:
		if found.owner != who.appID {
			return answer{}, forbidden()
		}
		return changed(change(found, body))
	}
	made := &object{id: c.guid(), owner: who.appID, hidden: c.lag}
	if kind == "applications" && key == "uniqueName" {
		if slices.ContainsFunc(c.deleted, func(o *object) bool { return o.unique == value }) {
			return answer{}, refusal{http.StatusConflict, "ObjectConflict", "Another object with the same value for property uniqueName already exists."}
		}
		made.kind, made.appID, made.unique, made.federated = "application", c.guid(), value, map[string]federation{}
		if err := change(made, body); err != nil {
			return answer{}, err
		}
		c.apps = append(c.apps, made)
		return answer{http.StatusCreated, made.show()}, nil
	}
	app := c.application(value)
	if app == nil || hide(&app.hidden) {
		return answer{}, refusal{http.StatusBadRequest, "NoBackingApplicationObject", "The appId does not reference a valid application object."}
	}
	if app.owner != who.appID {
		return answer{}, forbidden()
	}
	made.kind, made.appID, made.display = "servicePrincipal", value, app.display
	c.enlist(made)
	return answer{http.StatusCreated, made.show()}, nil
}

func changed(err error) (answer, error) { return answer{http.StatusNoContent, nil}, err }

// change writes the properties that are known, of which some are bounded.
func change(o *object, body map[string]any) error {
	for name, value := range body {
		text, isText := value.(string)
		switch {
		case name == "displayName" && isText && len(text) <= 256 && text != "":
			o.display = text
		case name == "description" && isText && len(text) <= 1024:
			o.description = text
		case name == "notes" && isText && len(text) <= 1024:
			o.notes = text
		case name == "signInAudience", name == "tags":
		default:
			return errors.New("invalid property '" + name + "'")
		}
	}
	return nil
}

// owned is an object by its ID that the caller may change.
func (c *Cloud) owned(r *http.Request, all []*object) (*object, error) {
	who, err := c.manages(r)
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if o.id == r.PathValue("id") {
			if o.owner != who.appID {
				return nil, forbidden()
			}
			return o, nil
		}
	}
	return nil, missing(r.PathValue("id"))
}

func (c *Cloud) update(r *http.Request, body map[string]any) (answer, error) {
	o, err := c.owned(r, c.apps)
	if err != nil {
		return answer{}, err
	}
	return changed(change(o, body))
}

var credentialForm = regexp.MustCompile(`^federatedIdentityCredentials\(name='([A-Za-z0-9-]{3,120})'\)$`)

func (c *Cloud) federate(r *http.Request, body map[string]any) (answer, error) {
	o, err := c.owned(r, c.apps)
	if err != nil {
		return answer{}, err
	}
	name := credentialForm.FindStringSubmatch(r.PathValue("credential"))
	if name == nil || r.Header.Get("Prefer") != "create-if-missing" {
		return answer{}, missing(r.PathValue("credential"))
	}
	f := federation{hidden: c.lag}
	f.issuer, _ = body["issuer"].(string)
	f.subject, _ = body["subject"].(string)
	f.audiences, _ = body["audiences"].([]any)
	if f.issuer == "" || f.subject == "" || len(f.audiences) != 1 {
		return answer{}, errors.New("the federated credential is not one")
	}
	status := http.StatusCreated
	if _, there := o.federated[name[1]]; there {
		status = http.StatusNoContent
	}
	o.federated[name[1]] = f
	return answer{status, nil}, nil
}

func (c *Cloud) defederate(r *http.Request, _ map[string]any) (answer, error) {
	o, err := c.owned(r, c.apps)
	if err != nil {
		return answer{}, err
	}
	if _, there := o.federated[r.PathValue("name")]; !there {
		return answer{}, missing(r.PathValue("name"))
	}
	delete(o.federated, r.PathValue("name"))
	return done()
}

// remove deletes an object into deleted items; an application takes its service principal along.
func (c *Cloud) remove(r *http.Request, _ map[string]any) (answer, error) {
	all := c.apps
	if r.PathValue("collection") == "servicePrincipals" {
		all = c.principals
	}
	o, err := c.owned(r, all)
	if err != nil {
		return answer{}, err
	}
	c.drop(o)
	return done()
}

func (c *Cloud) drop(o *object) {
	is := func(other *object) bool { return other == o }
	c.apps, c.principals = slices.DeleteFunc(c.apps, is), slices.DeleteFunc(c.principals, is)
	o.hidden = c.lag
	c.deleted = append(c.deleted, o)
	if o.kind == "application" {
		if p := c.principal(o.appID); p != nil {
			c.drop(p)
		}
	}
}

// purge deletes for good.
func (c *Cloud) purge(r *http.Request, _ map[string]any) (answer, error) {
	o, err := c.owned(r, c.deleted)
	if err == nil && hide(&o.hidden) {
		err = missing(r.PathValue("id"))
	}
	if err != nil {
		return answer{}, err
	}
	c.deleted = slices.DeleteFunc(c.deleted, func(other *object) bool { return other == o })
	return done()
}

func (c *Cloud) listDeleted(r *http.Request, _ map[string]any) (answer, error) {
	if _, err := c.manages(r); err != nil {
		return answer{}, err
	}
	kind, known := strings.CutPrefix(r.PathValue("kind"), "microsoft.graph.")
	if !known {
		return answer{}, errors.New("a cast is needed")
	}
	var all []*object
	for _, o := range c.deleted {
		if o.kind == kind {
			all = append(all, o)
		}
	}
	return c.page(r, all)
}
