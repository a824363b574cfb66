package identity

import (
	"fmt"
	"strconv"
)

// Rejection says why evidence is bad, by a word of its verifier's own closed list. It is an [ErrRejected].
type Rejection[W ~string] struct {
	Why    W
	detail string
}

// Reject returns a [Rejection]. The text may quote what is no secret, made fit by [Quote], and nothing from which evidence
// could be made.
func Reject[W ~string](why W, format string, args ...any) error {
	return &Rejection[W]{Why: why, detail: fmt.Sprintf(format, args...)}
}

// Error says what is wrong.
func (r *Rejection[W]) Error() string { return r.detail }

// Reason is why, as text: the label of a metric.
func (r *Rejection[W]) Reason() string { return string(r.Why) }

// Is makes a rejection an [ErrRejected].
func (r *Rejection[W]) Is(target error) bool { return target == ErrRejected }

// Quote makes a stranger's text fit for an error: printable and short.
func Quote(text string) string {
	const most = 100
	if len(text) > most {
		return strconv.QuoteToASCII(text[:most]) + "…"
	}
	return strconv.QuoteToASCII(text)
}
