package review_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

func TestALeaseEndsWhenPostureTurns(t *testing.T) {
	d := brokertest.StartWith(t, brokertest.WithPosture(brokertest.WhileHealthy))
	if _, err := d.Acquire(t.Context(), brokertest.Ask("alice", "reader")); !fault.Is(err, fault.Denied) {
		t.Errorf("without a record: %v", err)
	}
	d.Reported("alice", `{"healthy":true}`, time.Time{})
	d.Reported("bob", `{"healthy":true}`, time.Time{})
	alice, bob := d.Acquired("alice", "reader"), d.Acquired("bob", "writer")
	d.Reported("alice", `{"healthy":true,"patches":3}`, time.Time{})
	d.Lives(alice.Lease.ID)
	d.Reported("alice", `{"healthy":false}`, time.Time{})
	d.Ended(alice.Lease.ID, lease.Policy)
	d.Lives(bob.Lease.ID)
	if was, err := d.Posture.Withdraw(t.Context(), brokertest.As("operator"), "machine", "bob"); err != nil || string(was.Fields) != `{"healthy":true}` {
		t.Errorf("withdrawn: %+v, %v", was, err)
	}
	d.Ended(bob.Lease.ID, lease.Policy)
	d.Audit()
}

func TestALeaseEndsWhenItsPostureGrowsStale(t *testing.T) {
	d := brokertest.StartWith(t, brokertest.WithPosture(brokertest.WhileHealthy))
	d.Reported("alice", `{"healthy":true}`, time.Now().Add(-10*time.Minute).Add(8*time.Second))
	alice := d.Acquired("alice", "reader")
	d.Ended(alice.Lease.ID, lease.Policy)
	if _, err := d.Acquire(t.Context(), brokertest.Ask("alice", "reader")); !fault.Is(err, fault.Denied) {
		t.Errorf("by a stale record: %v", err)
	}
	d.Reported("alice", `{"healthy":true}`, time.Time{})
	d.Lives(d.Acquired("alice", "reader").Lease.ID)
}

func TestLiveLeasesAreDecidedAgainWhenPoliciesChange(t *testing.T) {
	d := brokertest.StartWith(t, brokertest.WithPosture(`permit (principal in Issuer::"ci", action in [Action::"acquire", Action::"renew"], resource);`))
	alice, bob := d.Acquired("alice", "reader"), d.Acquired("bob", "reader")
	d.Settled()
	d.Configure(brokertest.WithPosture(`permit (principal in Issuer::"ci", action, resource) unless { principal.subject == "alice" };`))
	d.Ended(alice.Lease.ID, lease.Policy)
	d.Lives(bob.Lease.ID)
	denial := denialOf(t, d, alice.Lease.ID)
	if denial.Outcome != "deny" || denial.Lease != string(alice.Lease.ID) || denial.Action != "acquire" || !strings.Contains(string(denial.Reasons), "no policy permits") {
		t.Errorf("the denial: %+v", denial)
	}
	d.Audit()
}

// denialOf finds the decision that ended a lease.
func denialOf(t *testing.T, d *brokertest.Desk, id lease.ID) store.Decision {
	t.Helper()
	found, err := d.Decision(t.Context(), brokertest.Local(), d.Stored(id).Decision)
	brokertest.Must(t, err)
	return found
}

// What the request brought stays as it was: no age of a token and no address that nobody asks for again ends a lease.
func TestAReviewKeepsWhatTheRequestBrought(t *testing.T) {
	d := brokertest.StartWith(t, brokertest.WithPosture(`permit (principal in Issuer::"ci", action == Action::"acquire", resource);`))
	d.Workloads.Know("alice", brokertest.Workload("ci", "alice", map[string]any{"team": "payments", "iat": time.Now().Add(-time.Minute).Unix()}))
	alice := d.Acquired("alice", "reader")
	older := d.Acquired("alice", "reader")
	narrow := `permit (principal in Issuer::"ci", action == Action::"acquire", resource) when {
  context has token_age && context.token_age < duration("2m") && context.source_ip == ip("192.0.2.7") &&
  context has country && context.country == "DE" && context.live_leases < 5 };`
	home := brokertest.Origin().SourceIP
	d.Places.Put(home, "DE")
	d.Configure(brokertest.WithPosture(narrow))
	d.Lives(alice.Lease.ID)
	d.Places.Put(home, "")
	d.Configure(brokertest.WithPosture(narrow + "// once more\n"))
	if l := d.AwaitState(older.Lease.ID, lease.Revoked); l.Reason != lease.Policy { // the country was never stored, and is not known now
		t.Errorf("the lease ended as %s", l.Reason)
	}
	d.Places.Put(home, "DE")
	fresh := d.Acquired("alice", "reader")
	d.Places.Put(home, "")
	d.Configure(brokertest.WithPosture(narrow + "// and again\n"))
	d.Lives(fresh.Lease.ID)
}

func TestALeaseWhoseDecisionIsKeptNoMoreIsLeftToItsExpiry(t *testing.T) {
	d := brokertest.StartWith(t, brokertest.WithPosture(`permit (principal in Issuer::"ci", action == Action::"acquire", resource);`))
	alice := d.Acquired("alice", "reader")
	brokertest.Must(t, d.Store.Update(t.Context(), func(tx *store.Tx) error {
		_, n, err := tx.Prune(time.Time{}, time.Now().Add(time.Hour), 1000)
		if n == 0 {
			t.Error("no decision was deleted")
		}
		return err
	}))
	d.Configure(brokertest.WithPosture(`permit (principal in Issuer::"ci", action == Action::"acquire", resource) unless { principal.subject == "alice" };`))
	d.Lives(alice.Lease.ID)
	if _, err := d.Acquire(t.Context(), brokertest.Ask("alice", "reader")); !fault.Is(err, fault.Denied) {
		t.Errorf("acquired again: %v", err)
	}
}

