package httpapi

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/daypass/daypass/api"
)

// document returns the OpenAPI 3.1 document of the calls. It is made from the table that serves them and from the
// types that they send, so that it cannot say something else. It panics on a mistake in the table.
func document(table []route) []byte {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schemas.RegisterTypeAlias(reflect.TypeFor[api.Time](), reflect.TypeFor[timeSchema]())
	schemas.RegisterTypeAlias(reflect.TypeFor[api.Duration](), reflect.TypeFor[durationSchema]())
	schemas.RegisterTypeAlias(reflect.TypeFor[api.Credential](), reflect.TypeFor[credentialSchema]())
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title:   "Daypass",
			Version: "1",
			Description: "Workload access broker. Within /v1 changes only add. Problems are RFC 9457; their code is stable. " +
				"Over the administration socket the kernel tells who calls, and no token is needed but to acquire.",
		},
		Components: &huma.Components{
			Schemas: schemas,
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"workload": {Type: "http", Scheme: "bearer", Description: "a workload token of a configured issuer, or a lease token (dpl_…)"},
				"bound":    {Type: "http", Scheme: "dpop", Description: "an access token of /oauth/token, with a proof of its key in the header DPoP (RFC 9449)"},
			},
		},
		Paths: map[string]*huma.PathItem{},
	}
	problem := &huma.Response{
		Description: "what went wrong",
		Content:     map[string]*huma.MediaType{api.MediaProblem: {Schema: schemas.Schema(reflect.TypeFor[api.Problem](), true, "")}},
	}
	for _, r := range table {
		path := strings.ReplaceAll(r.path, "...}", "}")
		if doc.Paths[path] == nil {
			doc.Paths[path] = &huma.PathItem{}
		}
		*slot(doc.Paths[path], r.method) = operation(r, schemas, problem)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		panic("httpapi: make the OpenAPI document: " + err.Error())
	}
	return text
}

// slot returns where a method's operation goes.
func slot(item *huma.PathItem, method string) **huma.Operation {
	switch method {
	case "GET":
		return &item.Get
	case "POST":
		return &item.Post
	case "PUT":
		return &item.Put
	case "DELETE":
		return &item.Delete
	}
	panic("httpapi: no place for method " + method)
}

func operation(r route, schemas huma.Registry, problem *huma.Response) *huma.Operation {
	op := &huma.Operation{OperationID: r.id, Summary: r.summary, Responses: map[string]*huma.Response{"default": problem}}
	if !r.open {
		op.Security = []map[string][]string{{"workload": {}}, {"bound": {}}}
	}
	for _, part := range strings.Split(r.path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			name = strings.TrimSuffix(strings.TrimSuffix(name, "}"), "...")
			op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "path", Required: true, Schema: &huma.Schema{Type: "string"}})
		}
	}
	for _, p := range r.query {
		op.Parameters = append(op.Parameters, &huma.Param{Name: p.name, In: "query", Description: p.doc, Schema: &huma.Schema{Type: "string"}})
	}
	for _, p := range r.header {
		op.Parameters = append(op.Parameters, &huma.Param{Name: p.name, In: "header", Description: p.doc, Schema: &huma.Schema{Type: "string"}})
	}
	if r.in != nil {
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json": {Schema: schemas.Schema(r.in, true, r.id+"Request")}}}
	}
	if len(r.form) > 0 {
		fields := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{}}
		for _, p := range r.form {
			fields.Properties[p.name] = &huma.Schema{Type: huma.TypeString, Description: p.doc}
		}
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/x-www-form-urlencoded": {Schema: fields}}}
		op.Responses["default"] = &huma.Response{Description: "what went wrong (RFC 6749 section 5.2)",
			Content: map[string]*huma.MediaType{"application/json": {Schema: schemas.Schema(reflect.TypeFor[api.OAuthError](), true, "")}}}
	}
	for _, status := range r.status {
		op.Responses[strconv.Itoa(status)] = goodResponse(r, schemas)
	}
	return op
}

func goodResponse(r route, schemas huma.Registry) *huma.Response {
	response := &huma.Response{
		Description: r.summary,
		Headers:     map[string]*huma.Param{api.HeaderRequest: {Description: "request ID, for the server's log", Schema: &huma.Schema{Type: "string"}}},
	}
	media := r.media
	if media == "" {
		media = "application/json"
	}
	content := &huma.MediaType{}
	if r.out != nil {
		content.Schema = schemas.Schema(r.out, true, r.id+"Answer")
	}
	response.Content = map[string]*huma.MediaType{media: content}
	return response
}

// timeSchema, durationSchema and credentialSchema describe types whose JSON reflection cannot see.
type (
	timeSchema       struct{}
	durationSchema   struct{}
	credentialSchema struct{}
)

// Schema implements [huma.SchemaProvider].
func (timeSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Description: "RFC 3339, UTC, milliseconds"}
}

// Schema implements [huma.SchemaProvider].
func (durationSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: `^[0-9]+(s|m|h)$`}
}

// Schema implements [huma.SchemaProvider].
func (credentialSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type:                 huma.TypeObject,
		Description:          "the type and its fields, such as username, password, host, port, database, sslmode and url of postgres",
		Properties:           map[string]*huma.Schema{"type": {Type: huma.TypeString}},
		Required:             []string{"type"},
		AdditionalProperties: true,
	}
}
