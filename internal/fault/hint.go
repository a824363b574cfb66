package fault

// Hinted is an error with what to do about it.
type Hinted struct {
	error
	hint string
}

// WithHint returns err with what to do about it, and nil for nil. Its text and its kind stay.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &Hinted{err, hint}
}

// Unwrap returns the error itself.
func (e *Hinted) Unwrap() error { return e.error }

// Hint says what to do.
func (e *Hinted) Hint() string { return e.hint }