func TestARenewalIsWhatTheNextReviewGoesBy(t *testing.T) {
	d := brokertest.StartWith(t, brokertest.WithPosture(`permit (principal in Issuer::"ci", action == Action::"acquire", resource) when { context.source_ip == ip("192.0.2.7") };
permit (principal in Issuer::"ci", action == Action::"renew", resource) when { context.source_ip.isInRange(ip("192.0.2.0/24")) };`))
	alice := d.Acquired("alice", "reader")
	elsewhere := admission.Caller{Evidence: admission.Evidence{Token: alice.Token}, Origin: admission.Origin{SourceIP: netip.MustParseAddr("192.0.2.9")}}
	renewed, _, err := d.Renew(t.Context(), elsewhere, alice.Lease.ID, 15*time.Minute)
	brokertest.Must(t, err)
	if renewed.Decision == alice.Lease.Decision {
		t.Error("the lease stands on its first decision still")
	}
	d.Configure(brokertest.WithPosture(`permit (principal in Issuer::"ci", action == Action::"acquire", resource) when { context.source_ip == ip("192.0.2.7") };
permit (principal in Issuer::"ci", action == Action::"renew", resource) when { context.source_ip == ip("192.0.2.9") };`))
	d.Lives(alice.Lease.ID)
	d.Configure(brokertest.WithPosture(`permit (principal in Issuer::"ci", action in [Action::"acquire", Action::"renew"], resource) when { context.source_ip == ip("192.0.2.7") };`))
	d.Ended(alice.Lease.ID, lease.Policy)
}

func TestALeaseEndsSoonAfterItsWindowCloses(t *testing.T) {
	until := func(end time.Time) string {
		return `permit (principal in Issuer::"ci", action == Action::"acquire", resource) when { context.now < datetime("` + end.UTC().Format("2006-01-02T15:04:05Z") + `") };`
	}
	d := brokertest.StartWith(t, brokertest.WithPosture(until(time.Now().Add(time.Hour))))
	alice := d.Acquired("alice", "reader")
	d.Configure(brokertest.WithPosture(until(time.Now().Add(3 * time.Second))))
	d.Ended(alice.Lease.ID, lease.Policy)
}

func TestARoleThatLeavesDrains(t *testing.T) {
	all := `permit (principal in Issuer::"ci", action == Action::"acquire", resource);`
	d := brokertest.StartWith(t, brokertest.WithPosture(all))
	alice := d.Acquired("alice", "writer")
	without := brokertest.WithPosture(all)
	begin, end := strings.Index(without["access.yaml"], "kind: Role\nname: writer"), strings.Index(without["access.yaml"], "---\nkind: Posture")
	without["access.yaml"] = without["access.yaml"][:begin-len("---\n")] + without["access.yaml"][end:]
	_, err := d.Apply(t.Context(), brokertest.Local(), without, "")
	brokertest.Must(t, err)
	d.Lives(alice.Lease.ID)
}

// What there is to look at stands in the store: who dies before a review leaves it to who comes after.
func TestACrashLosesNoReview(t *testing.T) {
	d := brokertest.StartWith(t, brokertest.WithPosture(brokertest.WhileHealthy))
	d.Reported("alice", `{"healthy":true}`, time.Time{})
	alice := d.Acquired("alice", "reader")
	d.Settled()
	d.Change(func(tx *store.Tx) error { // a report in the last moment of another server
		_, err := tx.PutPosture(store.PostureRecord{Source: "machine", ID: "alice", Fields: []byte(`{"healthy":false}`), ReportedAt: d.Now(), ReportedBy: "ops:operator"}, 10)
		return err
	})
	d.Stop()
	again := brokertest.Open(t, brokertest.Options{Former: d})
	again.Ended(alice.Lease.ID, lease.Policy)
	again.Audit()
}

// A configuration that begins to ask for posture reviews the leases from before, and watches their records from then on.
func TestLeasesFromBeforeAPolicyAskedForPostureHangOnIt(t *testing.T) {
	d := brokertest.StartWith(t, brokertest.WithPosture(`permit (principal in Issuer::"ci", action == Action::"acquire", resource);`))
	d.Reported("alice", `{"healthy":true}`, time.Time{})
	alice, bob := d.Acquired("alice", "reader"), d.Acquired("bob", "reader")
	d.Configure(brokertest.WithPosture(brokertest.WhileHealthy))
	d.Ended(bob.Lease.ID, lease.Policy)
	d.Lives(alice.Lease.ID)
	d.Reported("alice", `{"healthy":false}`, time.Time{})
	d.Ended(alice.Lease.ID, lease.Policy)
}

// More leases than are read at a time, or ended in one transaction.
func TestAllLeasesOfAChangeAreReviewedPageByPage(t *testing.T) {
	d := brokertest.Open(t, brokertest.Options{})
	files := brokertest.WithPosture(`permit (principal in Issuer::"ci", action == Action::"acquire", resource);`)
	files["access.yaml"] = strings.Replace(files["access.yaml"], "limits: {live: 100, per_principal: 20}\n", "", 1)
	d.Configure(files)
	for range 120 {
		d.Acquired("bob", "reader")
		d.Acquired("alice", "reader")
	}
	files["policies.cedar"] += `forbid (principal, action, resource) when { principal.subject == "alice" };`
	d.Configure(files)
	d.Await("half of the leases to be revoked", func() bool { return len(d.Live()) <= 120 })
	d.Settled()
	if live := len(d.Live()); live != 120 {
		t.Errorf("%d leases live", live)
	}
	d.Audit()
}
