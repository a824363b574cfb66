package access

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/terminal"
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
	err := a.Show(check, func() {
		a.Printf("%s: no mistakes, revision %s\n", terminal.Clean(dir), terminal.ShortRevision(check.Revision))
		printFindings(a.Out, dir, check.Findings)
	})
	if err == nil && strict && stops > 0 {
		return terminal.Coded(fmt.Errorf("access files in %q: %s that nobody accepted", dir, terminal.Count(stops, "finding")), terminal.ExitFindings)
	}
	return err
}

// tellFindings says beside the result what is wider in files that were just applied than it need be, notes aside.
func (a *app) tellFindings(dir string, found []api.AccessFinding) {
	if !a.Quiet {
		notes := func(f api.AccessFinding) bool { return f.Severity == string(trust.Note) }
		printFindings(a.Err, dir, slices.DeleteFunc(slices.Clone(found), notes))
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
		fmt.Fprintf(w, "%s: %s: %s [%s]\n", terminal.Bold(place(dir, f.Mistake())), terminal.Mood(f.Severity), terminal.CleanLines(f.Message), f.Rule)
		if f.Excerpt != "" {
			fmt.Fprintln(w, excerpt(f.Mistake()))
		}
		fmt.Fprintf(w, "  %s %s\n", terminal.Faint("fix:"), terminal.Clean(f.Hint))
	}
	if accepted > 0 {
		fmt.Fprintf(w, "%s accepted by the policies\n", terminal.Count(accepted, "finding"))
	}
}

// reportMistakes prints every mistake as file:line:column, the line and a hint.
func (a *app) reportMistakes(dir string, check api.AccessCheck) error {
	err := a.Show(check, func() {
		for _, m := range check.Errors {
			a.Printf("%s: %s\n", terminal.Bold(place(dir, m)), terminal.CleanLines(m.Message))
			if m.Excerpt != "" {
				a.Printf("%s\n", excerpt(m))
			}
			if m.Hint != "" {
				a.Printf("  %s %s\n", terminal.Faint("hint:"), terminal.Clean(m.Hint))
			}
		}
	})
	if err != nil {
		return err
	}
	return terminal.Coded(fmt.Errorf("access files in %q: %s", dir, terminal.Count(len(check.Errors), "mistake")), terminal.ExitUsage)
}

// place is where a mistake is, in a form that editors jump to.
func place(dir string, m api.Mistake) string {
	text := terminal.Clean(path.Join(dir, m.File))
	if m.Line > 0 {
		text += fmt.Sprintf(":%d", m.Line)
		if m.Column > 0 {
			text += fmt.Sprintf(":%d", m.Column)
		}
	}
	return text
}

// excerpt shows the line with a caret under the column.
func excerpt(m api.Mistake) string {
	number := fmt.Sprintf("%5d", m.Line)
	text := terminal.Faint(number+" | ") + terminal.Clean(strings.ReplaceAll(m.Excerpt, "\t", " "))
	if m.Column > 0 && m.Column <= len([]rune(m.Excerpt))+1 {
		text += "\n" + terminal.Faint(strings.Repeat(" ", len(number))+" | ") + strings.Repeat(" ", m.Column-1) + terminal.Red("^")
	}
	return text
}
