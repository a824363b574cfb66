package broker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/broker/brokertest"
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
			d := brokertest.Start(t, brokertest.Options{})
			ended := d.Acquired(c.ends, "reader")
			var spared broker.Acquired
			if c.spares != "" {
				spared = d.Acquired(c.spares, "reader")
			}
			c.lock.Reason = "incident 7"
			lock, err := d.Lock(t.Context(), brokertest.As("operator"), c.lock)
			brokertest.Must(t, err)
			if lock.Hits != 1 {
				t.Errorf("the lock says it ends %d leases", lock.Hits)
			}
			_, err = d.Acquire(t.Context(), brokertest.Ask(c.ends, "reader"))
			brokertest.Check(t, "a new lease", err, fault.Denied)
			if l := d.AwaitState(ended.Lease.ID, lease.Revoked); l.Reason != lease.Locked {
				t.Errorf("the reason is %q", l.Reason)
			}
			if c.spares != "" {
				brokertest.Must(t, d.System.Try(spared.Credential))
				d.Acquired(c.spares, "reader")
			}
			_, err = d.Unlock(t.Context(), brokertest.As("operator"), lock.ID)
			brokertest.Must(t, err)
			d.Acquired(c.ends, "reader")
		})
	}
}

func TestADryRunOfALockChangesNothing(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	got := d.Acquired("alice", "reader")
	lock, err := d.Lock(t.Context(), brokertest.Local(), broker.LockRequest{Target: "vault", Reason: "drill", DryRun: true})
	brokertest.Must(t, err)
	if lock.Hits != 1 {
		t.Errorf("it would end %d leases", lock.Hits)
	}
	d.Acquired("alice", "reader")
	brokertest.Must(t, d.System.Try(got.Credential))
}

func TestLocksThatAreRefused(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	for name, request := range map[string]broker.LockRequest{
		"an empty match":                 {Reason: "x"},
		"no reason":                      {Role: "reader"},
		"an issuer that is not there":    {Issuer: "nobody", Reason: "x"},
		"a principal without issuer":     {Principal: "alice", Reason: "x"},
		"a principal and another issuer": {Principal: "ci:alice", Issuer: "ops", Reason: "x"},
		"a lease that is no ID":          {Lease: "'; drop table leases", Reason: "x"},
		"an expiry that has passed":      {Role: "reader", Reason: "x", ExpiresAt: time.Now().Add(-time.Hour)},
	} {
		_, err := d.Lock(t.Context(), brokertest.Local(), request)
		brokertest.Check(t, name, err, fault.Invalid)
	}
	_, err := d.Lock(t.Context(), brokertest.As("alice"), broker.LockRequest{Role: "reader", Reason: "x"})
	brokertest.Check(t, "a workload that is no administrator", err, fault.Denied)
}

func TestAnAdministratorRevokesALease(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	got := d.Acquired("alice", "reader")
	l, err := d.Release(t.Context(), brokertest.As("operator"), got.Lease.ID, time.Minute)
	brokertest.Must(t, err)
	if l.Reason != lease.Revoke || l.State != lease.Revoked {
		t.Errorf("the lease is %s (%s)", l.State, l.Reason)
	}
}

func TestARoleThatLeftLetsItsLeasesLiveAndRenewsNone(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	got := d.Acquired("alice", "reader")
	without := brokertest.Configuration()
	without["access.yaml"] = strings.Replace(brokertest.Access, "name: reader", "name: reader2", 1)
	without["policies.cedar"] = strings.ReplaceAll(brokertest.Policies, `Role::"reader"`, `Role::"reader2"`)
	_, err := d.Apply(t.Context(), brokertest.Local(), without, "")
	brokertest.Must(t, err)
	brokertest.Must(t, d.System.Try(got.Credential))
	_, _, err = d.Renew(t.Context(), brokertest.Holding(got.Token), got.Lease.ID, 0)
	brokertest.Check(t, "renew", err, fault.Conflict)
	_, err = d.Release(t.Context(), brokertest.Holding(got.Token), got.Lease.ID, time.Minute)
	brokertest.Must(t, err)
}

func TestARestartServesTheActiveRevisionAndEndsWhatWasPending(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	got := d.Acquired("alice", "reader")
	d.Stop()

	again := brokertest.Open(t, brokertest.Options{Former: d})
	brokertest.Must(t, again.System.Try(got.Credential))
	l, err := again.Release(t.Context(), brokertest.Holding(got.Token), got.Lease.ID, time.Minute)
	brokertest.Must(t, err)
	if l.State != lease.Revoked {
		t.Errorf("the lease is %s", l.State)
	}
	again.Acquired("alice", "reader")
	again.Audit()
}
