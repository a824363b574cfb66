package main

// What people see.
//
//   - Data goes to standard output. Everything else goes to standard error: errors, progress and hints.
//   - Lines on standard error are lower case and begin with the program's name; a hint is a line of its own that
//     says what to type or do next.
//   - Colours are for terminals, and NO_COLOR takes them away. Nothing is told by colour alone.
//   - Text from elsewhere (subjects, reasons, errors) cannot command the terminal: control characters are shown.
//   - Tables tell times as distances, details tell them in full, in UTC.

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"

	"github.com/daypass/daypass/api"
)

// fail prints an error and what to do about it.
func (a *app) fail(err error) {
	fmt.Fprintf(a.err, "%s %s\n", red("daypass:"), cleanLines(err.Error()))
	for _, hint := range a.hints(err) {
		a.hint("%s", hint)
	}
}

// tell prints a line of progress.
func (a *app) tell(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.err, "%s %s\n", faint("daypass:"), cleanLines(fmt.Sprintf(format, args...)))
	}
}

// hint prints what to type next.
func (a *app) hint(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.err, "%s %s\n", faint("hint:"), cleanLines(fmt.Sprintf(format, args...)))
	}
}

// json prints data for programs.
func (a *app) json(v any) error {
	encoder := json.NewEncoder(a.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// show prints v for programs, or has text print it for people.
func (a *app) show(v any, text func()) error {
	if a.output == "json" {
		return a.json(v)
	}
	text()
	return nil
}

// printf prints for people.
func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }

// table prints rows in columns under a header. Columns without a value are left out.
func (a *app) table(header []string, rows [][]string) {
	shown := make([][]string, len(rows)+1)
	for i, name := range header {
		if !slices.ContainsFunc(rows, func(row []string) bool { return row[i] != "" }) {
			continue
		}
		shown[0] = append(shown[0], bold(name))
		for j, row := range rows {
			shown[j+1] = append(shown[j+1], row[i])
		}
	}
	columns(a.out, shown)
}

// fact is a name and what is said of it.
type fact struct{ name, value string }

// facts prints facts below each other; those without a value are left out.
func (a *app) facts(all ...fact) {
	var rows [][]string
	for _, f := range all {
		if f.value != "" {
			rows = append(rows, []string{faint(f.name), f.value})
		}
	}
	columns(a.out, rows)
}

// columns prints rows with two spaces between columns.
func columns(w io.Writer, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], lipgloss.Width(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-lipgloss.Width(cell)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

func bold(s string) string   { return lipgloss.NewStyle().Bold(true).Render(s) }
func faint(s string) string  { return lipgloss.NewStyle().Faint(true).Render(s) }
func red(s string) string    { return lipgloss.NewStyle().Foreground(lipgloss.Red).Render(s) }
func green(s string) string  { return lipgloss.NewStyle().Foreground(lipgloss.Green).Render(s) }
func yellow(s string) string { return lipgloss.NewStyle().Foreground(lipgloss.Yellow).Render(s) }

// mood colours a word that says how something is.
func mood(word string) string {
	switch word {
	case "active", "ok", "allow", "believed":
		return green(word)
	case "revoking", "pending", "warning", "unknown", "draining", "stale", "unfit", "undeclared":
		return yellow(word)
	case "failing", "deny", "problem":
		return red(word)
	}
	return clean(word)
}

// quote shows a text of the user's.
func quote(s string) string { return strconv.Quote(s) }

// clean makes a text safe for one line of a terminal: it shows control and direction characters instead of obeying
// them.
func clean(s string) string {
	if strings.IndexFunc(s, isUnsafe) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if isUnsafe(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// isUnsafe reports whether a terminal might obey r.
func isUnsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control) || r == '\u2028' || r == '\u2029'
}

// cleanLines is clean for a text of several lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = clean(lines[i])
	}
	return strings.Join(lines, "\n")
}

// stamp tells a time in full and, for people, how far it is.
func (a *app) stamp(t api.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339) + " " + faint("("+a.distance(t)+")")
}

// stampOf is stamp for a time that may be absent.
func (a *app) stampOf(t *api.Time) string {
	if t == nil {
		return ""
	}
	return a.stamp(*t)
}

// distance tells how far a time is from now.
func (a *app) distance(t api.Time) string {
	d := t.Sub(a.now()).Round(time.Second)
	switch {
	case d == 0:
		return "now"
	case d < 0:
		return span(-d) + " ago"
	}
	return "in " + span(d)
}

// span tells a duration by its largest unit, and by the next one while that matters.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 10*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}
