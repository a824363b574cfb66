package source

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Error is one mistake in a file that a person wrote.
type Error struct {
	File    string // the path as the person knows it
	Line    int    // from 1; 0 where the whole file is meant
	Column  int    // from 1, counted in characters
	Message string // what is wrong, naming the thing
	Hint    string // what to do, where we know it
	Excerpt string // the line, without its ending; values of secrets are blanked
}

// Error returns everything that is known, on several lines: place and message, the line with a caret, the hint.
func (e *Error) Error() string {
	var text strings.Builder
	text.WriteString(e.Place())
	text.WriteString(": ")
	text.WriteString(e.Message)
	if e.Excerpt != "" && e.Line > 0 {
		number := fmt.Sprintf("%5d", e.Line)
		line, column := shorten(e.Excerpt, e.Column)
		fmt.Fprintf(&text, "\n%s | %s\n%s | %s^", number, line, strings.Repeat(" ", len(number)), indent(line, column))
	}
	if e.Hint != "" {
		text.WriteString("\n      hint: ")
		text.WriteString(e.Hint)
	}
	return text.String()
}

// Place returns where the mistake is, as `file:line:column`.
func (e *Error) Place() string {
	switch {
	case e.Line == 0:
		return e.File
	case e.Column == 0:
		return fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	return fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column)
}

// maxExcerpt bounds what is shown of a line, in characters.
const maxExcerpt = 120

// shorten returns the part of a long line that is around column, and the column within that part.
func shorten(line string, column int) (string, int) {
	runes := []rune(line)
	if len(runes) <= maxExcerpt {
		return line, min(max(column, 1), len(runes)+1)
	}
	column = min(max(column, 1), len(runes))
	from := min(max(0, column-1-maxExcerpt/2), len(runes)-maxExcerpt)
	part := string(runes[from : from+maxExcerpt])
	return "…" + part + "…", column - from + 1
}

// indent returns the white space that puts a caret under column of line: tabs stay tabs, so that both lines are
// as wide as each other in any terminal.
func indent(line string, column int) string {
	var space strings.Builder
	for i, r := range []rune(line) {
		if i >= column-1 {
			break
		}
		if r == '\t' {
			space.WriteRune('\t')
		} else {
			space.WriteRune(' ')
		}
	}
	return space.String()
}

// Errors are all the mistakes of a set of files, sorted by place.
type Errors []*Error

// Error returns every mistake, with a blank line between two.
func (es Errors) Error() string {
	texts := make([]string, len(es))
	for i, e := range es {
		texts[i] = e.Error()
	}
	return strings.Join(texts, "\n\n")
}

// Unwrap returns the mistakes one by one.
func (es Errors) Unwrap() []error {
	list := make([]error, len(es))
	for i, e := range es {
		list[i] = e
	}
	return list
}

// Err returns es sorted by place and without repetitions, and nil where there are none.
func (es Errors) Err() error {
	if len(es) == 0 {
		return nil
	}
	sorted := slices.Clone(es)
	slices.SortStableFunc(sorted, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column), cmp.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(sorted, func(a, b *Error) bool { return *a == *b })
}

// Add appends err: its mistakes where it is [Errors] or joined from several, and as a mistake of the whole of
// file where it has no place. A nil err adds nothing.
func (es *Errors) Add(file string, err error) {
	switch e := err.(type) { //nolint:errorlint // errors that are joined are taken apart below; a wrapped one keeps its text
	case nil:
	case *Error:
		*es = append(*es, e)
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			es.Add(file, part)
		}
	default:
		if inner, ok := errors.AsType[*Error](err); ok {
			*es = append(*es, inner)
			return
		}
		*es = append(*es, &Error{File: file, Message: err.Error()})
	}
}
