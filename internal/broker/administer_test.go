package broker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
)

func TestLocksEndWhatTheyMatchAndRefuseNewOnes(t *testing.T) {
	for name, c := range map[string]struct {
		lock         broker.LockRequest
		ends, spares string
	}{
		"a principal":            {broker.LockRequest{Principal: "ci:alice"}, "alice", "bob"},
		"a principal by its URL": {broker.LockRequest{Issuer: "https://ci.example.com", Role: "reader"}, "alice", ""},
		"a role":                 {broker.LockRequest{Role: "reader"}, "bob", ""},
		"a target":               {broker.LockRequest{Target: "vault"}, "alice", ""},
		"an issuer and a role":   {broker.LockRequest{Issuer: "ci", Role: "reader"}, "alice", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := start(t, options{})
			ended := d.acquire(c.ends, "reader")
			var spared broker.Acquired
			if c.spares != "" {
				spared = d.acquire(c.spares, "reader")
			}
			c.lock.Reason = "incident 7"
			lock, err := d.Lock(t.Context(), as("operator"), c.lock)
			must(t, err)
			if lock.Hits != 1 {
				t.Errorf("the lock says it ends %d leases", lock.Hits)
			}
			_, err = d.Acquire(t.Context(), ask(c.ends, "reader"))
			check(t, "a new lease", err, fault.Denied)
			if l := d.awaitState(ended.Lease.ID, lease.Revoked); l.Reason != lease.Locked {
				t.Errorf("the reason is %q", l.Reason)
			}
			if c.spares != "" {
				must(t, d.system.Try(spared.Credential))
				d.acquire(c.spares, "reader")
			}
			_, err = d.Unlock(t.Context(), as("operator"), lock.ID)
			must(t, err)
			d.acquire(c.ends, "reader")
		})
	}
}

func TestADryRunOfALockChangesNothing(t *testing.T) {
	d := start(t, options{})
	got := d.acquire("alice", "reader")
	lock, err := d.Lock(t.Context(), local, broker.LockRequest{Target: "vault", Reason: "drill", DryRun: true})
	must(t, err)
	if lock.Hits != 1 {
		t.Errorf("it would end %d leases", lock.Hits)
	}
	d.acquire("alice", "reader")
	must(t, d.system.Try(got.Credential))
}

func TestLocksThatAreRefused(t *testing.T) {
	d := start(t, options{})
	for name, request := range map[string]broker.LockRequest{
		"an empty match":                 {Reason: "x"},
		"no reason":                      {Role: "reader"},
		"an issuer that is not there":    {Issuer: "nobody", Reason: "x"},
		"a principal without issuer":     {Principal: "alice", Reason: "x"},
		"a principal and another issuer": {Principal: "ci:alice", Issuer: "ops", Reason: "x"},
		"a lease that is no ID":          {Lease: "'; drop table leases", Reason: "x"},
		"an expiry that has passed":      {Role: "reader", Reason: "x", ExpiresAt: time.Now().Add(-time.Hour)},
	} {
		_, err := d.Lock(t.Context(), local, request)
		check(t, name, err, fault.Invalid)
	}
	_, err := d.Lock(t.Context(), as("alice"), broker.LockRequest{Role: "reader", Reason: "x"})
	check(t, "a workload that is no administrator", err, fault.Denied)
}

// Whatever the policies say, only principals of the administrators' issuers administer.
func TestPoliciesCannotMakeAdministrators(t *testing.T) {
	d := start(t, options{})
	open := configuration()
	open["open.cedar"] = `permit (principal, action, resource);`
	_, err := d.Apply(t.Context(), local, open, "")
	must(t, err)
	got := d.acquire("bob", "reader")
	_, err = d.Lock(t.Context(), as("alice"), broker.LockRequest{Role: "reader", Reason: "x"})
	check(t, "lock", err, fault.Denied)
	_, err = d.Apply(t.Context(), as("alice"), configuration(), "")
	check(t, "configure", err, fault.Denied)
	_, err = d.Lease(t.Context(), as("alice"), got.Lease.ID)
	check(t, "read a lease", err, fault.NotFound)
	_, err = d.Release(t.Context(), as("alice"), got.Lease.ID, 0)
	check(t, "revoke a lease", err, fault.NotFound)
}

