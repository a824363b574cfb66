package chaos

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// The states of a lease as the API names them, and what else a caller can see of one.
const (
	pending  = "pending"
	active   = "active"
	revoking = "revoking"
	revoked  = "revoked"
	missing  = "missing" // the server does not know the lease
	opens    = "opens"   // its credential opens the target
	refused  = "refused" // the target refuses its credential
)

// rank orders the states: a lease moves upwards only.
func rank(state string) (int, bool) {
	i := slices.Index([]string{pending, active, revoking, revoked}, state)
	return i, i >= 0
}

// observation is what a caller was told about a lease between asking and having the answer. The answer was true at
// some moment in between; which one nobody knows.
type observation struct {
	asked, told time.Time
	what        string
	by          string // who told
}

func (o observation) String() string {
	return fmt.Sprintf("%s (%s, %s to %s)", o.what, o.by, o.asked.Format("15:04:05.000"), o.told.Format("15:04:05.000"))
}

// promise is an answer that says how long a lease will live.
type promise struct{ told, until time.Time }

// life is all that the outside knows of one lease that was handed out.
type life struct {
	id       string
	seen     []observation
	promises []promise
	ended    time.Time // when its end was first asked for; zero: never
}

// check holds that there is one history of the lease that fits all that was told. The lease is a register that moves
// upwards by itself, so that there is one exactly when no answer is below another that was there before it was asked
// for; and it ends before its promised time only when somebody asks for it.
func (l life) check() (wrong []error) {
	complain := func(format string, args ...any) {
		wrong = append(wrong, fmt.Errorf("lease %s: "+format, append([]any{l.id}, args...)...))
	}
	var states []observation
	for _, o := range l.seen {
		switch _, isState := rank(o.what); {
		case isState:
			states = append(states, o)
		case o.what != opens && o.what != refused:
			complain("was handed out, and then: %v", o)
		}
	}
	slices.SortFunc(states, func(a, b observation) int { return a.told.Compare(b.told) })
	for _, o := range l.seen {
		if before, some := newest(states, o.asked); some && o.earlierThan(before) {
			complain("%v takes back %v", o, before)
		}
		if until, early := l.early(o); early {
			complain("ended without being asked to, and was promised until %s: %v", until.Format("15:04:05.000"), o)
		}
	}
	return wrong
}

// newest is the highest state that was told before a moment. The states are in the order in which they were told.
func newest(states []observation, before time.Time) (highest observation, some bool) {
	for _, o := range states {
		if !o.told.Before(before) {
			break
		}
		mine, _ := rank(o.what)
		if best, _ := rank(highest.what); !some || mine > best {
			highest, some = o, true
		}
	}
	return highest, some
}

// earlierThan reports whether the lease cannot have been so after a state was told. A credential opens its target
// until its death is proved.
func (o observation) earlierThan(before observation) bool {
	told, _ := rank(before.what)
	if o.what == opens {
		return before.what == revoked
	}
	mine, isState := rank(o.what)
	return isState && mine < told
}

// early reports whether an observation shows an end before the time that was promised last before it.
func (l life) early(o observation) (until time.Time, early bool) {
	if o.what != refused && o.what != revoking && o.what != revoked || !l.ended.IsZero() && !o.told.Before(l.ended) {
		return until, false
	}
	promises := slices.SortedFunc(slices.Values(l.promises), func(a, b promise) int { return cmp.Or(a.told.Compare(b.told), a.until.Compare(b.until)) })
	for _, p := range promises {
		if p.told.Before(o.asked) {
			until = p.until
		}
	}
	return until, o.told.Before(until)
}
