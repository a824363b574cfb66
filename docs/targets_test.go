package docs_test

import (
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/daypass/daypass/target/targettest"
)

func TestReferenceOfTargets(t *testing.T) {
	var page strings.Builder
	page.WriteString("# What each kind of target can do\n\n" + generated)
	page.WriteString("Every kind passes one conformance suite, `target/targettest`, against the real server where one can be had. Google Cloud (`gcp`) and\n" +
		"Azure (`azure`) are stand-ins written by their documentation: not verified against the real services. What a kind cannot do it\n" +
		"skips by name, with its reason; the rest it has proved. Nobody may skip that credentials work, end, and end alone.\n\n")
	kinds := targetKinds(t)
	page.WriteString("| Capability | " + strings.Join(kinds, " | ") + " |\n|---|" + strings.Repeat("---|", len(kinds)) + "\n")
	cases := casesOf(t)
	skips := map[string]map[string]string{}
	for _, kind := range kinds {
		skips[kind] = skipsOf(t, kind)
	}
	for _, capability := range targettest.Capabilities() {
		name := strings.ReplaceAll(string(capability), "-", " ")
		fmt.Fprintf(&page, "| %s: %s |", name, strings.Join(cases[string(capability)], "; "))
		for _, kind := range kinds {
			cell := "proved"
			if reason, ok := skips[kind][string(capability)]; ok {
				cell = "no: " + reason
			}
			page.WriteString(" " + cell + " |")
		}
		page.WriteString("\n")
	}
	compare(t, "reference/targets.md", page.String())
}

// casesOf returns the sentences of the suite that need each capability.
func casesOf(t *testing.T) map[string][]string {
	t.Helper()
	const suite = "../target/targettest/targettest.go"
	names, found := constNames(t, suite), map[string][]string{}
	ast.Inspect(parse(t, suite), func(n ast.Node) bool {
		row, ok := n.(*ast.CompositeLit)
		if !ok || len(row.Elts) != 3 {
			return true
		}
		if needs, ok := row.Elts[1].(*ast.Ident); ok {
			found[names[needs.Name]] = append(found[names[needs.Name]], text(row.Elts[0]))
		}
		return true
	})
	return found
}

// targetKinds are the folders of target, but for the suite.
func targetKinds(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("../target")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, entry := range entries {
		if entry.IsDir() && entry.Name() != "targettest" && entry.Name() != "cloud" { // the suite, and what two kinds share
			kinds = append(kinds, entry.Name())
		}
	}
	return kinds
}

// skipsOf reads the Skips of a kind's fixture: capability to reason.
func skipsOf(t *testing.T, kind string) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../target/" + kind + "/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{} // of the constants
	for name, value := range constNames(t, "../target/targettest/targettest.go") {
		names[name] = value
	}
	found, suite := map[string]string{}, false
	for _, file := range files {
		ast.Inspect(parse(t, file), func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && strings.HasPrefix(lastName(call.Fun), "Run") {
				if selector, ok := call.Fun.(*ast.SelectorExpr); ok && lastName(selector.X) == "targettest" {
					suite = true
				}
			}
			pair, ok := n.(*ast.KeyValueExpr)
			if !ok || lastName(pair.Key) != "Skips" {
				return true
			}
			if list, ok := pair.Value.(*ast.CompositeLit); ok {
				for _, element := range list.Elts {
					skip := element.(*ast.KeyValueExpr)
					found[names[lastName(skip.Key)]] = text(skip.Value)
				}
			}
			return true
		})
	}
	if !suite {
		t.Errorf("target/%s does not run the conformance suite", kind)
	}
	return found
}
