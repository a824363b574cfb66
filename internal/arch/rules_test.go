package arch_test

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// clockReaders may call time.Now. Elsewhere time is an argument, so that tests own it.
var clockReaders = []string{
	"client", "cmd/daypass", "daypasstest", "internal/agent", "internal/bench", "internal/broker", "internal/chore", "internal/crash", "internal/demo",
	"internal/review", "internal/revoker", "internal/server", "internal/store", "internal/store/sqlite", "internal/store/storetest", "internal/testbed",
	"internal/rig", "internal/testissuer", "internal/testissuer/cmd/testissuer", "identity/identitytest", "target/targettest",
}

func TestOnlyTheseRoomsReadTheClock(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains(clockReaders, p.path) {
			continue
		}
		for _, f := range p.files {
			for _, pos := range f.uses("time", "Now") {
				t.Errorf("%s reads the clock: take the time as an argument", f.line(pos))
			}
		}
	}
}

// revealers may turn a secret into its bytes, each for the reason given.
var revealers = map[string]string{
	"internal/httpapi":        "writes the one answer that holds the credential",
	"internal/admission":      "hashes lease tokens",
	"internal/feed":           "asks the sources of posture that have a URL",
	"internal/verifier":       "reads who a token says it is from",
	"internal/watch":          "posts to the URL that alerts go to, and signs them",
	"internal/kube":           "sends its credential to the API server, and tokens to be reviewed",
	"identity/oidc":           "verifies tokens",
	"internal/accesstoken":    "verifies tokens of our own",
	"internal/issuer":         "verifies tokens of its own",
	"identity/device":         "verifies tokens",
	"identity/aws":            "takes the signed request out of the evidence",
	"identity/identitytest":   "builds bad tokens from good ones",
	"internal/store/postgres": "logs in at the database of the store",
	"target/cloud":            "sends its token to a cloud",
	"target/gcp":              "shows our tokens to Google",
	"target/azure":            "shows our tokens to Entra",
	"target/postgres":         "logs in as administrator and sets the login's verifier",
	"target/kubernetes":       "puts a token into a kubeconfig",
	"target/aws":              "shows AWS a token of ours",
	"target/targettest":       "tries credentials and looks for leaked ones",
	"client":                  "sends tokens",
	"internal/agent":          "hands credentials to the child process and tokens to the client",
	"cmd/daypass/workload":    "prints the credential that was asked for",
	"internal/testissuer":     "hands out the tokens it signs",
	"daypasstest":             "hands credentials to the test",
	"internal/bench":          "tries credentials",
	"internal/crash":          "tries credentials",
	"internal/demo":           "shows a workload using its credential",

	"internal/broker/brokertest": "takes tokens for the names of workloads",
}

func TestOnlyTheseRoomsRevealSecrets(t *testing.T) {
	for _, p := range packages(t) {
		if p.path == "secret" || revealers[p.path] != "" {
			continue
		}
		for _, f := range p.files {
			for _, pos := range f.selectors("Reveal") {
				t.Errorf("%s reveals a secret: add the room to the list with its reason, or don't", f.line(pos))
			}
		}
	}
}

// TestOnlyTheStoreMovesALease holds that lease.Next is called in one place and no code sets a state by hand.
func TestOnlyTheStoreMovesALease(t *testing.T) {
	var callers []string
	for _, p := range packages(t) {
		if p.path == "internal/store/storetest" {
			continue // its audit lives the life of a lease again, to compare
		}
		for _, f := range p.files {
			for _, pos := range f.uses(module+"/internal/lease", "Next") {
				callers = append(callers, f.line(pos))
			}
			for _, pos := range stateAssignments(f) {
				if p.path != "internal/store" {
					t.Errorf("%s assigns a state: only the store moves a lease", f.line(pos))
				}
			}
		}
	}
	if len(callers) != 1 || !strings.HasPrefix(callers[0], "internal/store/") {
		t.Errorf("lease.Next is called at %v; want exactly one place, in internal/store", callers)
	}
}

