package azure_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/azure/azuretest"
	"github.com/daypass/daypass/target/cloud/cloudtest"
	"github.com/daypass/daypass/target/targettest"
)

func TestPrincipalsConform(t *testing.T) {
	made := cloudtest.Keys(t)
	targettest.RunTogether(t, func(t *testing.T) targettest.Fixture {
		r := newRig(t, made)
		return targettest.Fixture{
			Target: r.principals(r.url, 0), Rights: []byte(leaseRights), TTL: 15 * time.Minute,
			Mark: target.Mark{Instance: cloudtest.Instance, Target: "acme-a", Boot: 1},
			Try:  r.read, Exceed: r.remove, Forward: r.clock.Pass, Logs: r.log.String,
			Alive: func(_ context.Context, lease string) (bool, error) {
				return len(r.Objects("dp_"+cloudtest.Instance+"_"+lease)) > 0, nil
			},
			Name: func(c target.Credential) string {
				_, name, err := r.Who(c.Secrets["access_token"].Reveal())
				if err != nil {
					t.Errorf("name: %v", err)
				}
				return name
			},
			Faulty: r.faulty,
			Skips: map[targettest.Capability]string{
				targettest.Expiry:    "Entra says how long its tokens live, and the lease waits for that, or for the end of its principal",
				targettest.Sessions:  "what a service gives for a token is the service's, and lives by its rules",
				targettest.Renewal:   "a token does not change: acquire another",
				targettest.Narrowing: "a service principal keeps what it was given",
				targettest.Clocks:    "Azure's clock is in its answers only",
			},
		}
	})
}

func TestEveryRequestMayFail(t *testing.T) {
	made := cloudtest.Keys(t)
	cloudtest.Cross(t, func(t *testing.T) cloudtest.World {
		r := newRig(t, made)
		return cloudtest.World{
			Faults: r.faults, Book: r.book, Rights: leaseRights, Left: r.left, Forward: r.clock.Pass,
			Open:  func() target.Target { return r.principals(r.url, 0) },
			Opens: func(c target.Credential) bool { return r.read(context.Background(), c) == nil },
		}
	})
}

