package azure_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/daypass/daypass/target/azure"
	"github.com/daypass/daypass/target/azure/azuretest"
	"github.com/daypass/daypass/target/cloud/cloudtest"
)

// liar answers as the stand-in does, but for lists of role assignments, and counts what it is told to delete.
func liar(t *testing.T, r *rig, assignments func(page int) any) (url string, deleted func() []string) {
	t.Helper()
	var all []string
	pages := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodDelete {
			all = append(all, q.URL.Path)
		}
		if q.Method == http.MethodGet && strings.HasSuffix(q.URL.Path, "/roleAssignments") {
			pages++
			if err := json.NewEncoder(w).Encode(assignments(pages)); err != nil {
				t.Error(err)
			}
			return
		}
		r.ServeHTTP(w, q)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string { return all }
}

// Whoever may assign roles writes descriptions, and an answer may be wrong: of what a list names, assignments alone are deleted.
func TestNothingButAssignmentsIsDeletedAsOne(t *testing.T) {
	for _, id := range []string{
		orders, bills + "/providers/Microsoft.Storage/storageAccounts/acme", "/subscriptions/x/../../tenant",
		orders + "/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7",
		orders + "/providers/Microsoft.Authorization/roleAssignments/acdd72a7-3385-48ef-bd42-f606fba81ae7/../../x",
		orders + "/providers/Microsoft.Authorization/roleAssignments/acdd72a7-3385-48ef-bd42-f606fba81ae7?x=", "",
	} {
		r := newRig(t, cloudtest.Keys(t))
		g := r.grant(leaseRights)
		url, deleted := liar(t, r, func(int) any {
			return map[string]any{"value": []any{map[string]any{"id": id, "properties": map[string]string{"description": "dp_abc234_" + g.Lease}}}}
		})
		if _, err := r.principals(r.url, 0).Grant(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		if err := r.principals(url, 0).Revoke(t.Context(), g.Lease); err == nil {
			t.Errorf("%q: revoked", id)
		}
		for _, path := range deleted() {
			if id != "" && strings.EqualFold(path, id) {
				t.Errorf("%q was deleted", path)
			}
		}
	}
}

// The token goes along with the request for a next page.
func TestATokenDoesNotFollowAListElsewhere(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		t.Errorf("it was asked for %s with %d bytes of Authorization", q.URL.Path, len(q.Header.Get("Authorization")))
	}))
	t.Cleanup(elsewhere.Close)
	r := newRig(t, cloudtest.Keys(t))
	g := r.grant(leaseRights)
	if _, err := r.principals(r.url, 0).Grant(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	var url string
	for _, next := range []string{elsewhere.URL + "/x", "//" + strings.TrimPrefix(elsewhere.URL, "http://"), "URL@" + strings.TrimPrefix(elsewhere.URL, "http://")} {
		url, _ = liar(t, r, func(int) any {
			return map[string]any{"value": []any{}, "nextLink": strings.Replace(next, "URL", url, 1)}
		})
		if err := r.principals(url, 0).Revoke(t.Context(), g.Lease); err == nil {
			t.Errorf("%s: revoked, though not all was seen", next)
		}
	}
}

func TestNoRoleOfALeaseMayAssignRoles(t *testing.T) {
	for name, role := range map[string]string{
		"Owner":                               "8E3AF657-A8FF-443C-A75C-2FE8C4BCB635",
		"User Access Administrator":           "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
		"Key Vault Data Access Administrator": "8b54135c-b56d-4d72-a534-26097cfdc8d8",
		"Virtual Machine Data Access":         "66f75aeb-eabe-4b70-9f1e-c350c4c9ad04",
	} {
		rights := azure.Rights{PerLease: true, Assignments: []azure.Assignment{{On: orders, Roles: []string{role}}}}
		if rights.Validate() == nil {
			t.Errorf("%s is taken", name)
		}
	}
	for _, on := range []string{orders + "'", orders + "/../..", orders + "?x=y", orders + "#", orders + "%2f..", orders + "/", orders + "\n", "/subscriptions/x y"} {
		rights := azure.Rights{PerLease: true, Assignments: []azure.Assignment{{On: on, Roles: []string{azuretest.Reader}}}}
		if rights.Validate() == nil {
			t.Errorf("%q is a scope", on)
		}
	}
}
