package terminal

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/agent"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/source"
)

// The exit codes; `daypass help exit-codes` is their manual.
const (
	ExitOther           = 1
	ExitUsage           = 2
	ExitUnauthenticated = 3
	ExitDenied          = 4
	ExitNotFound        = 5
	ExitConflict        = 6
	ExitTooMany         = 7
	ExitUnavailable     = 8
	ExitFindings        = 9
)

// usageError is a mistake in the command line.
type usageError struct {
	text    string
	command string // whose help tells more; empty where help does not help
}

func (e usageError) Error() string { return e.text }

// Usage is a mistake in the command line that help says nothing about.
func Usage(text string) error { return usageError{text, ""} }

// UsageOf is a mistake in the command line of a command, such as "daypass lock", whose help tells more.
func UsageOf(command, text string) error { return usageError{text, command} }

// unknownError is a command that does not exist.
type unknownError struct {
	name    string
	command string // below which it was looked for
	meant   []string
}

func (e unknownError) Error() string {
	return fmt.Sprintf("%s has no command %s", e.command, Quote(e.name))
}

// Unknown is a command that does not exist below another, and those that may have been meant.
func Unknown(name, below string, meant []string) error { return unknownError{name, below, meant} }

// hintedError is an error with advice of its own.
type hintedError struct {
	error
	hints []string
}

func (e hintedError) Unwrap() error { return e.error }

// Hinted adds advice to an error.
func Hinted(err error, hints ...string) error { return hintedError{err, hints} }

// codedError is an error with an exit code of its own.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }

// Coded gives an error an exit code of its own.
func Coded(err error, code int) error { return codedError{err, code} }

// ExitCode returns the exit code of an error.
func ExitCode(err error) int {
	if coded, ok := errors.AsType[codedError](err); ok {
		return coded.code
	}
	if problem, ok := errors.AsType[*api.Problem](err); ok {
		return problemCode(problem)
	}
	_, isUsage := errors.AsType[usageError](err)
	_, isUnknown := errors.AsType[unknownError](err)
	switch {
	case isUsage, isUnknown:
		return ExitUsage
	case errors.Is(err, client.ErrNoToken), errors.Is(err, client.ErrNoCertificate):
		return ExitUnauthenticated
	case errors.Is(err, client.ErrUnreachable):
		return ExitUnavailable
	}
	if _, ok := errors.AsType[source.Errors](err); ok {
		return ExitUsage
	}
	return problemCode(&api.Problem{Code: string(fault.KindOf(err))}) // of the server's own parts, when they run here
}

// problemCode is the exit code of a refusal: by its code, and by its status where something else than a Daypass
// server answered.
func problemCode(p *api.Problem) int {
	switch p.Code {
	case "invalid":
		return ExitUsage
	case "unauthenticated":
		return ExitUnauthenticated
	case "denied":
		return ExitDenied
	case "not_found":
		return ExitNotFound
	case "conflict":
		return ExitConflict
	case "too_many":
		return ExitTooMany
	case "target_unavailable", "store_unavailable", "issuer_unavailable":
		return ExitUnavailable
	case "internal":
		return ExitOther
	}
	switch p.Status {
	case http.StatusUnauthorized:
		return ExitUnauthenticated
	case http.StatusForbidden:
		return ExitDenied
	case http.StatusTooManyRequests:
		return ExitTooMany
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return ExitUnavailable
	}
	return ExitOther
}

// hints says what to do about an error.
func (t *Terminal) hints(err error) []string {
	if own, ok := errors.AsType[hintedError](err); ok {
		return own.hints
	}
	if own, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		return []string{own.Hint()}
	}
	if none, ok := errors.AsType[*agent.NoEvidenceError](err); ok {
		return none.Hints()
	}
	if unknown, ok := errors.AsType[unknownError](err); ok {
		if len(unknown.meant) > 0 {
			return []string{"did you mean: " + unknown.command + " " + strings.Join(unknown.meant, ", or "+unknown.command+" ")}
		}
		return []string{unknown.command + " --help"}
	}
	if usage, ok := errors.AsType[usageError](err); ok && usage.command != "" {
		return []string{usage.command + " --help"}
	}
	if clash, ok := errors.AsType[*agent.ClashError](err); ok {
		return []string{fmt.Sprintf("give one of them a prefix: OTHER=%s sets OTHER_%s and so on", clash.Second.Role, clash.Variable)}
	}
	if problem, ok := errors.AsType[*api.Problem](err); ok {
		return problemHints(problem)
	}
	if errors.Is(err, client.ErrUnreachable) {
		return []string{"is the server running there? --server and --socket name another; daypass serve starts one"}
	}
	return nil
}

// problemHints says what to do about a refusal.
func problemHints(p *api.Problem) []string {
	var hints []string
	switch {
	case p.Code == "unauthenticated" && strings.Contains(p.Detail, "no access configuration is active"):
		hints = append(hints, "an administrator activates one: daypass apply DIR")
	case p.Code == "unauthenticated":
		hints = append(hints, "the token must come from an issuer that the server knows, be meant for the server's url (its audience), and be fresh")
	case p.Code == "denied" && p.DecisionID != "":
		hints = append(hints, "an administrator sees why with: daypass explain "+Clean(p.DecisionID))
	case p.Code == "target_unavailable":
		hints = append(hints, "an administrator sees the target's health with: daypass status")
	case p.RetryAfter > 0:
		hints = append(hints, fmt.Sprintf("try again in %d s", p.RetryAfter))
	case strings.HasPrefix(p.Code, "http_"):
		hints = append(hints, "is --server (DAYPASS_URL) the URL of a Daypass server?")
	}
	if p.Instance != "" && (p.Code == "internal" || strings.Contains(p.Detail, "the server's log")) {
		hints = append(hints, "the server's log has the cause under request "+Clean(p.Instance))
	}
	return hints
}
