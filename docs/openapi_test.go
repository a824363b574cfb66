package docs_test

import (
	"maps"
	"path"
	"slices"
	"strings"
)

// openAPI is what the page of the API needs of the document.
type openAPI struct {
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

type operation struct {
	Summary     string             `json:"summary"`
	RequestBody content            `json:"requestBody"`
	Responses   map[string]content `json:"responses"`
}

type content struct {
	Content map[string]struct {
		Schema schema `json:"schema"`
	} `json:"content"`
}

type schema struct {
	Ref         string            `json:"$ref"`
	Type        any               `json:"type"` // a text, or a list with "null"
	Format      string            `json:"format"`
	Enum        []any             `json:"enum"`
	Description string            `json:"description"`
	Items       *schema           `json:"items"`
	Properties  map[string]schema `json:"properties"`
	Required    []string          `json:"required"`
}

// body is the type of an operation's body.
func (o operation) body() string { return o.RequestBody.typeText() }

// answer is the statuses of good answers and their type.
func (o operation) answer() string {
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(o.Responses)) {
		if strings.HasPrefix(status, "2") {
			parts = append(parts, strings.TrimSpace(status+" "+o.Responses[status].typeText()))
		}
	}
	return strings.Join(parts, ", ")
}

func (c content) typeText() string {
	if answer, ok := c.Content["application/json"]; ok {
		return answer.Schema.typeText()
	}
	var others []string
	for _, media := range slices.Sorted(maps.Keys(c.Content)) {
		others = append(others, "`"+media+"`")
	}
	return strings.Join(others, ", ")
}

// typeText is a schema in a few words, linked where it has a section of its own.
func (s schema) typeText() string {
	if s.Ref != "" {
		name := path.Base(s.Ref)
		return "[" + name + "](#" + strings.ToLower(name) + ")"
	}
	if len(s.Enum) > 0 {
		var words []string
		for _, value := range s.Enum {
			if text, ok := value.(string); ok {
				words = append(words, "`"+text+"`")
			}
		}
		return strings.Join(words, ", ")
	}
	kind, _ := s.Type.(string)
	if list, ok := s.Type.([]any); ok && len(list) > 0 {
		kind, _ = list[0].(string)
	}
	switch {
	case kind == "array" && s.Items != nil:
		return "list of " + s.Items.typeText()
	case s.Format != "":
		return kind + " (" + s.Format + ")"
	}
	return kind
}

// cell makes a text fit a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}