// Graph and Entra know what was made a little later, and what was deleted shows in deleted items a little later.
func TestWhatShowsLateIsWaitedFor(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	r.Lag(2)
	at, g := r.principals(r.url, 0), r.grant(leaseRights)
	got, err := at.Grant(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.read(t.Context(), got); err != nil {
		t.Error(err)
	}
	if err := at.Revoke(t.Context(), g.Lease); err != nil {
		t.Error(err)
	}
	if left := r.left(); len(left) > 0 {
		t.Errorf("there is left: %v", left)
	}
}

// A token lives on until it expires. What it opens is taken away, and the lease is revoked when that counts everywhere.
func TestATokenThatLivesOnOpensNothing(t *testing.T) {
	const settle = 10 * time.Minute
	r := newRig(t, cloudtest.Keys(t))
	r.Settle(settle)
	at, g := r.principals(r.url, settle), r.grant(leaseRights)
	got, err := at.Grant(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	if got.Revocation != target.Assisted {
		t.Errorf("its class is %s", got.Revocation)
	}
	ended := r.clock.Now()
	for range 3 { // asked again, it does not begin again
		waits, ok := errors.AsType[*target.UnexpiredError](at.Revoke(t.Context(), g.Lease))
		if !ok || waits.Until.Sub(ended) > settle || waits.Until.Sub(ended) < settle-2*time.Second {
			t.Fatalf("it is said to be let in until %v", waits)
		}
		if len(r.left()) > 0 {
			t.Errorf("what it opens waits too: %v", r.left())
		}
		r.clock.Pass(time.Minute)
	}
	if r.read(t.Context(), got) != nil {
		t.Error("the stand-in lets nobody in, so that this shows nothing")
	}
	r.clock.Pass(settle)
	if err := r.principals(r.url, settle).Revoke(t.Context(), g.Lease); err != nil {
		t.Errorf("when it has settled: %v", err)
	}
	if !r.Tokens("dp_abc234_" + g.Lease) {
		t.Error("the token has expired, so that this shows nothing")
	}
	if r.read(t.Context(), got) == nil || len(r.Applications("dp_")) > 0 {
		t.Errorf("revoked, and it opens, or there is %v", r.Applications("dp_"))
	}
}

// A role assignment has one name for what it is, so that a request that is made twice makes one.
func TestAssignmentsAreMadeOnceAndDeletedByName(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	at, g := r.principals(r.url, 0), r.grant(`{"per_lease":true,"assignments":[{"on":"`+orders+`","roles":["`+azuretest.Reader+`"]},{"on":"`+bills+`/providers/Microsoft.Storage/storageAccounts/acme","roles":["`+azuretest.Reader+`","`+azuretest.Contributor+`"]}]}`)
	for range 2 {
		if _, err := at.Grant(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		if all := r.left(); len(all) != 5 { // an application, its principal, and three assignments
			t.Errorf("there is %v", all)
		}
	}
	if err := at.Revoke(t.Context(), g.Lease); err != nil || len(r.left()) > 0 {
		t.Errorf("revoke: %v; left %v", err, r.left())
	}
}

func TestALeaseThatTheStoreForgotIsEndedAllTheSame(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	at, g := r.principals(r.url, 10*time.Minute), r.grant(leaseRights)
	got, err := at.Grant(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	r.book.Forget(g.Lease)
	if _, waits := errors.AsType[*target.UnexpiredError](at.Revoke(t.Context(), g.Lease)); !waits {
		t.Error("somebody may have its token, and nothing waits")
	}
	r.clock.Pass(11 * time.Minute)
	if err := at.Revoke(t.Context(), g.Lease); err != nil || r.read(t.Context(), got) == nil {
		t.Errorf("revoke: %v", err)
	}
	if _, err := at.Grant(t.Context(), g); !errors.Is(err, target.ErrNotDone) {
		t.Errorf("a grant after the end of its lease: %v", err)
	}
}

// Any user of a directory may make an application whose name to show is that of a lease.
func TestAnApplicationThatLooksLikeALeasesEndsNone(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	at, g := r.principals(r.url, 10*time.Minute), r.grant(leaseRights)
	got, err := at.Grant(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	r.Impostor("dp_abc234_"+g.Lease, "ended")
	r.Impostor("dp_abc234_"+targettest.Lease(), "")
	for range 2 {
		if _, err := at.Clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.clock.Pass(11 * time.Minute)
	}
	if err := r.read(t.Context(), got); err != nil {
		t.Errorf("the lease was ended by another application: %v", err)
	}
	for lease, err := range at.Leases(t.Context()) {
		if err != nil || lease != g.Lease {
			t.Errorf("listed: %s, %v", lease, err)
		}
	}
}

// What is left of an application that somebody deleted is found: its assignments, and itself in deleted items.
func TestRemainsOfDeletedApplicationsAreFound(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	at, g := r.principals(r.url, 0), r.grant(leaseRights)
	if _, err := at.Grant(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	r.Delete("dp_abc234_" + g.Lease)
	if all := r.left(); len(all) != 3 {
		t.Fatalf("the stand-in keeps %v", all)
	}
	var found []string
	for lease, err := range at.Leases(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, lease)
	}
	if !slices.Equal(found, []string{g.Lease}) {
		t.Errorf("leases: %v", found)
	}
	if err := at.Revoke(t.Context(), g.Lease); err != nil || len(r.left()) > 0 {
		t.Errorf("revoke: %v; left %v", err, r.left())
	}
}

func TestTombsGoWhenNothingCanComeLate(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	at, lease := r.principals(r.url, 0), targettest.Lease()
	if err := at.Revoke(t.Context(), lease); err != nil { // of a lease that nobody knows
		t.Fatal(err)
	}
	for _, step := range []struct {
		pass  time.Duration
		tombs int
	}{{0, 1}, {94 * time.Minute, 1}, {2 * time.Minute, 0}} {
		r.clock.Pass(step.pass)
		if _, err := at.Clean(t.Context()); err != nil || len(r.Applications("dp_")) != step.tombs {
			t.Errorf("after another %v there are %v (%v)", step.pass, r.Applications("dp_"), err)
		}
	}
}

// The manager may give the roles that it was told of, and no others, whatever an access file says.
func TestTheManagerGivesNoMoreThanItMay(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	at := r.principals(r.url, 0)
	for name, c := range map[string]struct{ rights, refusal string }{
		"a role that its condition leaves out": {`{"per_lease":true,"assignments":[{"on":"` + orders + `","roles":["` + azuretest.Contributor + `"]}]}`, "status 403: AuthorizationFailed"},
		"a scope that its target leaves out":   {`{"per_lease":true,"assignments":[{"on":"` + orders + `2","roles":["` + azuretest.Reader + `"]}]}`, "does not list in manage.scopes"},
	} {
		g := r.grant(c.rights)
		if _, err := at.Grant(t.Context(), g); err == nil || !strings.Contains(err.Error(), c.refusal) {
			t.Errorf("%s: %v", name, err)
		}
		if err := at.Revoke(t.Context(), g.Lease); err != nil || len(r.left()) > 0 {
			t.Errorf("%s: revoke: %v; left %v", name, err, r.left())
		}
	}
}

func TestCheckSaysWhatTheManagerLacks(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	at := r.principals(r.url, 0)
	problems := func() string {
		findings, err := at.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, f := range findings {
			all = append(all, string(f.Severity)+": "+f.Message)
		}
		return strings.Join(all, "\n")
	}
	if found := problems(); found != "" {
		t.Errorf("one that may what it should: %s", found)
	}
	r.Demote()
	found := problems()
	for _, want := range []string{"list applications", "list deleted applications", "list role assignments at " + orders, "delete role assignments at " + bills} {
		if !strings.Contains(found, "problem: the manager may not "+want) {
			t.Errorf("nothing says that it may not %s: %s", want, found)
		}
	}
}

// Where the manager is not let in, nothing is known, and so nothing is called revoked. What was not asked for was not done.
func TestWithoutItsManagerNothingIsCalledRevoked(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	g := r.grant(leaseRights)
	if _, err := r.principals(r.url, 0).Grant(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	before := len(r.left())
	r.Distrust(manager)
	at := r.principals(r.url, 0)
	if err := at.Revoke(t.Context(), g.Lease); err == nil || len(r.left()) != before {
		t.Errorf("revoke: %v; of %d there are %v", err, before, r.left())
	}
	if _, err := at.Grant(t.Context(), r.grant(leaseRights)); !errors.Is(err, target.ErrNotDone) {
		t.Errorf("grant: %v", err)
	}
	if found, err := at.Check(t.Context()); err != nil || len(found) == 0 {
		t.Errorf("check: %v, %v", found, err)
	}
}
