package azure

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
)

// howto says what to apply.
const howto = "docs/howto/azure-target.md says which rights the manager needs"

// nobody is the ID of nothing.
const nobody = "00000000-0000-0000-0000-000000000000"

// Inspect tries what applications per lease take, and changes nothing. Whether the manager may make applications nobody can ask
// Graph.
func (p principals) Inspect(ctx context.Context, role string) (found []target.Finding, err error) {
	for _, resource := range []string{graphAddress, armAddress} {
		if found, err = p.tryManager(ctx, role, resource+"/.default"); err != nil || len(found) > 0 {
			return found, err // what nobody can be asked for
		}
	}
	one := "?" + url.Values{"$top": {"1"}, "$filter": {"startswith(displayName,'" + p.prefix() + "')"}}.Encode()
	try := func(what string, err error) error {
		if cloud.IsStatus(err, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound) {
			found = append(found, target.Finding{Severity: target.Problem, Message: "the manager may not " + what + ": " + err.Error(), Fix: howto})
			return nil
		}
		return err
	}
	_, err = p.onGraph(ctx, http.MethodGet, "/applications"+one, nil, nil)
	if err = try("list applications", err); err != nil {
		return nil, err
	}
	_, err = p.onGraph(ctx, http.MethodGet, "/directory/deletedItems/microsoft.graph.application"+one, nil, nil)
	if err = try("list deleted applications", err); err != nil {
		return nil, err
	}
	for _, scope := range p.settings.Manage.Scopes {
		err := try("list role assignments at "+scope, p.assignments(ctx, scope, nobody, func(roleAssignment) error { return nil }))
		if err == nil {
			err = try("delete role assignments at "+scope, p.unassign(ctx, scope+authorization+"/roleAssignments/"+nobody))
		}
		if err != nil {
			return nil, err
		}
		asked, err := p.ask(ctx, scope)
		if err != nil {
			return nil, err
		}
		found = append(found, asked...)
	}
	return found, nil
}

// permission is what the Resource Manager says that a caller may do: learn.microsoft.com/rest/api/authorization/permissions.
type permission struct {
	Actions    []string `json:"actions"`
	NotActions []string `json:"notActions"`
}

// ask asks what the manager may do at a resource group. Of subscriptions Microsoft documents no such question.
func (p principals) ask(ctx context.Context, scope string) (found []target.Finding, err error) {
	if !strings.Contains(scope, "/resourceGroups/") {
		return nil, nil
	}
	var answer struct {
		Value []permission `json:"value"`
	}
	_, err = p.call.Do(ctx, cloud.Request{Method: http.MethodGet, URL: p.armAt(scope+authorization+"/permissions", nil), Bearer: p.arm, Long: true}, &answer)
	if cloud.IsStatus(err, http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound) {
		return []target.Finding{{Severity: target.Note, Message: fmt.Sprintf("what the manager may do at %s cannot be asked: %v", scope, err)}}, nil
	}
	if err != nil {
		return nil, err
	}
	may := func(action string) bool {
		return slices.ContainsFunc(answer.Value, func(one permission) bool { return one.gives(action) })
	}
	if !may("Microsoft.Authorization/roleAssignments/write") {
		found = append(found, target.Finding{Severity: target.Problem, Message: "the manager may not assign roles at " + scope + ": it lacks Microsoft.Authorization/roleAssignments/write", Fix: howto})
	}
	for _, action := range []string{"Microsoft.Authorization/roleDefinitions/write", "Microsoft.Resources/subscriptions/resourceGroups/delete"} {
		if may(action) {
			found = append(found, target.Finding{Severity: target.Warning, Message: fmt.Sprintf("the manager may more at %s than assign roles: it has %s and does not need it", scope, action), Fix: howto})
		}
	}
	return found, nil
}

// gives reports whether a permission has an action, by its patterns, in which * stands for anything.
func (p permission) gives(action string) bool {
	fits := func(pattern string) bool {
		ok, err := regexp.MatchString("(?i)^"+strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*")+"$", action)
		return ok && err == nil
	}
	return slices.ContainsFunc(p.Actions, fits) && !slices.ContainsFunc(p.NotActions, fits)
}
