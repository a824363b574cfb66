// Package lease is the life of a lease: its states, what moves it, and nothing else.
//
// A lease is our durable record that a credential may exist at a target until a time. It is written as
// [Pending] before the target is called, so that no credential can exist without a row that ends it, and only
// proof of death leaves [Revoking]: there is no attempt limit and no state for giving up.
//
//	pending ──granted──▶ active
//	   │                   │
//	 ended               ended
//	   ▼                   ▼
//	revoking ◀─────────────┘
//	   │
//	 proved
//	   ▼
//	revoked
//
// The package does no I/O and reads no clock. [Next] is the only way from one state to another.
package lease

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"fmt"
)

// State is where a lease stands. The words are the same in the API, the store, metrics and the ledger.
type State string

// The states, each with who moves a lease out of it and what a crash leaves.
const (
	// Pending: recorded, the target may or may not have been called. The request that made it moves it on;
	// after a crash the next start ends it as [Interrupted].
	Pending State = "pending"
	// Active: the target confirmed the credential and the holder may use it. The holder, the clock, a lock or
	// a change of access end it; a crash leaves it as it is, since the row holds its expiry.
	Active State = "active"
	// Revoking: the credential must die and may still live. Only the revoker moves it, and only on the
	// target's proof; a crash leaves it here and the revoker takes it up again.
	Revoking State = "revoking"
	// Revoked: the target confirmed that the credential cannot be used. Nothing moves it.
	Revoked State = "revoked"
)

// States lists all states in the order of a life.
func States() []State { return []State{Pending, Active, Revoking, Revoked} }

// MayLive reports whether a credential may exist at the target in this state.
func (s State) MayLive() bool { return s != Revoked }

// Event is what happens to a lease.
type Event string

// The events.
const (
	Granted Event = "granted" // the target confirmed the credential
	Ended   Event = "ended"   // the credential must die, for a [Reason]
	Proved  Event = "proved"  // the target confirmed its death
)

// Events lists all events.
func Events() []Event { return []Event{Granted, Ended, Proved} }

// transitions is the whole life. What is not in it is refused.
var transitions = map[State]map[Event]State{
	Pending:  {Granted: Active, Ended: Revoking},
	Active:   {Ended: Revoking},
	Revoking: {Proved: Revoked},
	Revoked:  {},
}

// RefusedError says that an event does not apply in a state.
type RefusedError struct {
	State State
	Event Event
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("a lease in state %q cannot be %s", e.State, e.Event)
}

// Next returns the state that e leads to from s, or a [RefusedError] when it leads nowhere.
func Next(s State, e Event) (State, error) {
	next, ok := transitions[s][e]
	if !ok {
		return s, &RefusedError{State: s, Event: e}
	}
	return next, nil
}

// Reason says why a lease ended. It is set once, by the event that ended the lease.
type Reason string

// The reasons: a closed list.
const (
	Released    Reason = "released"    // by its holder
	Expired     Reason = "expired"     // its time was up
	Locked      Reason = "locked"      // a lock matched it
	Revoke      Reason = "revoked"     // an administrator ended it
	Superseded  Reason = "superseded"  // the same principal and idempotency key asked again
	Undelivered Reason = "undelivered" // the answer could not be written
	Failed      Reason = "failed"      // the target did not grant it, or we could not tell
	Interrupted Reason = "interrupted" // the broker died while granting it
	Withdrawn   Reason = "withdrawn"   // its role, target or issuer left the access configuration, or the term of its device is over
	Policy      Reason = "policy"      // policies no longer permit it
)

// Reasons lists all reasons.
func Reasons() []Reason {
	return []Reason{Released, Expired, Locked, Revoke, Superseded, Undelivered, Failed, Interrupted, Withdrawn, Policy}
}

// ID names a lease: 20 characters of lowercase base32 (RFC 4648), 6 that tell the second it was made in and 14
// random ones (70 bits). Credentials at targets are named after it, so that a target alone tells which lease a
// credential belongs to. It is a name and no secret: whoever knows it may do nothing.
type ID string

// idEncoding is base32 in lower case without padding.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// idLength is the number of characters of an ID: as many as 100 bits need.
const idLength = 20

// secondsLength is how many of its characters tell the second.
const secondsLength = 6

// NewID returns a fresh ID of something made at a second of Unix time. IDs of one second are neighbours in an index, so that an
// index of very many is written at a few pages and not at all of them.
func NewID(made int64) ID {
	var second [4]byte
	binary.BigEndian.PutUint32(second[:], uint32(made)<<2) // 30 bits: they begin again after 34 years, which does no harm
	var random [9]byte
	rand.Read(random[:]) // never fails: crypto/rand ends the process instead
	return ID(idEncoding.EncodeToString(second[:])[:secondsLength] + idEncoding.EncodeToString(random[:])[:idLength-secondsLength])
}

// ParseID returns text as an ID, or an error when it does not look like one.
func ParseID(text string) (ID, error) {
	if len(text) != idLength {
		return "", fmt.Errorf("a lease ID has %d characters, not %d", idLength, len(text))
	}
	for _, c := range text {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return "", fmt.Errorf("a lease ID holds only a-z and 2-7, not %q", c)
		}
	}
	return ID(text), nil
}
