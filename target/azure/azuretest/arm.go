package azuretest

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

const armResource = "https://management.azure.com"

// Reader and Contributor are the role definitions that this knows.
const (
	Reader      = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	Contributor = "b24988ac-6180-42a0-ab88-20f7382dd24c"
)

const assignments = "/providers/microsoft.authorization/roleassignments"

// may reports whether the manager may write role assignments at a scope, of a role where one is given.
func (c *Cloud) may(t token, scope, role string) bool {
	for at, roles := range c.grants {
		if t.appID == c.cfg.Manager && (scope == at || strings.HasPrefix(scope, at+"/")) && (role == "" || slices.Contains(roles, role)) {
			return true
		}
	}
	return false
}

func denied() error {
	return refusal{http.StatusForbidden, "AuthorizationFailed", "The client does not have authorization to perform the action over the scope."}
}

var guidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// assign makes a role assignment.
func (c *Cloud) assign(r *http.Request, body map[string]any) (answer, error) {
	t, err := c.bearer(r, armResource)
	if err != nil {
		return answer{}, err
	}
	path := strings.ToLower(r.URL.Path)
	scope, name, known := strings.Cut(path, assignments+"/")
	if !known || !guidForm.MatchString(name) || r.FormValue("api-version") != "2022-04-01" {
		return answer{}, errors.New("the role assignment is not one")
	}
	p, _ := body["properties"].(map[string]any)
	definition, _ := p["roleDefinitionId"].(string)
	principal, _ := p["principalId"].(string)
	description, _ := p["description"].(string)
	_, role, _ := strings.Cut(strings.ToLower(definition), "/roledefinitions/")
	if !c.may(t, scope, role) {
		return answer{}, denied()
	}
	if !slices.Contains([]string{Reader, Contributor}, role) {
		return answer{}, refusal{http.StatusBadRequest, "RoleDefinitionDoesNotExist", "The specified role definition does not exist."}
	}
	// Without its type, a principal that has not been replicated is not found.
	if p["principalType"] != "ServicePrincipal" || !slices.ContainsFunc(c.principals, func(o *object) bool { return o.id == principal }) {
		return answer{}, refusal{http.StatusBadRequest, "PrincipalNotFound", "Principal does not exist in the directory."}
	}
	for _, a := range c.assignments {
		if a.removed.IsZero() && a.scope == scope && a.role == role && a.principal == principal {
			return answer{}, refusal{http.StatusConflict, "RoleAssignmentExists", "The role assignment already exists."}
		}
	}
	if a := c.assignments[path]; a != nil && a.removed.IsZero() {
		return answer{}, refusal{http.StatusBadRequest, "RoleAssignmentUpdateNotPermitted", "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."}
	}
	a := &assignment{id: path, scope: scope, role: role, principal: principal, description: description}
	c.assignments[path] = a
	return answer{http.StatusCreated, a.show()}, nil
}

func (a *assignment) show() map[string]any {
	return map[string]any{"id": a.id, "type": "Microsoft.Authorization/roleAssignments", "properties": map[string]any{
		"roleDefinitionId": a.role, "principalId": a.principal, "principalType": "ServicePrincipal", "scope": a.scope, "description": orNull(a.description),
	}}
}

// arm is what else the Resource Manager is asked: role assignments are listed and deleted, resource groups read and deleted.
func (c *Cloud) arm(r *http.Request, _ map[string]any) (answer, error) {
	t, err := c.bearer(r, armResource)
	if err != nil {
		return answer{}, err
	}
	path := strings.ToLower(r.URL.Path)
	if scope, asked := strings.CutSuffix(path, "/providers/microsoft.authorization/permissions"); asked {
		return c.permissions(t, scope)
	}
	scope, name, known := strings.Cut(path, assignments)
	switch {
	case known && r.Method == http.MethodGet:
		return c.list(r, t, scope)
	case known:
		if !c.may(t, scope, "") {
			return answer{}, denied()
		}
		a := c.assignments[scope+assignments+name]
		if a == nil || !a.removed.IsZero() {
			return done()
		}
		a.removed = c.cfg.Now()
		return ok(a.show())
	}
	role := Reader
	if r.Method == http.MethodDelete {
		role = Contributor
	}
	if !c.has(t, path, role) {
		return answer{}, denied()
	}
	return ok(map[string]any{"id": path})
}

// permissions are what a caller may do at a resource group, as patterns.
func (c *Cloud) permissions(t token, scope string) (answer, error) {
	value := []any{}
	if c.may(t, scope, "") {
		value = append(value, map[string]any{"actions": []string{"Microsoft.Authorization/roleAssignments/*", "*/read"}, "notActions": []string{}})
	}
	if c.has(t, scope, Contributor) {
		value = append(value, map[string]any{"actions": []string{"*"}, "notActions": []string{"Microsoft.Authorization/*/Write", "Microsoft.Authorization/*/Delete"}})
	}
	return ok(map[string]any{"value": value})
}

// list shows the assignments at, above and below a scope, all in one page but for one that shows there are pages.
func (c *Cloud) list(r *http.Request, t token, scope string) (answer, error) {
	if !c.may(t, scope, "") {
		return answer{}, denied()
	}
	_, principal, _ := strings.Cut(r.FormValue("$filter"), "principalId eq ")
	principal = strings.Trim(principal, "'")
	var shown []any
	for _, a := range c.assignments {
		related := a.scope == scope || strings.HasPrefix(a.scope, scope+"/") || strings.HasPrefix(scope, a.scope+"/")
		if a.removed.IsZero() && related && (principal == "" || a.principal == principal) {
			shown = append(shown, a.show())
		}
	}
	if r.FormValue("$skiptoken") == "" {
		query := r.URL.Query()
		query.Set("$skiptoken", "1")
		return ok(map[string]any{"value": []any{}, "nextLink": c.url + r.URL.Path + "?" + query.Encode()})
	}
	return ok(map[string]any{"value": shown})
}

// has reports whether a token's principal has a role at a scope or above it. Whether the principal is still in the
// directory, the Resource Manager does not ask.
func (c *Cloud) has(t token, scope, role string) bool {
	for _, a := range c.assignments {
		counts := a.removed.IsZero() || c.cfg.Now().Before(a.removed.Add(c.settle))
		if counts && c.owners[a.principal] == t.appID && (a.role == role || a.role == Contributor) && (scope == a.scope || strings.HasPrefix(scope, a.scope+"/")) {
			return true
		}
	}
	return false
}
