package source

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxText bounds one file, in bytes.
const MaxText = 1 << 20

// Place is where something stands in a file. The zero Place is nowhere.
type Place struct {
	File   string
	Line   int // from 1
	Column int // from 1, in characters
}

// String returns the place as `file:line:column`.
func (p Place) String() string {
	return (&Error{File: p.File, Line: p.Line, Column: p.Column}).Place()
}

// File is a text that can tell where its mistakes are.
type File struct {
	Name   string
	Text   string
	lines  []string
	starts []int // byte offsets of the lines in Text
}

// NewFile returns text as a file called name. It refuses what cannot be shown truthfully: text that is not UTF-8,
// control characters, and characters that change the order in which text is shown, since a policy could then
// read differently from what it does. A byte order mark at the start is dropped.
func NewFile(name, text string) (*File, error) {
	f := &File{Name: name, Text: strings.TrimPrefix(text, "\ufeff")}
	if len(text) > MaxText {
		return nil, Errors{{File: name, Message: fmt.Sprintf("the file has %d bytes", len(text)),
			Hint: fmt.Sprintf("a file may have %d bytes: split it", MaxText)}}
	}
	f.lines = strings.Split(f.Text, "\n")
	var wrong Errors
	start := 0
	for i, line := range f.lines {
		f.starts = append(f.starts, start)
		start += len(line) + len("\n")
		line = strings.TrimSuffix(line, "\r")
		f.lines[i] = line
		column := 0
		for offset, r := range line {
			column++
			if message := refused(r, line[offset:]); message != "" {
				wrong = append(wrong, &Error{File: name, Line: i + 1, Column: column, Message: message, Excerpt: conceal(visible(line)),
					Hint: "remove it; where it is part of a value, write it as an escape"})
				break
			}
		}
	}
	return f, wrong.Err()
}

// refused says why r, the first character of rest, may not stand in a file.
func refused(r rune, rest string) string {
	switch {
	case r == utf8.RuneError && !strings.HasPrefix(rest, "\ufffd"):
		return "the text is not UTF-8"
	case r == '\t':
		return ""
	case unicode.IsControl(r):
		return fmt.Sprintf("control character %U", r)
	case Reorders(r):
		return fmt.Sprintf("character %U changes the order in which text is shown", r)
	case r == '\u2028' || r == '\u2029':
		return fmt.Sprintf("character %U breaks the line for some readers and not for others", r)
	}
	return ""
}

// visible returns line with a sign in place of every character that a file may not have.
func visible(line string) string {
	var shown strings.Builder
	for offset, r := range line {
		if refused(r, line[offset:]) != "" {
			r = utf8.RuneError
		}
		shown.WriteRune(r)
	}
	return shown.String()
}

// Reorders reports whether r changes the order in which the text around it is shown.
func Reorders(r rune) bool {
	return r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' || r == '\u200e' || r == '\u200f' || r == '\u061c'
}

// Error returns a mistake at a line and column of the file, with its excerpt.
func (f *File) Error(line, column int, message, hint string) *Error {
	e := &Error{File: f.Name, Line: line, Column: max(column, 1), Message: message, Hint: hint}
	if line >= 1 && line <= len(f.lines) {
		e.Excerpt = conceal(f.lines[line-1])
	}
	return e
}

// ErrorAt returns a mistake at a byte offset of the file's text.
func (f *File) ErrorAt(offset int, message, hint string) *Error {
	p := f.PlaceOf(offset)
	return f.Error(p.Line, p.Column, message, hint)
}

// PlaceOf returns the place of a byte offset of the file's text.
func (f *File) PlaceOf(offset int) Place {
	offset = min(max(offset, 0), len(f.Text))
	line := sort.SearchInts(f.starts, offset+1) - 1
	column := utf8.RuneCountInString(f.Text[f.starts[line]:offset]) + 1
	return Place{File: f.Name, Line: line + 1, Column: column}
}

// concealed are parts of keys whose values an excerpt must not show: people paste secrets where a reference
// belongs, and the error must not spread them.
func concealed() []string {
	return []string{"password", "passwd", "passphrase", "secret", "token", "private"}
}

// conceal blanks what may be a secret in a line: values of keys that say so, and passwords in URLs.
func conceal(line string) string {
	lower := strings.ToLower(line)
	for _, word := range concealed() {
		for from := 0; ; {
			at := strings.Index(lower[from:], word)
			if at < 0 {
				break
			}
			from += at + len(word)
			if start, ok := valueAfter(line, from); ok {
				return concealURL(line[:start] + "…")
			}
		}
	}
	return concealURL(line)
}

// valueAfter returns where the plain value of the key that goes on at from starts, if it has one.
func valueAfter(line string, from int) (int, bool) {
	if from > len(line) {
		return 0, false
	}
	rest := line[from:]
	colon := strings.IndexByte(rest, ':')
	if colon < 0 || strings.ContainsAny(strings.TrimRight(rest[:colon], " \t\"'"), " \t") {
		return 0, false
	}
	value := strings.TrimLeft(rest[colon+1:], " \t")
	if value == "" || value[0] == '{' || value[0] == '[' || value[0] == '#' || value[0] == '}' {
		return 0, false
	}
	return len(line) - len(value), true
}

// concealURL blanks passwords in the user part of URLs.
func concealURL(line string) string {
	for from := 0; ; {
		at := strings.Index(line[from:], "://")
		if at < 0 {
			return line
		}
		from += at + len("://")
		end := from + len(line[from:])
		if stop := strings.IndexAny(line[from:], "/ \t\"'"); stop >= 0 {
			end = from + stop
		}
		user := strings.LastIndexByte(line[from:end], '@')
		if user < 0 {
			continue
		}
		if colon := strings.IndexByte(line[from:from+user], ':'); colon >= 0 {
			line = line[:from+colon+1] + "…" + line[from+user:]
		}
	}
}

// Nearest returns the candidate that word may have been meant to be, and an empty string where none is near.
func Nearest(word string, candidates []string) string {
	best, bound := "", max(1, min(3, len(word)/3))+1
	for _, candidate := range slices.Sorted(slices.Values(candidates)) {
		if d := distance(strings.ToLower(word), strings.ToLower(candidate)); d < bound {
			best, bound = candidate, d
		}
	}
	return best
}

// Suggest says what could be written instead of word: the nearest candidate, or all of them. What names what
// they are, in the plural.
func Suggest(word, what string, candidates []string) string {
	if near := Nearest(word, candidates); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(candidates) == 0 {
		return "there are no " + what
	}
	sorted := slices.Sorted(slices.Values(candidates))
	const shown = 12
	if len(sorted) > shown {
		return fmt.Sprintf("%s are %s and %d more", what, strings.Join(sorted[:shown], ", "), len(sorted)-shown)
	}
	return fmt.Sprintf("%s are %s", what, strings.Join(sorted, ", "))
}

// distance is the number of characters to insert, delete, replace or swap with their neighbour to get from a to b.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	if len(x) > 80 || len(y) > 80 {
		return 80
	}
	older, old, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range old {
		old[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(old[j]+1, row[j-1]+1, old[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
		older, old, row = old, row, older
	}
	return old[len(y)]
}
