package gcp_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
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
			Try:  r.list, Exceed: r.remove, Forward: r.clock.Pass, Logs: r.log.String,
			Alive: func(_ context.Context, lease string) (bool, error) {
				return len(r.Live("dp-"+cloudtest.Instance+"-"+lease)) > 0, nil
			},
			Name:   func(c target.Credential) string { return c.Attributes["service_account"].(string) },
			Faulty: r.faulty,
			Skips: map[targettest.Capability]string{
				targettest.Sessions:  "Google checks each request by itself: what a service goes on with is its own",
				targettest.Renewal:   "a token does not change: acquire another",
				targettest.Narrowing: "an account keeps what it was given",
				targettest.Clocks:    "Google's clock is in its answers only",
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
			Opens: func(c target.Credential) bool { return r.list(context.Background(), c) == nil },
		}
	})
}

// Google shows what was made or deleted a little later.
func TestWhatShowsLateIsWaitedFor(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	r.Lag(3)
	at, g := r.principals(r.url, 0), r.grant(leaseRights)
	got, err := at.Grant(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.list(t.Context(), got); err != nil {
		t.Error(err)
	}
	if err := at.Revoke(t.Context(), g.Lease); err != nil {
		t.Error(err)
	}
	if left := r.left(); len(left) > 0 {
		t.Errorf("there is left: %v", left)
	}
}

// A lease is revoked no sooner than Google says that its changes count, or its token has expired.
func TestALeaseIsRevokingUntilItsEndHasSettled(t *testing.T) {
	const settle = 7 * time.Minute
	for name, c := range map[string]struct {
		age  time.Duration // of the token when it is revoked
		wait time.Duration
	}{"a young token": {0, settle}, "one that expires before": {17 * time.Minute, 4 * time.Minute}} {
		r := newRig(t, cloudtest.Keys(t))
		r.Settle(settle)
		at, g := r.principals(r.url, settle), r.grant(leaseRights)
		got, err := at.Grant(t.Context(), g)
		if err != nil {
			t.Fatal(err)
		}
		r.clock.Pass(c.age)
		ended := r.clock.Now()
		for range 3 { // asked again, it does not begin again
			waits, ok := errors.AsType[*target.UnexpiredError](at.Revoke(t.Context(), g.Lease))
			if !ok || waits.Until.Sub(ended) > c.wait || waits.Until.Sub(ended) < c.wait-2*time.Second {
				t.Fatalf("%s: it is said to be let in until %v after its end", name, waits)
			}
			if len(r.left()) > 0 {
				t.Errorf("%s: its account or bindings wait too: %v", name, r.left())
			}
			r.clock.Pass(20 * time.Second)
		}
		if r.list(t.Context(), got) != nil {
			t.Errorf("%s: the stand-in lets nobody in, so that this shows nothing", name)
		}
		r.clock.Pass(c.wait)
		if err := r.principals(r.url, settle).Revoke(t.Context(), g.Lease); err != nil {
			t.Errorf("%s: when it has settled: %v", name, err)
		}
		if r.list(t.Context(), got) == nil || len(r.All("dp-")) > 0 {
			t.Errorf("%s: revoked, and it opens, or there is %v", name, r.All("dp-"))
		}
	}
}

// A binding ends with its lease by itself, whoever forgets it, and what others have written into a policy stays.
func TestPoliciesKeepWhatOthersWrite(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	r.Bind("projects/acme-prod", viewer, "user:ann@example.com", `request.time < timestamp("2036-01-01T00:00:00Z")`)
	before := map[string][]string{}
	for _, on := range []string{"buckets/artifacts", "projects/acme-prod"} {
		before[on] = r.Members(on)
	}
	at := r.principals(r.url, 0)
	g := r.grant(`{"per_lease":true,"bindings":[{"on":"projects/acme-prod","roles":["` + viewer + `"]},{"on":"buckets/artifacts","roles":["` + viewer + `","roles/storage.objectAdmin"]}]}`)
	got, err := at.Grant(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	if email := got.Attributes["service_account"].(string); !slices.Contains(r.Members("projects/acme-prod"), viewer+" serviceAccount:"+email) || len(r.left()) != 4 {
		t.Errorf("it is bound as %v", r.left())
	}
	if err := r.remove(t.Context(), got); err != nil {
		t.Errorf("what it was bound for: %v", err)
	}
	if err := at.Revoke(t.Context(), g.Lease); err != nil {
		t.Fatal(err)
	}
	for on, members := range before {
		if now := r.Members(on); !slices.Equal(now, members) {
			t.Errorf("the policy of %s was %v and is %v", on, members, now)
		}
	}
}

// Policies are written by many. A write that was passed by another is made again of what is there now.
func TestAWriteThatWasPassedIsMadeAgain(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	at, g := r.principals(r.url, 0), r.grant(`{"per_lease":true,"bindings":[{"on":"projects/acme-prod","roles":["`+viewer+`"]},{"on":"buckets/artifacts","roles":["`+viewer+`"]}]}`)
	for n := 1; n <= 9; n++ {
		r.faults.Tell(n, func() { r.Disturb("projects/acme-prod"); r.Disturb("buckets/artifacts") }, nil)
		g.Lease = targettest.Lease()
		if _, err := at.Grant(t.Context(), g); err != nil {
			t.Fatalf("passed before request %d: %v", n, err)
		}
	}
	if len(r.left()) != 27 {
		t.Errorf("there is %v", r.left())
	}
}

func TestALeaseThatTheStoreForgotIsEndedAllTheSame(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	at, g := r.principals(r.url, 7*time.Minute), r.grant(leaseRights)
	got, err := at.Grant(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	r.book.Forget(g.Lease)
	if _, waits := errors.AsType[*target.UnexpiredError](at.Revoke(t.Context(), g.Lease)); !waits {
		t.Error("somebody may have its token, and nothing waits")
	}
	r.clock.Pass(8 * time.Minute)
	if err := at.Revoke(t.Context(), g.Lease); err != nil || r.list(t.Context(), got) == nil {
		t.Errorf("revoke: %v", err)
	}
	if _, err := at.Grant(t.Context(), g); !errors.Is(err, target.ErrNotDone) {
		t.Errorf("a grant after the end of its lease: %v", err)
	}
}

// What is left of an account that somebody deleted is found in the policies.
func TestBindingsOfDeletedAccountsAreFound(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	at, g := r.principals(r.url, 0), r.grant(leaseRights)
	if _, err := at.Grant(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	email := "dp-abc234-" + g.Lease + "@" + project + ".iam.gserviceaccount.com"
	r.Delete(email)
	if !slices.ContainsFunc(r.left(), func(m string) bool { return strings.Contains(m, "deleted:serviceAccount:"+email) }) {
		t.Fatalf("the stand-in keeps no deleted member: %v", r.left())
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

// Whoever ends or deletes an account by hand says not since when: a sweep takes it for no older than its own note, and the lease
// is revoked when its end has settled.
func TestAnEndByHandIsWaitedForToo(t *testing.T) {
	const settle = 7 * time.Minute
	for name, byHand := range map[string]func(r *rig, email string){
		"disabled": func(r *rig, email string) { r.Disable(email) },
		"deleted":  func(r *rig, email string) { r.Delete(email) },
	} {
		r := newRig(t, cloudtest.Keys(t))
		r.Settle(settle)
		at, g := r.principals(r.url, settle), r.grant(leaseRights)
		got, err := at.Grant(t.Context(), g)
		if err != nil {
			t.Fatal(err)
		}
		email := "dp-abc234-" + g.Lease + "@" + project + ".iam.gserviceaccount.com"
		byHand(r, email)
		ended := r.clock.Now()
		for range 3 { // asked again, it does not begin again
			if _, err := at.Clean(t.Context()); err != nil {
				t.Fatalf("%s: clean: %v", name, err)
			}
			waits, ok := errors.AsType[*target.UnexpiredError](at.Revoke(t.Context(), g.Lease))
			if !ok || waits.Until.Sub(ended) > settle || waits.Until.Sub(ended) < settle-2*time.Second {
				t.Fatalf("%s: it is said to be let in until %v", name, waits)
			}
			if _, there := r.All("dp-")[email]; !there {
				t.Errorf("%s: its tomb is gone before it has settled", name)
			}
			r.clock.Pass(20 * time.Second)
		}
		r.clock.Pass(settle)
		if err := at.Revoke(t.Context(), g.Lease); err != nil || r.list(t.Context(), got) == nil || len(r.All("dp-")) > 0 {
			t.Errorf("%s: when it has settled: %v; there is %v", name, err, r.All("dp-"))
		}
	}
}

// A place without our mark is another place, where nothing that lives proves no end: such as after manage.project was changed.
func TestWhereOurMarkIsNotNothingIsCalledRevoked(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	g, mark := r.grant(leaseRights), target.Mark{Instance: cloudtest.Instance, Target: "acme-a", Boot: 1}
	r.book.Put(g.Lease, cloud.Held{Rights: g.Rights, HandedOut: true, Until: r.clock.Now().Add(g.TTL)})
	at := r.known()
	if _, err := at.Mark(t.Context(), mark); err == nil || len(r.All("dp-")) > 0 {
		t.Errorf("mark: %v; there is %v", err, r.All("dp-"))
	}
	if err := at.Revoke(t.Context(), g.Lease); err == nil || !strings.Contains(err.Error(), "lacks our mark") {
		t.Errorf("revoke: %v", err)
	}
	if _, err := r.principals(r.url, 0).Mark(t.Context(), mark); err != nil {
		t.Fatal(err)
	}
	mark.Boot++
	if _, err := at.Mark(t.Context(), mark); err != nil {
		t.Errorf("mark where ours is: %v", err)
	}
	if err := at.Revoke(t.Context(), g.Lease); err != nil {
		t.Errorf("revoke where our mark is: %v", err)
	}
}

// Who leaves manage out keeps accounts that nobody can end: their leases are not called revoked when their tokens expire.
func TestWithoutManageNoAccountIsCalledRevoked(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	g := r.grant(leaseRights)
	if _, err := r.principals(r.url, 0).Grant(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	r.clock.Pass(2 * time.Hour)
	if err := r.tokens().Revoke(t.Context(), g.Lease); err == nil || !strings.Contains(err.Error(), "needs manage") {
		t.Errorf("revoke: %v", err)
	}
	lost := r.grant(leaseRights)
	if _, err := r.tokens().Grant(t.Context(), lost); err == nil {
		t.Fatal("granted")
	}
	if err := r.tokens().Revoke(t.Context(), lost.Lease); err != nil {
		t.Errorf("revoke a lease that was refused: %v", err)
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
	}{{0, 1}, {14 * time.Minute, 1}, {2 * time.Minute, 0}} {
		r.clock.Pass(step.pass)
		if _, err := at.Clean(t.Context()); err != nil || len(r.All("dp-")) != step.tombs {
			t.Errorf("after another %v there are %v (%v)", step.pass, r.All("dp-"), err)
		}
	}
}

// The manager may give the roles that it was told of, and no others, whatever an access file says.
func TestTheManagerGivesNoMoreThanItMay(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	at := r.principals(r.url, 0)
	for name, c := range map[string]struct{ rights, refusal string }{
		"a role that its condition leaves out":  {`{"per_lease":true,"bindings":[{"on":"projects/acme-prod","roles":["roles/storage.objectAdmin"]}]}`, "status 403: PERMISSION_DENIED"},
		"a resource that its target leaves out": {`{"per_lease":true,"bindings":[{"on":"projects/acme-other","roles":["` + viewer + `"]}]}`, "does not list in manage.resources"},
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
	r.Unbind("projects/"+project, "serviceAccount:"+manager)
	r.Unbind("buckets/artifacts", "serviceAccount:"+manager)
	found := problems()
	for _, want := range []string{"list accounts", "disable accounts", "delete accounts", "read the policy of buckets/artifacts"} {
		if !strings.Contains(found, "problem: the manager may not "+want) {
			t.Errorf("nothing says that it may not %s: %s", want, found)
		}
	}
	if strings.Contains(found, "projects/acme-prod") {
		t.Errorf("it may read the policy of the project: %s", found)
	}
}

// What is written on an account says who is behind it, in Google's bounds, whatever strangers call themselves.
func TestAnAccountSaysWhoseItIs(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	at := r.principals(r.url, 0)
	seen := map[string]bool{}
	for _, subject := range []string{"repo:acme/x:ref:refs/heads/main", "a until=2099-01-01T00:00:00Z", "ended=2020-01-01T00:00:00Z", strings.Repeat("ä", 3000), strings.Repeat("ä", 3000) + "b", ""} {
		g := r.grant(leaseRights)
		g.Holder.Subject = subject
		if _, err := at.Grant(t.Context(), g); err != nil {
			t.Fatalf("%.30q: %v", subject, err)
		}
		note := r.All("dp-abc234-" + g.Lease)["dp-abc234-"+g.Lease+"@"+project+".iam.gserviceaccount.com"]
		_, who, _ := strings.Cut(note, "principal=")
		if !strings.HasPrefix(who, "github:") || seen[who] || strings.Contains(who, " ") {
			t.Errorf("%.30q: it says %q", subject, note)
		}
		seen[who] = true
		until, err := at.Expiry(t.Context(), g.Lease)
		if d := until.Sub(r.clock.Now()); err != nil || d < 20*time.Minute || d > 22*time.Minute {
			t.Errorf("%.30q: it ends %v (%v)", subject, until, err)
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
	r.Unbind("accounts/"+manager, "principal://iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/daypass/subject/daypass:target:acme")
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
