package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/inspection"
	"github.com/daypass/daypass/internal/trust"
)

// checkResult is what `daypass check` answers.
type checkResult struct {
	api.AccessCheck
	Findings []finding `json:"findings,omitempty"`
}

// finding is one thing that is wider than it need be.
type finding struct {
	Rule     string `json:"rule"`
	Severity string `json:"severity"`
	api.Mistake
	Accepted string `json:"accepted,omitempty"` // the reason that the policy gives
}

// findings looks at access files without mistakes.
func findings(files map[string]string) ([]finding, int, error) {
	found, err := inspection.Lint(files)
	if err != nil {
		return nil, 0, err
	}
	all, strict := []finding{}, 0
	for _, f := range found {
		all = append(all, findingOf(f))
		if f.Strict() {
			strict++
		}
	}
	return all, strict, nil
}

func findingOf(f trust.Finding) finding {
	return finding{f.Rule, string(f.Severity), api.Mistake{
		File: f.Place.File, Line: f.Place.Line, Column: f.Place.Column, Message: f.Why, Hint: f.Fix, Excerpt: f.Excerpt,
	}, f.Accepted}
}

// reportFindings ends a check that found no mistakes.
func (a *app) reportFindings(dir string, files map[string]string, check api.AccessCheck, strict bool) error {
	all, stops, err := findings(files)
	if err != nil {
		return err
	}
	err = a.show(checkResult{check, all}, func() {
		a.printf("%s: no mistakes, revision %s\n", clean(dir), short(check.Revision))
		printFindings(a.out, dir, all)
	})
	if err == nil && strict && stops > 0 {
		return codedError{fmt.Errorf("access files in %q: %s that nobody accepted", dir, count(stops, "finding")), exitFindings}
	}
	return err
}

// tellFindings says beside the result what is wider in files that were just applied than it need be, notes aside. Files that this
// version of the command cannot read were good enough for the server.
func (a *app) tellFindings(dir string, files map[string]string) {
	if all, _, err := findings(files); err == nil && !a.quiet {
		notes := func(f finding) bool { return f.Severity == string(trust.Note) }
		printFindings(a.err, dir, slices.DeleteFunc(all, notes))
	}
}

// printFindings prints findings as file:line:column, the line and what to write, and counts those that were accepted.
func printFindings(w io.Writer, dir string, all []finding) {
	accepted := 0
	for _, f := range all {
		if f.Accepted != "" {
			accepted++
			continue
		}
		fmt.Fprintf(w, "%s: %s: %s [%s]\n", bold(place(dir, f.Mistake)), mood(f.Severity), cleanLines(f.Message), f.Rule)
		if f.Excerpt != "" {
			fmt.Fprintln(w, excerpt(f.Mistake))
		}
		fmt.Fprintf(w, "  %s %s\n", faint("fix:"), clean(f.Hint))
	}
	if accepted > 0 {
		fmt.Fprintf(w, "%s accepted by the policies\n", count(accepted, "finding"))
	}
}