func TestAnAdministratorRevokesALease(t *testing.T) {
	d := start(t, options{})
	got := d.acquire("alice", "reader")
	l, err := d.Release(t.Context(), as("operator"), got.Lease.ID, time.Minute)
	must(t, err)
	if l.Reason != lease.Revoke || l.State != lease.Revoked {
		t.Errorf("the lease is %s (%s)", l.State, l.Reason)
	}
}

func TestRevisions(t *testing.T) {
	d := start(t, options{})
	first := d.View().Revision
	second := configuration()
	second["policies.cedar"] = `permit (principal, action == Action::"acquire", resource == Role::"writer");`
	applied, err := d.Apply(t.Context(), local, second, first)
	must(t, err)
	if applied.Revision.ID == first || d.View().Revision != applied.Revision.ID {
		t.Error("the new revision does not serve")
	}
	_, err = d.Acquire(t.Context(), ask("alice", "reader"))
	check(t, "what the first revision allowed", err, fault.Denied)

	_, err = d.Apply(t.Context(), local, configuration(), first)
	check(t, "an apply that expects another revision", err, fault.Conflict)
	_, err = d.Apply(t.Context(), local, access.Files{"bad.yaml": "kind: Rolle\n"}, "")
	if err == nil || d.View().Revision != applied.Revision.ID {
		t.Errorf("a bad configuration: %v, and %s serves", err, d.View().Revision)
	}
	_, err = d.Activate(t.Context(), local, "no-such-revision", "")
	check(t, "a revision that is not there", err, fault.NotFound)

	_, err = d.Activate(t.Context(), local, first, "")
	must(t, err)
	d.acquire("alice", "reader")
	revisions, active, _, err := d.Revisions(t.Context(), local, "", 10)
	must(t, err)
	if len(revisions) != 2 || active != first {
		t.Errorf("%d revisions, %s is active", len(revisions), active)
	}
}

func TestLeasesOfAnIssuerThatLeftEnd(t *testing.T) {
	d := start(t, options{})
	got := d.acquire("alice", "reader")
	without := configuration()
	without["access.yaml"] = strings.Replace(files, "name: ci\noidc: {url: \"https://ci.example.com\"}\nclaims: {team: string, level: long?}",
		"name: ci2\noidc: {url: \"https://ci2.example.com\"}\nclaims: {team: string, level: long?}", 1)
	_, err := d.Apply(t.Context(), local, without, "")
	must(t, err)
	if l := d.awaitState(got.Lease.ID, lease.Revoked); l.Reason != lease.Withdrawn {
		t.Errorf("the reason is %q", l.Reason)
	}
}

func TestARoleThatLeftLetsItsLeasesLiveAndRenewsNone(t *testing.T) {
	d := start(t, options{})
	got := d.acquire("alice", "reader")
	without := configuration()
	without["access.yaml"] = strings.Replace(files, "name: reader", "name: reader2", 1)
	without["policies.cedar"] = strings.ReplaceAll(policies, `Role::"reader"`, `Role::"reader2"`)
	_, err := d.Apply(t.Context(), local, without, "")
	must(t, err)
	must(t, d.system.Try(got.Credential))
	_, _, err = d.Renew(t.Context(), admission.Caller{Evidence: shown(got.Token)}, got.Lease.ID, 0)
	check(t, "renew", err, fault.Conflict)
	_, err = d.Release(t.Context(), admission.Caller{Evidence: shown(got.Token)}, got.Lease.ID, time.Minute)
	must(t, err)
}

func TestARestartServesTheActiveRevisionAndEndsWhatWasPending(t *testing.T) {
	d := start(t, options{})
	got := d.acquire("alice", "reader")
	d.stop()

	again := open(t, options{path: d.path, system: d.system})
	must(t, again.system.Try(got.Credential))
	l, err := again.Release(t.Context(), admission.Caller{Evidence: shown(got.Token)}, got.Lease.ID, time.Minute)
	must(t, err)
	if l.State != lease.Revoked {
		t.Errorf("the lease is %s", l.State)
	}
	again.acquire("alice", "reader")
	again.audit()
}
