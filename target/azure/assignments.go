package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/daypass/daypass/target/cloud"
)

// authorization is where role assignments are, and the version of their interface:
// learn.microsoft.com/rest/api/authorization/role-assignments.
const (
	authorization = "/providers/Microsoft.Authorization"
	apiVersion    = "2022-04-01"
)

// roleAssignment is what the Resource Manager says of one.
type roleAssignment struct {
	ID         string `json:"id"`
	Properties struct {
		PrincipalID string `json:"principalId"`
		Description string `json:"description"`
	} `json:"properties"`
}

func (p principals) armAt(rest string, query url.Values) string {
	if query == nil {
		query = url.Values{}
	}
	query.Set("api-version", apiVersion)
	return cmp.Or(p.settings.ResourceManager, armAddress) + rest + "?" + query.Encode()
}

func (p principals) onARM(ctx context.Context, method, rest string, body any) error {
	_, err := p.call.Do(ctx, cloud.Request{Method: method, URL: p.armAt(rest, nil), Bearer: p.arm, Body: body}, nil)
	return err
}

// assign gives a role at a place to a service principal. Its type is said so that the Resource Manager does not look for a
// principal that it does not know yet.
func (p principals) assign(ctx context.Context, lease, id, on, role string) error {
	subscription := strings.Join(strings.SplitN(on, "/", 4)[:3], "/")
	err := p.onARM(ctx, http.MethodPut, on+authorization+"/roleAssignments/"+p.assignment(lease, on, role), map[string]any{"properties": map[string]any{
		"roleDefinitionId": subscription + authorization + "/roleDefinitions/" + role,
		"principalId":      id, "principalType": "ServicePrincipal", "description": p.name(lease),
	}})
	if e, ok := errors.AsType[*cloud.StatusError](err); ok && e.Status == http.StatusConflict && e.Code == "RoleAssignmentExists" {
		return nil // a try of ours made it
	}
	return early(err)
}

// release deletes the role assignments of a lease: those that its role says by their names, and those that are found, by
// principal where it is known and by our description otherwise.
func (p principals) release(ctx context.Context, lease, id string, text json.RawMessage) error {
	if rights, err := cloud.ReadRights[Rights](text); err == nil {
		for _, a := range rights.Assignments {
			for _, role := range a.Roles {
				if err := p.unassign(ctx, a.On+authorization+"/roleAssignments/"+p.assignment(lease, a.On, role)); err != nil {
					return err
				}
			}
		}
	}
	for _, scope := range p.settings.Manage.Scopes {
		var found []string
		err := p.assignments(ctx, scope, id, func(r roleAssignment) error {
			if r.Properties.Description == p.name(lease) || id != "" && strings.EqualFold(r.Properties.PrincipalID, id) {
				found = append(found, r.ID)
			}
			return nil
		})
		for _, one := range found {
			if err == nil {
				err = p.unassign(ctx, one)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p principals) unassign(ctx context.Context, id string) error {
	if !assignmentForm.MatchString(id) {
		return errors.New("a role assignment has an ID that is none: nothing else is deleted in its place")
	}
	return cloud.Absent(p.onARM(ctx, http.MethodDelete, id, nil))
}

// assignments visits the role assignments at a scope and below, of one principal where one is given.
func (p principals) assignments(ctx context.Context, scope, id string, do func(roleAssignment) error) error {
	query := url.Values{}
	if id != "" {
		query.Set("$filter", "principalId eq '"+id+"'")
	}
	next := p.armAt(scope+authorization+"/roleAssignments", query)
	for next != "" {
		var page struct {
			Value []roleAssignment `json:"value"`
			Next  string           `json:"nextLink"`
		}
		if _, err := p.call.Do(ctx, cloud.Request{Method: http.MethodGet, URL: next, Bearer: p.arm, Long: true}, &page); err != nil {
			return err
		}
		for _, one := range page.Value {
			if err := do(one); err != nil {
				return err
			}
		}
		if next = page.Next; next != "" && !strings.HasPrefix(next, cmp.Or(p.settings.ResourceManager, armAddress)+"/") {
			return errors.New("the next page of a list is elsewhere: our token does not go there")
		}
	}
	return nil
}
