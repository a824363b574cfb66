package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/trust"
)

// reportFindings ends a check that found no mistakes.
func (a *app) reportFindings(dir string, check api.AccessCheck, strict bool) error {
	stops := 0
	for _, f := range check.Findings {
		if f.Strict {
			stops++
		}
	}
	err := a.show(check, func() {
		a.printf("%s: no mistakes, revision %s\n", clean(dir), short(check.Revision))
		printFindings(a.out, dir, check.Findings)
	})
	if err == nil && strict && stops > 0 {
		return codedError{fmt.Errorf("access files in %q: %s that nobody accepted", dir, count(stops, "finding")), exitFindings}
	}
	return err
}

// tellFindings says beside the result what is wider in files that were just applied than it need be, notes aside.
func (a *app) tellFindings(dir string, found []api.AccessFinding) {
	if !a.quiet {
		notes := func(f api.AccessFinding) bool { return f.Severity == string(trust.Note) }
		printFindings(a.err, dir, slices.DeleteFunc(slices.Clone(found), notes))
	}
}

// printFindings prints findings as file:line:column, the line and what to write, and counts those that were accepted.
func printFindings(w io.Writer, dir string, all []api.AccessFinding) {
	accepted := 0
	for _, f := range all {
		if f.Accepted != "" {
			accepted++
			continue
		}
		fmt.Fprintf(w, "%s: %s: %s [%s]\n", bold(place(dir, f.Mistake())), mood(f.Severity), cleanLines(f.Message), f.Rule)
		if f.Excerpt != "" {
			fmt.Fprintln(w, excerpt(f.Mistake()))
		}
		fmt.Fprintf(w, "  %s %s\n", faint("fix:"), clean(f.Hint))
	}
	if accepted > 0 {
		fmt.Fprintf(w, "%s accepted by the policies\n", count(accepted, "finding"))
	}
}
