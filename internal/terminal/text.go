package terminal

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"
)

// RevisionLength is the number of characters of a revision: a SHA-256 in hexadecimal.
const RevisionLength = 64

// ShortRevision is a revision as tables show it.
func ShortRevision(revision string) string {
	if len(revision) == RevisionLength {
		return revision[:12]
	}
	return Clean(revision)
}

// Count is a number of things.
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// Bold is for names and titles.
func Bold(s string) string { return lipgloss.NewStyle().Bold(true).Render(s) }

// Faint is for what stands around the answer.
func Faint(s string) string { return lipgloss.NewStyle().Faint(true).Render(s) }

// Red is for what is wrong.
func Red(s string) string { return lipgloss.NewStyle().Foreground(lipgloss.Red).Render(s) }

// Green is for what is well.
func Green(s string) string { return lipgloss.NewStyle().Foreground(lipgloss.Green).Render(s) }

// Yellow is for what somebody should look at.
func Yellow(s string) string { return lipgloss.NewStyle().Foreground(lipgloss.Yellow).Render(s) }

// Mood colours a word that says how something is.
func Mood(word string) string {
	switch word {
	case "active", "ok", "allow", "believed":
		return Green(word)
	case "revoking", "pending", "warning", "unknown", "draining", "stale", "unfit", "undeclared":
		return Yellow(word)
	case "failing", "deny", "problem":
		return Red(word)
	}
	return Clean(word)
}

// Quote shows a text of the user's.
func Quote(s string) string { return strconv.Quote(s) }

// Clean makes a text safe for one line of a terminal: it shows control and direction characters instead of obeying
// them.
func Clean(s string) string {
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

// CleanLines is clean for a text of several lines.
func CleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = Clean(lines[i])
	}
	return strings.Join(lines, "\n")
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
