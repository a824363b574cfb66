package docs_test

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
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

// sentence is what a comment says, with a capital letter.
func sentence(name string, groups ...*ast.CommentGroup) string {
	text := meaning(name, groups...)
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// meaning joins a comment's lines, without the name that it starts with, the verb after it, and links' brackets.
func meaning(name string, groups ...*ast.CommentGroup) string {
	for _, group := range groups {
		text := strings.Join(strings.Fields(group.Text()), " ")
		if text == "" {
			continue
		}
		text = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(text, name), ":"))
		for _, verb := range []string{"is ", "are "} {
			text = strings.TrimPrefix(text, verb)
		}
		return strings.NewReplacer("[", "", "]", "", "|", `\|`, "<", "&lt;").Replace(text)
	}
	return ""
}

// field is one field of a struct that is read from YAML.
type field struct {
	name, typeName, text string
}

// structs returns the YAML fields of every struct of a file, in order, by type name.
func structs(t *testing.T, path string) map[string][]field {
	t.Helper()
	found := map[string][]field{}
	ast.Inspect(parse(t, path), func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if body, ok := spec.Type.(*ast.StructType); ok {
			found[spec.Name.Name] = fields(body)
		}
		return true
	})
	return found
}

func fields(body *ast.StructType) []field {
	var all []field
	for _, f := range body.Fields.List {
		if f.Tag == nil {
			continue
		}
		tag, _ := strconv.Unquote(f.Tag.Value)
		name, _, _ := strings.Cut(reflect.StructTag(tag).Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		typeName := ""
		kind := f.Type
		if list, ok := kind.(*ast.ArrayType); ok {
			kind = list.Elt
		}
		if id, ok := kind.(*ast.Ident); ok {
			typeName = id.Name
		}
		all = append(all, field{name, typeName, meaning(f.Names[0].Name, f.Doc, f.Comment)})
	}
	return all
}

// problem is one row of the table that makes errors problems.
type problem struct {
	code   string
	status int
	title  string
}

// problems reads the table of internal/httpapi.
func problems(t *testing.T) []problem {
	t.Helper()
	codes := constNames(t, "../internal/fault/fault.go")
	for name, value := range constNames(t, "../internal/httpapi/problem.go") {
		codes[name] = value
	}
	var all []problem
	ast.Inspect(parse(t, "../internal/httpapi/problem.go"), func(n ast.Node) bool {
		row, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		look, ok := row.Value.(*ast.CompositeLit)
		if !ok || len(look.Elts) != 2 {
			return true
		}
		status, ok := look.Elts[0].(*ast.SelectorExpr)
		if !ok {
			return true
		}
		title, _ := strconv.Unquote(look.Elts[1].(*ast.BasicLit).Value)
		all = append(all, problem{codes[lastName(row.Key)], statusOf(t, status.Sel.Name), title})
		return false
	})
	slices.SortStableFunc(all, func(a, b problem) int { return cmp.Compare(a.status, b.status) })
	if len(all) < 9 {
		t.Fatalf("found %d problems in the table, which cannot be all", len(all))
	}
	return all
}

// statusOf finds a status of net/http by the name of its constant.
func statusOf(t *testing.T, name string) int {
	t.Helper()
	for status := 400; status < 600; status++ {
		text := strings.NewReplacer(" ", "", "-", "").Replace(http.StatusText(status))
		if text != "" && "Status"+text == name {
			return status
		}
	}
	t.Fatalf("net/http has no %s", name)
	return 0
}

// lastName is the last part of an identifier, such as Invalid of fault.Invalid.
func lastName(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.SelectorExpr:
		return x.Sel.Name
	case *ast.Ident:
		return x.Name
	}
	return ""
}

// constNames returns the string constants of a file by their names.
func constNames(t *testing.T, path string) map[string]string {
	t.Helper()
	found := map[string]string{}
	ast.Inspect(parse(t, path), func(n ast.Node) bool {
		value, ok := n.(*ast.ValueSpec)
		if !ok || len(value.Values) != 1 {
			return true
		}
		if literal, ok := value.Values[0].(*ast.BasicLit); ok && literal.Kind == token.STRING {
			found[value.Names[0].Name], _ = strconv.Unquote(literal.Value)
		}
		return true
	})
	return found
}

// metric is one metric as the code declares it.
type metric struct {
	name, kind, help string
	labels           []string
}

// metrics finds every metric that the code declares.
func metrics(t *testing.T) []metric {
	t.Helper()
	var all []metric
	err := filepath.WalkDir("../internal", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		ast.Inspect(parse(t, path), func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if m := metricOf(call); m.name != "" {
					all = append(all, m)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b metric) int { return cmp.Compare(a.name, b.name) })
	return slices.CompactFunc(all, func(a, b metric) bool { return a.name == b.name })
}

// metricOf reads prometheus.NewCounterVec(prometheus.CounterOpts{Name: …, Help: …}, labels) and its like, and
// prometheus.NewDesc(name, help, labels, nil).
func metricOf(call *ast.CallExpr) metric {
	function := lastName(call.Fun)
	m := metric{}
	if function == "NewDesc" && len(call.Args) == 4 {
		m.name, m.help, m.labels, m.kind = text(call.Args[0]), text(call.Args[1]), texts(call.Args[2]), "gauge"
		if strings.HasSuffix(m.name, "_total") {
			m.kind = "counter"
		}
		return m
	}
	kind, isNew := strings.CutPrefix(function, "New")
	if !isNew || len(call.Args) == 0 {
		return m
	}
	options, ok := call.Args[0].(*ast.CompositeLit)
	if !ok || !strings.HasSuffix(lastName(options.Type), "Opts") {
		return m
	}
	for _, element := range options.Elts {
		if pair, ok := element.(*ast.KeyValueExpr); ok {
			switch lastName(pair.Key) {
			case "Name":
				m.name = text(pair.Value)
			case "Help":
				m.help = text(pair.Value)
			}
		}
	}
	m.kind = strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(kind, "Vec"), "Func"))
	if len(call.Args) > 1 {
		m.labels = texts(call.Args[1])
	}
	return m
}

// text is a string literal, or several joined by +.
func text(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.BasicLit:
		value, _ := strconv.Unquote(x.Value)
		return value
	case *ast.BinaryExpr:
		return text(x.X) + text(x.Y)
	}
	return ""
}

// texts is a list of string literals.
func texts(e ast.Expr) []string {
	list, ok := e.(*ast.CompositeLit)
	if !ok {
		return nil
	}
	var all []string
	for _, element := range list.Elts {
		all = append(all, text(element))
	}
	return all
}
