package gcptest

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (c *Cloud) routes() {
	c.handle("POST /v1/token", c.federate)
	c.handle("POST /v1/projects/{project}/serviceAccounts/{verb}", c.verb)
	c.handle("POST /v1/projects/{project}/serviceAccounts", c.create)
	c.handle("GET /v1/projects/{project}/serviceAccounts", c.list)
	c.handle("GET /v1/projects/{project}/serviceAccounts/{email}", c.get)
	c.handle("PATCH /v1/projects/{project}/serviceAccounts/{email}", c.patch)
	c.handle("DELETE /v1/projects/{project}/serviceAccounts/{email}", c.remove)
	c.handle("POST /v3/projects/{verb}", c.projectPolicy)
	c.handle("GET /storage/v1/b/{bucket}/iam", c.bucketPolicy)
	c.handle("PUT /storage/v1/b/{bucket}/iam", c.setBucketPolicy)
	c.handle("GET /storage/v1/b/{bucket}/iam/testPermissions", func(r *http.Request, _ map[string]any) (any, error) {
		return c.test(r, "buckets/"+r.PathValue("bucket"), r.URL.Query()["permissions"])
	})
	c.handle("GET /storage/v1/b/{bucket}/o", c.objects)
	c.handle("DELETE /storage/v1/b/{bucket}/o/{object}", c.objects)
}

// verb is what is asked for with a colon: of accounts, and of tokens for them.
func (c *Cloud) verb(r *http.Request, body map[string]any) (any, error) {
	email, verb, _ := strings.Cut(r.PathValue("verb"), ":")
	switch verb {
	case "generateAccessToken":
		return c.impersonate(r, email, body)
	case "disable":
		a, err := c.account(r, "iam.serviceAccounts.disable", email)
		if err != nil {
			return nil, err
		}
		if !a.disabled {
			a.disabled, a.ended = true, c.cfg.Now()
		}
		return map[string]any{}, nil
	}
	return nil, missing("there is no method " + verb)
}

// impersonate is iamcredentials.googleapis.com. With - for a project, what does not exist is denied.
func (c *Cloud) impersonate(r *http.Request, email string, body map[string]any) (any, error) {
	if c.provider.Mute {
		return nil, refusal{http.StatusForbidden, "PERMISSION_DENIED", "IAM Service Account Credentials API has not been used in project 123456 before or it is disabled."}
	}
	who, err := c.may(r, "iam.serviceAccounts.getAccessToken", nil, "accounts/"+email, c.home(email))
	if err != nil {
		return nil, err
	}
	a := c.accounts[email]
	if a == nil || hide(&a.hidden) || a.disabled {
		return nil, deny("iam.serviceAccounts.getAccessToken", email)
	}
	lifetime, _ := body["lifetime"].(string)
	life, err := time.ParseDuration(lifetime)
	scopes, _ := body["scope"].([]any)
	if err != nil || life <= 0 || life > time.Hour || len(scopes) == 0 {
		return nil, invalid("the lifetime is not one")
	}
	expires := c.cfg.Now().Add(life).Truncate(time.Second)
	t := token{email: email, name: who.name, expires: expires}
	for _, s := range scopes {
		text, _ := s.(string)
		t.scopes = append(t.scopes, text)
	}
	return map[string]any{"accessToken": c.give(t), "expireTime": expires.UTC().Format(time.RFC3339)}, nil
}

// home is the project of an account.
func (c *Cloud) home(email string) string {
	_, domain, _ := strings.Cut(email, "@")
	project, _, _ := strings.Cut(domain, ".")
	return "projects/" + project
}

func hide(looks *int) bool {
	if *looks > 0 {
		*looks--
		return true
	}
	return false
}

// account is one that the caller may do something with.
func (c *Cloud) account(r *http.Request, permission, email string) (*account, error) {
	if _, err := c.may(r, permission, nil, "projects/"+r.PathValue("project")); err != nil {
		return nil, err
	}
	a := c.accounts[email]
	if a == nil || c.home(email) != "projects/"+r.PathValue("project") {
		return nil, missing("Unknown service account")
	}
	return a, nil
}

func (a *account) show(project string) map[string]any {
	out := map[string]any{"name": "projects/" + project + "/serviceAccounts/" + a.email, "projectId": project, "uniqueId": a.uid, "email": a.email, "displayName": a.display, "description": a.description}
	if a.disabled {
		out["disabled"] = true
	}
	return out
}

var idForm = regexp.MustCompile(`^[a-z]([-a-z0-9]{4,28}[a-z0-9])$`)

func (c *Cloud) create(r *http.Request, body map[string]any) (any, error) {
	project := r.PathValue("project")
	if _, err := c.may(r, "iam.serviceAccounts.create", nil, "projects/"+project); err != nil {
		return nil, err
	}
	id, _ := body["accountId"].(string)
	about, _ := body["serviceAccount"].(map[string]any)
	display, _ := about["displayName"].(string)
	description, _ := about["description"].(string)
	if !idForm.MatchString(id) || len(display) > 100 || len(description) > 256 {
		return nil, invalid("the account ID, the display name or the description is not one")
	}
	email := id + "@" + project + ".iam.gserviceaccount.com"
	if c.accounts[email] != nil {
		return nil, refusal{http.StatusConflict, "ALREADY_EXISTS", "Service account " + id + " already exists within project " + project + "."}
	}
	a := c.make(email)
	a.display, a.description, a.hidden = display, description, c.lag
	return a.show(project), nil
}

