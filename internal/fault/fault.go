// Package fault gives every error that crosses a package border a kind.
//
// Callers choose what to do by kind, never by text. The HTTP edge maps kinds to problem documents in one
// table; an error without a kind is [Internal]. Public is the only text that leaves the process: the cause
// goes to the log beside the same request ID.
//
// The package imports the standard library only.
package fault

import (
	"errors"
	"time"
)

// Kind says what went wrong, from a closed list that only grows.
type Kind string

// The kinds. Their words are the `code` of problem documents.
const (
	Invalid           Kind = "invalid"            // the request is malformed; repeating it is useless
	Unauthenticated   Kind = "unauthenticated"    // the evidence is missing or bad
	Denied            Kind = "denied"             // the evidence is good, the answer is no
	NotFound          Kind = "not_found"          // absent, or not for this caller to know of
	Conflict          Kind = "conflict"           // the state of the thing does not allow it
	TooMany           Kind = "too_many"           // a limit, a rate or a full queue; see RetryAfter
	TargetUnavailable Kind = "target_unavailable" // the target did not do it, or we could not tell
	StoreUnavailable  Kind = "store_unavailable"  // nothing was recorded, so nothing was done
	IssuerUnavailable Kind = "issuer_unavailable" // the evidence could not be judged, because its issuer gave no keys
	Internal          Kind = "internal"           // everything else
)

// Error is an error with a kind. Op names the thing and the operation (`grant lease 7f… on target "x"`).
type Error struct {
	Op         string
	Kind       Kind
	Public     string        // the only text for the caller; empty: the kind's own
	Decision   string        // the decision to explain, where there was one
	RetryAfter time.Duration // when to try again, where that is known
	Err        error         // the cause, for the log only
}

// New returns an error of kind whose public text is public.
func New(kind Kind, op, public string) *Error {
	return &Error{Op: op, Kind: kind, Public: public}
}

// Wrap returns err with a kind and public text.
func Wrap(kind Kind, op, public string, err error) *Error {
	return &Error{Op: op, Kind: kind, Public: public, Err: err}
}

// Error tells the whole chain: for logs, not for callers.
func (e *Error) Error() string {
	text := e.Op
	for _, part := range []string{e.Public, causeText(e.Err)} {
		if part == "" {
			continue
		}
		if text != "" {
			text += ": "
		}
		text += part
	}
	if text == "" {
		return string(e.Kind)
	}
	return text
}

func causeText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the outermost [Error] in err's chain, and [Internal] where there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is of kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// Outcome is a word for metrics: "ok", or the kind of the error.
func Outcome(err error) string {
	if err == nil {
		return "ok"
	}
	return string(KindOf(err))
}
