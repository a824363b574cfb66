package httpapi_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// TestTheDocumentListsEveryCall holds the OpenAPI document to the calls and to itself.
func TestTheDocumentListsEveryCall(t *testing.T) {
	r := newRig(t, nil)
	text := r.ask(t, "GET", "/openapi.json", "").body
	var doc struct {
		OpenAPI    string
		Info       struct{ Title, Version string }
		Paths      map[string]map[string]map[string]any
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") || doc.Info.Title == "" || doc.Info.Version == "" {
		t.Errorf("it is %q of %+v", doc.OpenAPI, doc.Info)
	}
	ids := map[string]bool{}
	described := 0
	for path, methods := range doc.Paths {
		for method, operation := range methods {
			described++
			id, _ := operation["operationId"].(string)
			if id == "" || ids[id] {
				t.Errorf("%s %s: operationId %q", method, path, id)
			}
			ids[id] = true
			for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
				if !strings.Contains(fmt.Sprint(operation["parameters"]), "name:"+name[1]) {
					t.Errorf("%s %s: parameter %s is not described", method, path, name[1])
				}
			}
			if responses, _ := operation["responses"].(map[string]any); responses["default"] == nil || len(responses) < 2 {
				t.Errorf("%s %s: responses %v", method, path, operation["responses"])
			}
		}
	}
	if described != len(endpoints) {
		t.Errorf("%d calls are described, the tests know %d", described, len(endpoints))
	}
	for _, e := range endpoints {
		path, _, _ := strings.Cut(e.path, "?")
		found := false
		for template := range doc.Paths {
			pattern := "^" + regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), ".+") + "$"
			if regexp.MustCompile(pattern).MatchString(path) && doc.Paths[template][strings.ToLower(e.method)] != nil {
				found = true
			}
		}
		if !found {
			t.Errorf("%s %s is not described", e.method, e.path)
		}
	}
	for _, ref := range regexp.MustCompile(`"\$ref":"#/components/schemas/(\w+)"`).FindAllStringSubmatch(text, -1) {
		if doc.Components.Schemas[ref[1]] == nil {
			t.Errorf("schema %s is named and not there", ref[1])
		}
	}
}
