package target

import (
	"fmt"
	"strings"
)

// FieldError is something wrong in a section of an access file. Whoever reads the file shows it at the field, with its
// line.
type FieldError struct {
	Path string // in the section, such as grants[0].on
	Text string
	Help string // what to do, where that is not plain
}

// Error names the field.
func (e *FieldError) Error() string { return e.Path + ": " + e.Text }

// Field returns the path of the field in its section.
func (e *FieldError) Field() string { return e.Path }

// Hint returns what to do about it, empty where that is plain.
func (e *FieldError) Hint() string { return e.Help }

// Wrong returns a [FieldError].
func Wrong(path, format string, args ...any) error {
	return &FieldError{Path: path, Text: fmt.Sprintf(format, args...)}
}

// CheckLease refuses, with [ErrNotDone], what is not a lease ID: names at targets are made of it.
func CheckLease(lease string) error {
	if len(lease) != 20 || strings.Trim(lease, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return fmt.Errorf("%.40q is not a lease ID: %w", lease, ErrNotDone)
	}
	return nil
}
