package admission_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/admission"
)

// given are the reasons that verifiers have: the constants of types called Why, with the file of each.
func given(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Why") {
				return true
			}
			if literal, ok := spec.Values[0].(*ast.BasicLit); ok && literal.Kind == token.STRING {
				word, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Error(err)
				}
				found[word] = path
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A reason that the list lacks would be counted as "other", and its caller would be told no rule.
func TestEachReasonThatAVerifierGivesIsCountedAndHasItsRule(t *testing.T) {
	found := given(t, "../../identity")
	if len(found) < 10 {
		t.Fatalf("found %v, which cannot be all", found)
	}
	rules := admission.Rules()
	for word, path := range found {
		if rules[word] == "" {
			t.Errorf("%s gives the reason %q, which has no rule in rejection.go", path, word)
		}
	}
	for word, rule := range rules {
		if rule != "" && found[word] == "" {
			t.Errorf("no verifier gives the reason %q", word)
		}
	}
}
