package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode"
)

// Error is a request that the API server did not answer with a success, or not at all.
type Error struct {
	Code    int    // of HTTP; 0 where no answer came
	Reason  string // of the Status that came with it, such as "AlreadyExists"
	Message string
	// Refused says that the request is certain to have had no effect.
	Refused bool

	cause error
}

// Error tells what the API server says.
func (e *Error) Error() string {
	switch {
	case e.cause != nil:
		return e.cause.Error()
	case e.Code == 0 || e.Code < 300:
		return e.Message
	case e.Message == "":
		return fmt.Sprintf("the API server answers %d", e.Code)
	}
	return fmt.Sprintf("the API server answers %d: %s", e.Code, e.Message)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// The reasons that callers tell apart.
const (
	ReasonExists   = "AlreadyExists"
	ReasonConflict = "Conflict" // the object has changed, or its UID is another
	ReasonNotFound = "NotFound"
)

// Is reports whether an error is the API server's, with this reason.
func Is(err error, reason string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Reason == reason
}

// WasRefused reports whether a request is certain to have had no effect.
func WasRefused(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Refused
}

// maxMessage bounds what is shown of an answer, in bytes.
const maxMessage = 400

// readFailure reads a `Status` of the API. What is no Status came from something else on the way.
func readFailure(response *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10)) // half of it is as good as none
	var status struct {
		Kind    string `json:"kind"`
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}
	e := &Error{Code: response.StatusCode}
	if json.Unmarshal(text, &status) != nil || status.Kind != "Status" {
		if e.Code >= 300 && e.Code < 400 {
			e.Message = "it redirects, which is not followed"
		}
		return e
	}
	e.Reason, e.Message = status.Reason, printable(status.Message)
	// What the server refuses it has not done; of its own failures and time-outs nobody knows.
	e.Refused = e.Code >= 400 && e.Code < 500 && e.Code != http.StatusRequestTimeout
	return e
}

// printable makes a stranger's text fit for a line of a log.
func printable(text string) string {
	if len(text) > maxMessage {
		text = text[:maxMessage] + "…"
	}
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
