package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

// parse reads one Go file.
func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// constComments returns the comments of the string constants of a type, by their values.
func constComments(t *testing.T, path, typeName string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, decl := range parse(t, path).Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.CONST {
			continue
		}
		for _, spec := range gen.Specs {
			value := spec.(*ast.ValueSpec)
			if name, ok := value.Type.(*ast.Ident); !ok || name.Name != typeName {
				continue
			}
			literal, ok := value.Values[0].(*ast.BasicLit)
			if !ok {
				continue
			}
			text, _ := strconv.Unquote(literal.Value)
			found[text] = sentence(value.Names[0].Name, value.Doc, value.Comment)
		}
	}
	return found
}

// sentence joins a comment's lines, without the name that it starts with and without links' brackets.
func sentence(name string, groups ...*ast.CommentGroup) string {
	for _, group := range groups {
		text := strings.Join(strings.Fields(group.Text()), " ")
		if text == "" {
			continue
		}
		text = strings.TrimPrefix(strings.TrimPrefix(text, name), ":")
		text = strings.NewReplacer("[", "", "]", "", "|", `\|`).Replace(strings.TrimSpace(text))
		return strings.ToUpper(text[:1]) + text[1:]
	}
	return ""
}
