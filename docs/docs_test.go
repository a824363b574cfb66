// Package docs_test keeps the documents true: their links lead somewhere, each direct dependency has its decision
// record, and the reference pages say what the code says.
package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/policy"
)

const root = ".."

// pages returns every Markdown file of the repository: path below it, to text.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() && path != root && (strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules" || base == "bin") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		found[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```")
	code    = regexp.MustCompile("`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
)

func TestEveryLinkOfTheDocumentsLeadsSomewhere(t *testing.T) {
	all := pages(t)
	for page, text := range all {
		prose := code.ReplaceAllString(fence.ReplaceAllString(text, ""), "")
		for _, match := range link.FindAllStringSubmatch(prose, -1) {
			checkLink(t, all, page, match[1])
		}
	}
}

func checkLink(t *testing.T, all map[string]string, page, to string) {
	t.Helper()
	if strings.HasPrefix(to, "https://") {
		return // outside: nobody's test should need the network for it
	}
	if strings.Contains(to, "://") {
		t.Errorf("%s links %s: use https or a path", page, to)
		return
	}
	path, anchor, _ := strings.Cut(to, "#")
	there := page
	if path != "" {
		there = filepath.ToSlash(filepath.Join(filepath.Dir(page), path))
	}
	if _, err := os.Stat(filepath.Join(root, there)); err != nil {
		t.Errorf("%s links %s, which does not exist", page, to)
		return
	}
	if anchor != "" && !slices.Contains(anchors(all[there]), anchor) {
		t.Errorf("%s links %s: %s has no such heading", page, to, there)
	}
}

// anchors returns the names of a page's headings, as forges make them.
func anchors(text string) []string {
	var names []string
	for _, match := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ' || r == '-':
				return '-'
			case r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, match[1])
		names = append(names, name)
	}
	return names
}

func TestEveryDocumentIsReachedFromTheReadme(t *testing.T) {
	all := pages(t)
	seen := map[string]bool{}
	queue := []string{"README.md"}
	for len(queue) > 0 {
		page := queue[0]
		queue = queue[1:]
		if seen[page] {
			continue
		}
		seen[page] = true
		for _, match := range link.FindAllStringSubmatch(all[page], -1) {
			path, _, _ := strings.Cut(match[1], "#")
			next := filepath.ToSlash(filepath.Join(filepath.Dir(page), path))
			if info, err := os.Stat(filepath.Join(root, next)); err == nil && info.IsDir() {
				next += "/README.md"
			}
			if _, ok := all[next]; ok {
				queue = append(queue, next)
			}
		}
	}
	for page := range all {
		if !seen[page] {
			t.Errorf("no chain of links leads from README.md to %s", page)
		}
	}
}

var (
	require = regexp.MustCompile(`(?m)^\s*(?:require )?([a-z0-9.]+\.[a-z]+/\S+|\S+\.\S+/\S+) v\S+`)
	imports = regexp.MustCompile(`(?m)^\s*(?:import )?(?:[\w.]+ )?"([a-z0-9.-]+\.[a-z]+/[^"]+)"$`)
)

// TestEachDirectDependencyHasItsDecision looks at what the code imports, not at go.mod's comments.
func TestEachDirectDependencyHasItsDecision(t *testing.T) {
	var decisions strings.Builder
	for page, text := range pages(t) {
		if strings.HasPrefix(page, "docs/adr/") {
			decisions.WriteString(text)
		}
	}
	for module, file := range directDependencies(t) {
		if !strings.Contains(decisions.String(), "`"+module+"`") {
			t.Errorf("%s imports %s, which no page of docs/adr names: say what it replaces, what it costs, what was rejected", file, module)
		}
	}
}

// directDependencies returns the modules that our code imports, each with one file that does.
func directDependencies(t *testing.T) map[string]string {
	t.Helper()
	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var modules []string
	for _, match := range require.FindAllStringSubmatch(string(gomod), -1) {
		modules = append(modules, match[1])
	}
	direct := map[string]string{}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, match := range imports.FindAllStringSubmatch(string(text), -1) {
			if module := longestPrefix(modules, match[1]); module != "" {
				direct[module] = path
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return direct
}

func longestPrefix(modules []string, imported string) string {
	best := ""
	for _, module := range modules {
		if (imported == module || strings.HasPrefix(imported, module+"/")) && len(module) > len(best) {
			best = module
		}
	}
	return best
}

var (
	room     = regexp.MustCompile("`((?:[a-z]+/)*[a-z]+)`\\s")
	cited    = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)
	declared = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

func TestPagesNameTestsThatExist(t *testing.T) {
	for _, page := range []string{"THREAT_MODEL.md", "docs/explanation/guarantees.md"} {
		testNamesOf(t, page)
	}
}

func testNamesOf(t *testing.T, page string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(page)))
	if err != nil {
		t.Fatal(err)
	}
	paragraphs := slices.DeleteFunc(strings.Split(string(text), "\n- "), func(p string) bool { return !strings.HasPrefix(p, "*Tests.*") })
	for row := range strings.Lines(string(text)) {
		if strings.HasPrefix(row, "| ") {
			paragraphs = append(paragraphs, row)
		}
	}
	for _, paragraph := range paragraphs {
		where := ""
		for _, word := range strings.Fields(paragraph) {
			if match := room.FindStringSubmatch(word + " "); match != nil {
				where = match[1]
			}
			if name := cited.FindString(word); name != "" && !slices.Contains(testsIn(t, where), name) {
				t.Errorf("%s names the test %s of %s, which does not exist", page, name, where)
			}
		}
	}
}

// testsIn returns the tests and fuzzers of a room.
func testsIn(t *testing.T, room string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, room, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range declared.FindAllStringSubmatch(string(text), -1) {
			names = append(names, match[1])
		}
	}
	return names
}

var policyBlock = regexp.MustCompile("(?ms)^ *```cedar\n(.*?)^ *```")

// Readers copy what stands in documents, so every policy there has to pass the check.
func TestThePoliciesInTheDocumentsPassTheCheck(t *testing.T) {
	const files = `
kind: Issuer
name: github
preset: github-actions
---
kind: Issuer
name: corp
oidc: {url: https://id.corp.example}
claims: {device: string}
---
kind: Issuer
name: fleet
oidc: {url: https://fleet.corp.example}
claims: {team: string}
---
kind: Posture
name: machine
of: {corp: device}
fields: {healthy: bool, patch_level: long, os: "string?"}
max_age: 10m
---
kind: Target
name: orders-db
postgres: {}
---
kind: Role
name: orders-readonly
target: orders-db
labels: {env: staging}
postgres: {}
`
	anything := func(access.Section) (any, error) { return nil, nil }
	kinds := access.Kinds{Targets: map[string]access.Kind{"postgres": {Settings: anything, Client: anything, Rights: anything}}}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for page, text := range pages(t) {
		if strings.Contains(text, "\npreset: ") || strings.Contains(text, ownFiles) {
			continue // it has access files of its own: TestTheHowTosOfPlatformsAreRight, TestTheHowTosOfEvidenceAreRight
		}
		for _, match := range policyBlock.FindAllStringSubmatch(text, -1) {
			found++
			cfg, err := access.Parse(access.Files{"access.yaml": files, "policy.cedar": match[1]}, kinds)
			if err == nil {
				_, err = policy.Compile(cfg, []*time.Location{berlin})
			}
			if err != nil {
				t.Errorf("%s: %v in:\n%s", page, err, match[1])
			}
		}
	}
	if found < 3 {
		t.Errorf("found %d policies in the documents", found)
	}
}