func (c *Cloud) get(r *http.Request, _ map[string]any) (any, error) {
	email := r.PathValue("email")
	for _, gone := range c.deleted {
		if gone.email == email && c.accounts[email] == nil && hide(&gone.ghost) {
			return gone.show(r.PathValue("project")), nil
		}
	}
	a, err := c.account(r, "iam.serviceAccounts.get", email)
	if err == nil && hide(&a.hidden) {
		err = missing("Unknown service account")
	}
	if err != nil {
		return nil, err
	}
	return a.show(r.PathValue("project")), nil
}

// list shows two accounts a page, so that there are pages.
func (c *Cloud) list(r *http.Request, _ map[string]any) (any, error) {
	project := r.PathValue("project")
	if _, err := c.may(r, "iam.serviceAccounts.list", nil, "projects/"+project); err != nil {
		return nil, err
	}
	var emails []string
	for email := range c.accounts {
		if c.home(email) == "projects/"+project {
			emails = append(emails, email)
		}
	}
	slices.Sort(emails)
	from, _ := strconv.Atoi(r.FormValue("pageToken"))
	size, _ := strconv.Atoi(r.FormValue("pageSize"))
	size = min(size, 2)
	out := map[string]any{}
	shown := []any{}
	for i := from; i < len(emails) && i < from+size; i++ {
		shown = append(shown, c.accounts[emails[i]].show(project))
	}
	if from+size < len(emails) {
		out["nextPageToken"] = strconv.Itoa(from + size)
	}
	out["accounts"] = shown
	return out, nil
}

func (c *Cloud) patch(r *http.Request, body map[string]any) (any, error) {
	a, err := c.account(r, "iam.serviceAccounts.update", r.PathValue("email"))
	if err != nil {
		return nil, err
	}
	about, _ := body["serviceAccount"].(map[string]any)
	description, _ := about["description"].(string)
	if body["updateMask"] != "description" || len(description) > 256 {
		return nil, invalid("the mask or the description is not one")
	}
	a.description = description
	return a.show(r.PathValue("project")), nil
}

// remove deletes an account. In policies it stays under another name.
func (c *Cloud) remove(r *http.Request, _ map[string]any) (any, error) {
	a, err := c.account(r, "iam.serviceAccounts.delete", r.PathValue("email"))
	if err != nil {
		return nil, err
	}
	c.drop(a)
	return map[string]any{}, nil
}

func (c *Cloud) drop(a *account) {
	delete(c.accounts, a.email)
	if a.ended.IsZero() {
		a.ended = c.cfg.Now()
	}
	a.ghost = c.lag
	c.deleted = append(c.deleted, a)
	for _, p := range c.policies {
		for _, b := range p.bindings {
			for i, m := range b["members"].([]any) {
				if m == "serviceAccount:"+a.email {
					b["members"].([]any)[i] = "deleted:serviceAccount:" + a.email + "?uid=" + a.uid
				}
			}
		}
	}
}

// projectPolicy is cloudresourcemanager.googleapis.com.
func (c *Cloud) projectPolicy(r *http.Request, body map[string]any) (any, error) {
	id, verb, _ := strings.Cut(r.PathValue("verb"), ":")
	on := "projects/" + id
	switch verb {
	case "testIamPermissions":
		var asked []string
		all, _ := body["permissions"].([]any)
		for _, one := range all {
			permission, _ := one.(string)
			asked = append(asked, permission)
		}
		return c.test(r, on, asked)
	case "getIamPolicy":
		if _, err := c.may(r, "resourcemanager.projects.getIamPolicy", nil, on); err != nil {
			return nil, err
		}
		options, _ := body["options"].(map[string]any)
		if options["requestedPolicyVersion"] == float64(3) {
			return c.policy(on).show("3"), nil
		}
		return c.policy(on).show("1"), nil
	case "setIamPolicy":
		written, _ := body["policy"].(map[string]any)
		return c.set(r, "resourcemanager.projects.setIamPolicy", on, written,
			refusal{http.StatusConflict, "ABORTED", "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff."})
	}
	return nil, missing("there is no method " + verb)
}

// test tells a caller which permissions it has on a resource.
func (c *Cloud) test(r *http.Request, on string, asked []string) (any, error) {
	if _, _, err := c.caller(r); err != nil {
		return nil, err
	}
	held := slices.DeleteFunc(asked, func(permission string) bool {
		_, err := c.may(r, permission, nil, on)
		return err != nil
	})
	return map[string]any{"permissions": held}, nil
}

// bucketPolicy is storage.googleapis.com.
func (c *Cloud) bucketPolicy(r *http.Request, _ map[string]any) (any, error) {
	on := "buckets/" + r.PathValue("bucket")
	if _, err := c.may(r, "storage.buckets.getIamPolicy", nil, on); err != nil {
		return nil, err
	}
	return c.policy(on).show(r.FormValue("optionsRequestedPolicyVersion")), nil
}

func (c *Cloud) setBucketPolicy(r *http.Request, body map[string]any) (any, error) {
	return c.set(r, "storage.buckets.setIamPolicy", "buckets/"+r.PathValue("bucket"), body,
		refusal{http.StatusPreconditionFailed, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."})
}

// objects is what a credential is for here. All buckets are of the project acme-prod.
func (c *Cloud) objects(r *http.Request, _ map[string]any) (any, error) {
	permission := "storage.objects.list"
	if r.Method == http.MethodDelete {
		permission = "storage.objects.delete"
	}
	t, err := c.may(r, permission, nil, "buckets/"+r.PathValue("bucket"), "projects/acme-prod")
	if err == nil && !slices.ContainsFunc(t.scopes, func(s string) bool {
		return s == "https://www.googleapis.com/auth/cloud-platform" || strings.HasPrefix(s, "https://www.googleapis.com/auth/devstorage.")
	}) {
		err = refusal{http.StatusForbidden, "PERMISSION_DENIED", "Request had insufficient authentication scopes."}
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{"kind": "storage#objects"}, nil
}
