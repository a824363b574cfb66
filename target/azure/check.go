package azure

import (
	"context"
	"net/http"
	"net/url"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
)

// howto says what to apply.
const howto = "docs/howto/azure-target.md says which rights the manager needs"

// Inspect tries what applications per lease take, and changes nothing.
func (p principals) Inspect(ctx context.Context) ([]target.Finding, error) {
	var found []target.Finding
	nobody := "00000000-0000-0000-0000-000000000000"
	one := "?" + url.Values{"$top": {"1"}, "$filter": {"startswith(displayName,'" + p.prefix() + "')"}}.Encode()
	tries := []struct {
		what string
		try  func() error
	}{
		{"be taken for Graph", func() error { _, err := p.graph.Text(ctx); return err }},
		{"be taken for the Resource Manager", func() error { _, err := p.arm.Text(ctx); return err }},
		{"list applications", func() error { _, err := p.onGraph(ctx, http.MethodGet, "/applications"+one, nil, nil); return err }},
		{"list deleted applications", func() error {
			_, err := p.onGraph(ctx, http.MethodGet, "/directory/deletedItems/microsoft.graph.application"+one, nil, nil)
			return err
		}},
	}
	for _, scope := range p.settings.Manage.Scopes {
		tries = append(tries, []struct {
			what string
			try  func() error
		}{
			{"list role assignments at " + scope, func() error {
				return p.assignments(ctx, scope, nobody, func(roleAssignment) error { return nil })
			}},
			{"delete role assignments at " + scope, func() error {
				return p.unassign(ctx, scope+authorization+"/roleAssignments/"+nobody)
			}},
		}...)
	}
	for i, t := range tries {
		if i == 2 && len(found) > 0 {
			return found, nil // what nobody can be asked for
		}
		err := t.try()
		if cloud.IsStatus(err, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound) {
			found = append(found, target.Finding{Severity: target.Problem, Message: "the manager may not " + t.what + ": " + err.Error(), Fix: howto})
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}
