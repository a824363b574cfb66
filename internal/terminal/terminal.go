// Package terminal is how a command answers: what people and programs see of it, and with which exit code it ends.
//
//   - Data goes to standard output. Everything else goes to standard error: errors, progress and hints.
//   - Lines on standard error are lower case and begin with the program's name; a hint is a line of its own that
//     says what to type or do next.
//   - Colours are for terminals, and NO_COLOR takes them away. Nothing is told by colour alone.
//   - Text from elsewhere (subjects, reasons, errors) cannot command the terminal: control characters are shown.
//   - Tables tell times as distances, details tell them in full, in UTC.
//   - Every error has an exit code, whatever room it comes from, and says what to do about it where somebody knows.
//
// It knows nothing of commands and flags, and asks no server. It must not import cobra or anything of the server.
package terminal

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/daypass/daypass/api"
)

// Fail prints an error and what to do about it.
func (t *Terminal) Fail(err error) {
	fmt.Fprintf(t.Err, "%s %s\n", Red("daypass:"), CleanLines(err.Error()))
	for _, hint := range t.hints(err) {
		t.Hint("%s", hint)
	}
}

// Tell prints a line of progress.
func (t *Terminal) Tell(format string, args ...any) {
	if !t.Quiet {
		fmt.Fprintf(t.Err, "%s %s\n", Faint("daypass:"), CleanLines(fmt.Sprintf(format, args...)))
	}
}

// Hint prints what to type next.
func (t *Terminal) Hint(format string, args ...any) {
	if !t.Quiet {
		fmt.Fprintf(t.Err, "%s %s\n", Faint("hint:"), CleanLines(fmt.Sprintf(format, args...)))
	}
}

// JSON prints data for programs.
func (t *Terminal) JSON(v any) error {
	encoder := json.NewEncoder(t.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// Show prints v for programs, or has text print it for people.
func (t *Terminal) Show(v any, text func()) error {
	if t.Output == "json" {
		return t.JSON(v)
	}
	text()
	return nil
}

// Printf prints for people.
func (t *Terminal) Printf(format string, args ...any) { fmt.Fprintf(t.Out, format, args...) }

// Table prints rows in columns under a header. Columns without a value are left out.
func (t *Terminal) Table(header []string, rows [][]string) {
	shown := make([][]string, len(rows)+1)
	for i, name := range header {
		if !slices.ContainsFunc(rows, func(row []string) bool { return row[i] != "" }) {
			continue
		}
		shown[0] = append(shown[0], Bold(name))
		for j, row := range rows {
			shown[j+1] = append(shown[j+1], row[i])
		}
	}
	Columns(t.Out, shown)
}

// Fact is a name and what is said of it.
type Fact [2]string

// Facts prints facts below each other; those without a value are left out.
func (t *Terminal) Facts(all []Fact) {
	var rows [][]string
	for _, f := range all {
		if f[1] != "" {
			rows = append(rows, []string{Faint(f[0]), f[1]})
		}
	}
	Columns(t.Out, rows)
}

// Columns prints rows with two spaces between columns.
func Columns(w io.Writer, rows [][]string) {
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

// Stamp tells a time in full and, for people, how far it is.
func (t *Terminal) Stamp(at api.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339) + " " + Faint("("+t.Distance(at)+")")
}

// StampOf is stamp for a time that may be absent.
func (t *Terminal) StampOf(at *api.Time) string {
	if at == nil {
		return ""
	}
	return t.Stamp(*at)
}

// Distance tells how far a time is from now.
func (t *Terminal) Distance(at api.Time) string {
	d := at.Sub(t.Now()).Round(time.Second)
	switch {
	case d == 0:
		return "now"
	case d < 0:
		return span(-d) + " ago"
	}
	return "in " + span(d)
}

// Terminal is where one command line runs: its environment, its streams, and how it is to answer.
type Terminal struct {
	Env    []string
	Stdin  io.Reader
	Stdout io.Writer        // as given: for data
	Stderr io.Writer        // as given: for children
	Out    io.Writer        // Stdout for people: colours only where it is a terminal
	Err    io.Writer        // the same for Stderr
	Now    func() time.Time // the clock of what is shown

	Output string // the form of the output: "text", "json" or another that the command has
	Quiet  bool   // no progress and hints
	Code   int    // exit code of a command line without an error of ours
}

// New returns a terminal that answers with text.
func New(env []string, stdin io.Reader, stdout, stderr io.Writer, now func() time.Time) *Terminal {
	return &Terminal{Env: env, Stdin: stdin, Stdout: stdout, Stderr: stderr, Now: now, Output: "text",
		Out: colorprofile.NewWriter(stdout, env), Err: colorprofile.NewWriter(stderr, env)}
}

// Getenv returns a variable of the environment, the last one where it is given twice.
func (t *Terminal) Getenv(name string) string {
	for _, entry := range slices.Backward(t.Env) {
		if value, found := strings.CutPrefix(entry, name+"="); found {
			return value
		}
	}
	return ""
}
