// Package targettest is the conformance suite of [target.Target]: what every kind of target is held to.
//
//	func TestConformance(t *testing.T) {
//		targettest.Run(t, func(t *testing.T) targettest.Fixture { … })
//	}
//
// A [Fixture] knows how to try a credential against the real thing. A target that cannot do a case lists the
// [Capability] under Skips with a reason; the documentation prints these as a table. The package also holds
// [Memory], the one fake target, which passes the suite itself and breaks on demand.
//
// It imports target, secret and the standard library, and no kind of target.
package targettest

import (
	"context"
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/daypass/daypass/target"
)

// Fixture is one target, alone in its system, and the means to judge it. The suite makes one for each case.
type Fixture struct {
	Target target.Target
	// Rights are a role's rights that Try can use.
	Rights json.RawMessage
	// Less are rights that Try cannot use, for targets that narrow.
	Less json.RawMessage
	// TTL is how long the credentials of the suite live; an hour unless set.
	TTL time.Duration
	// Try uses a credential at the real thing, as a workload does, and returns nil when it works.
	Try func(context.Context, target.Credential) error
	// Alive reports whether anything of the lease works at the real thing, whoever holds its secrets.
	Alive func(context.Context, string) (bool, error)

	// Exceed uses a credential for something that Rights do not give, and returns nil when that worked.
	Exceed func(context.Context, target.Credential) error
	// Session opens a session that stays open and fails on use once it is dead.
	Session func(context.Context, target.Credential) (Session, error)
	// Name returns what the credential is called at the target.
	Name func(target.Credential) string
	// Faulty is the same target over a road that breaks.
	Faulty func() Faulty
	// Forward moves the target's own clock on, or waits where that clock is real. Nil waits.
	Forward func(time.Duration)
	// Logs returns what the target has logged so far.
	Logs func() string
	// Marks says that the target keeps a mark, and with which target name it was opened.
	Mark target.Mark

	// Skips names what the target cannot do, each with the reason.
	Skips map[Capability]string
}

// Session is an open session at a target.
type Session interface {
	io.Closer
	Use(context.Context) error
}

// Faulty is a target behind a road that breaks, as seen by a broker that is about to crash.
type Faulty struct {
	Target target.Target
	// LoseAnswers lets requests arrive and loses every answer from now on.
	LoseAnswers func()
	// Hold keeps requests on the road from now on.
	Hold func()
	// Heal repairs the road; what was held arrives. It returns when everything has arrived.
	Heal func()
	// Successor opens the target over a good road, as the broker that starts after the crash.
	Successor func() target.Target
}

// Capability is something that not every kind of target can do.
type Capability string

// The capabilities.
const (
	Restriction Capability = "restriction" // the credential carries no more than the role
	Sessions    Capability = "sessions"    // open sessions die with the lease
	Expiry      Capability = "expiry"      // the target itself ends the credential in time
	LostAnswers Capability = "lost-answers"
	LateGrants  Capability = "late-grants"
	Listing     Capability = "listing"
	Renewal     Capability = "renewal"
	Narrowing   Capability = "narrowing"
	Marking     Capability = "marking"
	Checking    Capability = "checking"
	Clocks      Capability = "clock"
	Expiries    Capability = "expiries"
	Cleaning    Capability = "cleaning"
)

// Capabilities lists all capabilities.
func Capabilities() []Capability {
	return []Capability{Restriction, Sessions, Expiry, LostAnswers, LateGrants, Listing, Renewal, Narrowing, Marking, Checking, Clocks, Expiries, Cleaning}
}

// testCase is one sentence of the contract.
type testCase struct {
	name  string
	needs Capability // empty: nobody may skip it
	run   func(*testing.T, *suite)
}

// Run holds the target that open makes to the contract.
func Run(t *testing.T, open func(*testing.T) Fixture) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) { c.hold(t, open, time.Minute) })
	}
}

// RunTogether is [Run] with all cases at once, for targets whose revocations take long because they wait. Systems that
// open makes must not disturb each other.
func RunTogether(t *testing.T, open func(*testing.T) Fixture) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.hold(t, open, 10*time.Minute)
		})
	}
}

// hold holds a target to one case.
func (c testCase) hold(t *testing.T, open func(*testing.T) Fixture, limit time.Duration) {
	s := &suite{Fixture: open(t)}
	if reason, skip := s.Skips[c.needs]; skip && c.needs != "" {
		t.Skipf("%s: %s", c.needs, reason)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s.ctx = ctx
	c.run(t, s)
}

func cases() []testCase {
	return []testCase{
		{"a granted credential works", "", grantWorks},
		{"granted twice, the credential of the second answer works", "", grantTwice},
		{"the credential carries no more than the role", Restriction, carriesNoMore},
		{"names are a function of the lease ID", "", namesFollowLease},
		{"a lease that was never granted is revoked", "", revokeUnknown},
		{"revoked twice is revoked", "", revokeTwice},
		{"after nil from revoke the credential is refused", "", revokeEnds},
		{"a lease ends alone", "", revokeAlone},
		{"open sessions die with the lease", Sessions, sessionsDie},
		{"a lost answer leaves nothing that a successor cannot end", LostAnswers, lostAnswer},
		{"a late grant never outlives its revocation", LateGrants, lateGrant},
		{"a concurrent grant and revoke end dead", "", grantAgainstRevoke},
		{"many leases at once are many credentials", "", manyAtOnce},
		{"a cancelled context leaves a revocable state", "", cancelledGrant},
		{"a dead context does nothing and says so", "", deadContext},
		{"rights that are nonsense do nothing and say so", "", nonsenseRights},
		{"the target itself ends the credential in time", Expiry, expires},
		{"renewal moves the expiry", Renewal, renewMoves},
		{"the target tells until when a credential lives", Expiries, tellsExpiry},
		{"renewal never revives", Renewal, renewNeverRevives},
		{"narrowing a role reaches its live leases and no others, widening none", Narrowing, narrows},
		{"leases lists exactly the live ones", Listing, listsLive},
		{"the first mark stays, newer boots replace it, strangers and older boots do not", Marking, marks},
		{"the clock of the target runs", Clocks, clockRuns},
		{"a working administrator has no problem", Checking, checks},
		{"cleaning with nothing left leaves nothing", Cleaning, cleans},
		{"no secret is in an error or a log", "", canary},
	}
}
