package main

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
	exitOther           = 1
	exitUsage           = 2
	exitUnauthenticated = 3
	exitDenied          = 4
	exitNotFound        = 5
	exitConflict        = 6
	exitTooMany         = 7
	exitUnavailable     = 8
	exitFindings        = 9
)

// usageError is a mistake in the command line.
type usageError struct {
	text    string
	command string // whose help tells more; empty where help does not help
}

func (e usageError) Error() string { return e.text }

// unknownError is a command that does not exist.
type unknownError struct {
	name    string
	command string // below which it was looked for
	meant   []string
}

func (e unknownError) Error() string {
	return fmt.Sprintf("%s has no command %s", e.command, quote(e.name))
}

// hintedError is an error with advice of its own.
type hintedError struct {
	error
	hints []string
}

func (e hintedError) Unwrap() error { return e.error }

// hinted adds advice to an error.
func hinted(err error, hints ...string) error { return hintedError{err, hints} }

// codedError is an error with an exit code of its own.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }

// exitCode returns the exit code of an error.
func exitCode(err error) int {
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
		return exitUsage
	case errors.Is(err, client.ErrNoToken), errors.Is(err, client.ErrNoCertificate):
		return exitUnauthenticated
	case errors.Is(err, client.ErrUnreachable):
		return exitUnavailable
	}
	if _, ok := errors.AsType[source.Errors](err); ok {
		return exitUsage
	}
	return problemCode(&api.Problem{Code: string(fault.KindOf(err))}) // of the server's own parts, when they run here
}

// problemCode is the exit code of a refusal: by its code, and by its status where something else than a Daypass
// server answered.
func problemCode(p *api.Problem) int {
	switch p.Code {
	case "invalid":
		return exitUsage
	case "unauthenticated":
		return exitUnauthenticated
	case "denied":
		return exitDenied
	case "not_found":
		return exitNotFound
	case "conflict":
		return exitConflict
	case "too_many":
		return exitTooMany
	case "target_unavailable", "store_unavailable", "issuer_unavailable":
		return exitUnavailable
	case "internal":
		return exitOther
	}
	switch p.Status {
	case http.StatusUnauthorized:
		return exitUnauthenticated
	case http.StatusForbidden:
		return exitDenied
	case http.StatusTooManyRequests:
		return exitTooMany
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return exitUnavailable
	}
	return exitOther
}

// hints says what to do about an error.
func (a *app) hints(err error) []string {
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
		hints = append(hints, "an administrator sees why with: daypass explain "+clean(p.DecisionID))
	case p.Code == "target_unavailable":
		hints = append(hints, "an administrator sees the target's health with: daypass status")
	case p.RetryAfter > 0:
		hints = append(hints, fmt.Sprintf("try again in %d s", p.RetryAfter))
	case strings.HasPrefix(p.Code, "http_"):
		hints = append(hints, "is --server (DAYPASS_URL) the URL of a Daypass server?")
	}
	if p.Instance != "" && (p.Code == "internal" || strings.Contains(p.Detail, "the server's log")) {
		hints = append(hints, "the server's log has the cause under request "+clean(p.Instance))
	}
	return hints
}
