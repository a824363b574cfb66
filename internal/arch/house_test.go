package arch_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/daypass/daypass"
	root   = "../.." // the repository, seen from this folder
)

// pkg is one folder of Go files without its tests.
type pkg struct {
	path  string // below the module, such as "internal/lease"
	files []file
}

type file struct {
	name   string // below the repository
	syntax *ast.File
	set    *token.FileSet
}

func (f file) line(pos token.Pos) string {
	return f.name + ":" + strconv.Itoa(f.set.Position(pos).Line)
}

func (p pkg) imports() []string {
	var all []string
	for _, f := range p.files {
		for _, spec := range f.syntax.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			all = append(all, imported)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// packages parses every package of the module, without tests, nested modules and test data.
func packages(t *testing.T) []pkg {
	t.Helper()
	byPath := map[string]*pkg{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if skipped(name, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		return add(byPath, name)
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for _, p := range byPath {
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b pkg) int { return strings.Compare(a.path, b.path) })
	return all
}

func skipped(name, base string) bool {
	if name == root {
		return false
	}
	if base == "testdata" || base == "node_modules" || strings.HasPrefix(base, ".") {
		return true
	}
	nested, _ := filepath.Glob(filepath.Join(name, "go.mod"))
	return len(nested) > 0
}

func add(byPath map[string]*pkg, name string) error {
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, name, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	short := filepath.ToSlash(strings.TrimPrefix(name, root+string(filepath.Separator)))
	folder := path.Dir(short)
	if byPath[folder] == nil {
		byPath[folder] = &pkg{path: folder}
	}
	byPath[folder].files = append(byPath[folder].files, file{name: short, syntax: syntax, set: set})
	return nil
}

// calls reports every use of package.name, such as time.Now, by the import's own name.
func (f file) uses(importPath, name string) []token.Pos {
	local := ""
	for _, spec := range f.syntax.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		if imported == importPath {
			local = path.Base(imported)
			if spec.Name != nil {
				local = spec.Name.Name
			}
		}
	}
	if local == "" {
		return nil
	}
	var found []token.Pos
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == name {
			if id, ok := s.X.(*ast.Ident); ok && id.Name == local {
				found = append(found, s.Pos())
			}
		}
		return true
	})
	return found
}

// selectors reports every x.name, whatever x is.
func (f file) selectors(name string) []token.Pos {
	var found []token.Pos
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == name {
			found = append(found, s.Pos())
		}
		return true
	})
	return found
}