// stateAssignments finds x.State = lease.Something.
func stateAssignments(f file) []token.Pos {
	var found []token.Pos
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		assign, ok := n.(*ast.AssignStmt)
		if !ok {
			return true
		}
		for i, left := range assign.Lhs {
			selector, ok := left.(*ast.SelectorExpr)
			if !ok || selector.Sel.Name != "State" || i >= len(assign.Rhs) {
				continue
			}
			if right, ok := assign.Rhs[i].(*ast.SelectorExpr); ok {
				if id, ok := right.X.(*ast.Ident); ok && id.Name == "lease" {
					found = append(found, assign.Pos())
				}
			}
		}
		return true
	})
	return found
}

// changing lists the rooms that may have a package variable that changes, each for the reason given.
var changing = map[string]string{
	"internal/testbed": "servers that the tests of one process share outlive each of them",
}

func TestNoInitAndNoVariableThatChanges(t *testing.T) {
	for _, p := range packages(t) {
		variables := packageVariables(p)
		if changing[p.path] != "" {
			variables = nil
		}
		for _, f := range p.files {
			for _, d := range f.syntax.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s: an init function runs before anyone asked", f.line(fn.Pos()))
				}
			}
			for _, pos := range writesTo(f, variables) {
				t.Errorf("%s changes a package variable: pass a value instead", f.line(pos))
			}
		}
	}
}

func packageVariables(p pkg) map[string]bool {
	names := map[string]bool{}
	for _, f := range p.files {
		for _, d := range f.syntax.Decls {
			if gen, ok := d.(*ast.GenDecl); ok && gen.Tok == token.VAR {
				for _, spec := range gen.Specs {
					for _, name := range spec.(*ast.ValueSpec).Names {
						names[name.Name] = true
					}
				}
			}
		}
	}
	delete(names, "_")
	return names
}

// writesTo finds assignments to package variables, or into them, in functions that do not shadow the name.
func writesTo(f file, variables map[string]bool) []token.Pos {
	var found []token.Pos
	for _, d := range f.syntax.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		local := localNames(fn)
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			for _, left := range writtenTo(n) {
				if name := baseName(left); variables[name] && !local[name] {
					found = append(found, n.Pos())
				}
			}
			return true
		})
	}
	return found
}

func writtenTo(n ast.Node) []ast.Expr {
	switch s := n.(type) {
	case *ast.AssignStmt:
		if s.Tok != token.DEFINE {
			return s.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{s.X}
	}
	return nil
}

func baseName(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x.Name
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		default:
			return ""
		}
	}
}

func localNames(fn *ast.FuncDecl) map[string]bool {
	names := map[string]bool{}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch s := n.(type) {
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE {
				for _, left := range s.Lhs {
					names[baseName(left)] = true
				}
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				names[name.Name] = true
			}
		case *ast.Field:
			for _, name := range s.Names {
				names[name.Name] = true
			}
		case *ast.RangeStmt:
			if s.Key != nil {
				names[baseName(s.Key)] = true
			}
			if s.Value != nil {
				names[baseName(s.Value)] = true
			}
		}
		return true
	})
	return names
}

// TestSizes holds the guide's hard limits. When one is passed, look for the missing noun.
func TestSizes(t *testing.T) {
	const maxFile, maxFunc = 500, 100
	for _, p := range packages(t) {
		for _, f := range p.files {
			if lines := f.set.File(f.syntax.Pos()).LineCount(); lines > maxFile {
				t.Errorf("%s has %d lines: at most %d", f.name, lines, maxFile)
			}
			for _, d := range f.syntax.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Body == nil {
					continue
				}
				first, last := f.set.Position(fn.Pos()).Line, f.set.Position(fn.End()).Line
				if last-first >= maxFunc {
					t.Errorf("%s: %s has %d lines: at most %d", f.line(fn.Pos()), fn.Name.Name, last-first+1, maxFunc)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		commented := slices.ContainsFunc(p.files, func(f file) bool {
			return f.syntax.Doc != nil && len(f.syntax.Doc.Text()) > 60
		})
		if !commented {
			t.Errorf("%s has no package comment: say what it owns, promises, and must not import", p.path)
		}
	}
}

func TestProductionCodeDoesNotImportTesting(t *testing.T) {
	for _, p := range packages(t) {
		testKit := strings.HasSuffix(p.path, "test") || p.path == "internal/testbed" || p.path == "internal/testissuer"
		if !testKit && slices.Contains(p.imports(), "testing") {
			t.Errorf("%s imports testing", p.path)
		}
	}
}
