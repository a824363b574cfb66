package broker_test

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/posture"
	"github.com/daypass/daypass/internal/store"
)

// conditions is a configuration with a source of posture and these policies.
func conditions(text string) access.Files {
	return access.Files{"policies.cedar": text + operators, "access.yaml": files + `---
kind: Posture
name: machine
of: {ci: sub}
fields: {healthy: bool, patches: long?}
max_age: 10m
`}
}

const (
	operators = `
permit (principal in Issuer::"ops", action in [Action::"read", Action::"configure"], resource);
permit (principal in Issuer::"ops", action == Action::"report", resource == Posture::"machine");
`
	whileHealthy = `permit (principal in Issuer::"ci", action in [Action::"acquire", Action::"renew"], resource)
when { context.posture has machine && context.posture.machine.healthy };`
)

// startWith opens a desk with a configuration.
func startWith(t *testing.T, text string) *desk {
	t.Helper()
	d := open(t, options{})
	_, err := d.Apply(t.Context(), local, conditions(text), "")
	must(t, err)
	return d
}

func (d *desk) apply(text string) {
	d.t.Helper()
	_, err := d.Apply(d.t.Context(), local, conditions(text), "")
	must(d.t, err)
}

func (d *desk) report(id, fields string, at time.Time) {
	d.t.Helper()
	_, err := d.posture.Report(d.t.Context(), as("operator"), posture.Report{Source: "machine", ID: id, Fields: []byte(fields), ReportedAt: at})
	must(d.t, err)
}

// ended waits for a lease to be revoked by the policies, and for the decision that says so.
func (d *desk) ended(id lease.ID) {
	d.t.Helper()
	if l := d.awaitState(id, lease.Revoked); l.Reason != lease.Policy {
		d.t.Errorf("the lease ended as %s", l.Reason)
	}
}

// lives holds that a lease is still active after everything there was to review.
func (d *desk) lives(id lease.ID) {
	d.t.Helper()
	d.settled()
	if l := d.read(id); l.State != lease.Active {
		d.t.Errorf("the lease is %s (%s)", l.State, l.Reason)
	}
}

// settled waits until nothing is left to be looked at.
func (d *desk) settled() {
	d.t.Helper()
	d.await("the reviews", func() (done bool) {
		must(d.t, d.store.View(context.Background(), func(tx *store.Tx) error {
			revision, err := tx.Reviewed()
			if err != nil {
				return err
			}
			sources, err := tx.PostureTurns()
			done = revision == d.View().Revision && len(sources) == 0
			return err
		}))
		return done
	})
}

func TestALeaseEndsWhenPostureTurns(t *testing.T) {
	d := startWith(t, whileHealthy)
	if _, err := d.Acquire(t.Context(), ask("alice", "reader")); !fault.Is(err, fault.Denied) {
		t.Errorf("without a record: %v", err)
	}
	d.report("alice", `{"healthy":true}`, time.Time{})
	d.report("bob", `{"healthy":true}`, time.Time{})
	alice, bob := d.acquire("alice", "reader"), d.acquire("bob", "writer")
	d.report("alice", `{"healthy":true,"patches":3}`, time.Time{})
	d.lives(alice.Lease.ID)
	d.report("alice", `{"healthy":false}`, time.Time{})
	d.ended(alice.Lease.ID)
	d.lives(bob.Lease.ID)
	if was, err := d.posture.Withdraw(t.Context(), as("operator"), "machine", "bob"); err != nil || string(was.Fields) != `{"healthy":true}` {
		t.Errorf("withdrawn: %+v, %v", was, err)
	}
	d.ended(bob.Lease.ID)
	d.audit()
}

func TestALeaseEndsWhenItsPostureGrowsStale(t *testing.T) {
	d := startWith(t, whileHealthy)
	d.report("alice", `{"healthy":true}`, time.Now().Add(-10*time.Minute).Add(1500*time.Millisecond))
	alice := d.acquire("alice", "reader")
	d.ended(alice.Lease.ID)
	if _, err := d.Acquire(t.Context(), ask("alice", "reader")); !fault.Is(err, fault.Denied) {
		t.Errorf("by a stale record: %v", err)
	}
	d.report("alice", `{"healthy":true}`, time.Time{})
	d.lives(d.acquire("alice", "reader").Lease.ID)
}

func TestLiveLeasesAreDecidedAgainWhenPoliciesChange(t *testing.T) {
	d := startWith(t, `permit (principal in Issuer::"ci", action in [Action::"acquire", Action::"renew"], resource);`)
	alice, bob := d.acquire("alice", "reader"), d.acquire("bob", "reader")
	d.settled()
	d.apply(`permit (principal in Issuer::"ci", action, resource) unless { principal.subject == "alice" };`)
	d.ended(alice.Lease.ID)
	d.lives(bob.Lease.ID)
	denial := d.denialOf(alice.Lease.ID)
	if denial.Outcome != "deny" || denial.Lease != string(alice.Lease.ID) || denial.Action != "acquire" || !strings.Contains(string(denial.Reasons), "no policy permits") {
		t.Errorf("the denial: %+v", denial)
	}
	d.audit()
}

// denialOf finds the decision that ended a lease.
func (d *desk) denialOf(id lease.ID) (found store.Decision) {
	d.t.Helper()
	found, err := d.Decision(d.t.Context(), local, d.read(id).Decision)
	must(d.t, err)
	return found
}

// What the request brought stays as it was: no age of a token and no address that nobody asks for again ends a lease.
func TestAReviewKeepsWhatTheRequestBrought(t *testing.T) {
	d := startWith(t, `permit (principal in Issuer::"ci", action == Action::"acquire", resource);`)
	d.verifier.known["alice"].Claims["iat"] = time.Now().Add(-time.Minute).Unix()
	alice := d.acquire("alice", "reader")
	older := d.acquire("alice", "reader")
	narrow := `permit (principal in Issuer::"ci", action == Action::"acquire", resource) when {
  context has token_age && context.token_age < duration("2m") && context.source_ip == ip("192.0.2.7") &&
  context has country && context.country == "DE" && context.live_leases < 5 };`
	d.places.known.Store("192.0.2.7", "DE")
	d.apply(narrow)
	d.lives(alice.Lease.ID)
	d.places.known.Delete("192.0.2.7")
	d.apply(narrow + "// once more\n")
	if l := d.awaitState(older.Lease.ID, lease.Revoked); l.Reason != lease.Policy { // the country was never stored, and is not known now
		t.Errorf("the lease ended as %s", l.Reason)
	}
	d.places.known.Store("192.0.2.7", "DE")
	fresh := d.acquire("alice", "reader")
	d.places.known.Delete("192.0.2.7")
	d.apply(narrow + "// and again\n")
	d.lives(fresh.Lease.ID)
}

func TestALeaseWhoseDecisionIsKeptNoMoreIsLeftToItsExpiry(t *testing.T) {
	d := startWith(t, `permit (principal in Issuer::"ci", action == Action::"acquire", resource);`)
	alice := d.acquire("alice", "reader")
	must(t, d.store.Update(t.Context(), func(tx *store.Tx) error {
		_, n, err := tx.Prune(time.Time{}, time.Now().Add(time.Hour), 1000)
		if n == 0 {
			t.Error("no decision was deleted")
		}
		return err
	}))
	d.apply(`permit (principal in Issuer::"ci", action == Action::"acquire", resource) unless { principal.subject == "alice" };`)
	d.lives(alice.Lease.ID)
	if _, err := d.Acquire(t.Context(), ask("alice", "reader")); !fault.Is(err, fault.Denied) {
		t.Errorf("acquired again: %v", err)
	}
}

func TestARenewalIsWhatTheNextReviewGoesBy(t *testing.T) {
	d := startWith(t, `permit (principal in Issuer::"ci", action == Action::"acquire", resource) when { context.source_ip == ip("192.0.2.7") };
permit (principal in Issuer::"ci", action == Action::"renew", resource) when { context.source_ip.isInRange(ip("192.0.2.0/24")) };`)
	alice := d.acquire("alice", "reader")
	elsewhere := admission.Caller{Evidence: admission.Evidence{Token: alice.Token}, Origin: admission.Origin{SourceIP: netip.MustParseAddr("192.0.2.9")}}
	renewed, _, err := d.Renew(t.Context(), elsewhere, alice.Lease.ID, 15*time.Minute)
	must(t, err)
	if renewed.Decision == alice.Lease.Decision {
		t.Error("the lease stands on its first decision still")
	}
	d.apply(`permit (principal in Issuer::"ci", action == Action::"acquire", resource) when { context.source_ip == ip("192.0.2.7") };
permit (principal in Issuer::"ci", action == Action::"renew", resource) when { context.source_ip == ip("192.0.2.9") };`)
	d.lives(alice.Lease.ID)
	d.apply(`permit (principal in Issuer::"ci", action in [Action::"acquire", Action::"renew"], resource) when { context.source_ip == ip("192.0.2.7") };`)
	d.ended(alice.Lease.ID)
}

func TestALeaseEndsSoonAfterItsWindowCloses(t *testing.T) {
	until := func(end time.Time) string {
		return `permit (principal in Issuer::"ci", action == Action::"acquire", resource) when { context.now < datetime("` + end.UTC().Format("2006-01-02T15:04:05Z") + `") };`
	}
	d := startWith(t, until(time.Now().Add(time.Hour)))
	alice := d.acquire("alice", "reader")
	d.apply(until(time.Now().Add(3 * time.Second)))
	d.ended(alice.Lease.ID)
}

func TestALimitOnOtherLeasesHoldsWhateverHappensAtOnce(t *testing.T) {
	d := startWith(t, `permit (principal in Issuer::"ci", action == Action::"acquire", resource) when { context.live_leases < 3 };`)
	results := make(chan error, 20)
	for range cap(results) {
		go func() {
			_, err := d.Acquire(context.Background(), ask("alice", "reader"))
			results <- err
		}()
	}
	good := 0
	for range cap(results) {
		if err := <-results; err == nil {
			good++
		} else if !fault.Is(err, fault.Denied) {
			t.Error(err)
		}
	}
	if live := len(d.live()); good != 3 || live != 3 {
		t.Errorf("%d acquisitions succeeded, %d leases live", good, live)
	}
}

func TestARoleThatLeavesDrains(t *testing.T) {
	all := `permit (principal in Issuer::"ci", action == Action::"acquire", resource);`
	d := startWith(t, all)
	alice := d.acquire("alice", "writer")
	without := conditions(all)
	begin, end := strings.Index(without["access.yaml"], "kind: Role\nname: writer"), strings.Index(without["access.yaml"], "---\nkind: Posture")
	without["access.yaml"] = without["access.yaml"][:begin-len("---\n")] + without["access.yaml"][end:]
	_, err := d.Apply(t.Context(), local, without, "")
	must(t, err)
	d.lives(alice.Lease.ID)
}

func TestReportsAreForThoseWhomAPolicyPermits(t *testing.T) {
	d := startWith(t, whileHealthy)
	good := posture.Report{Source: "machine", ID: "alice", Fields: []byte(`{"healthy":true}`)}
	change := func(how func(*posture.Report)) posture.Report {
		r := good
		how(&r)
		return r
	}
	for says, c := range map[string]struct {
		caller admission.Caller
		report posture.Report
		kind   fault.Kind
	}{
		"a workload says nothing of itself":         {as("alice"), good, fault.Denied},
		"a stranger says nothing":                   {as("nobody"), good, fault.Unauthenticated},
		"a source that is not declared":             {local, change(func(r *posture.Report) { r.Source = "cluster" }), fault.NotFound},
		"a source that no policy lets one speak of": {as("operator"), change(func(r *posture.Report) { r.Source = "cluster" }), fault.Denied},
		"an empty ID":                  {local, change(func(r *posture.Report) { r.ID = "" }), fault.Invalid},
		"an ID that deceives":          {local, change(func(r *posture.Report) { r.ID = "a\u202eb" }), fault.Invalid},
		"a field of another type":      {local, change(func(r *posture.Report) { r.Fields = []byte(`{"healthy":"true"}`) }), fault.Invalid},
		"a field that is missing":      {local, change(func(r *posture.Report) { r.Fields = []byte(`{}`) }), fault.Invalid},
		"a field that is not declared": {local, change(func(r *posture.Report) { r.Fields = []byte(`{"healthy":true,"admin":true}`) }), fault.Invalid},
		"no object":                    {local, change(func(r *posture.Report) { r.Fields = []byte(`[]`) }), fault.Invalid},
		"null":                         {local, change(func(r *posture.Report) { r.Fields = []byte(`null`) }), fault.Invalid},
		"a record from the future":     {local, change(func(r *posture.Report) { r.ReportedAt = time.Now().Add(time.Hour) }), fault.Invalid},
		"a record of long ago":         {local, change(func(r *posture.Report) { r.ReportedAt = time.Now().Add(-time.Hour) }), fault.Invalid},
		"a record of any size":         {local, change(func(r *posture.Report) { r.Fields = []byte(strings.Repeat(" ", 5000)) }), fault.Invalid},
	} {
		if _, err := d.posture.Report(t.Context(), c.caller, c.report); !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", says, err)
		}
	}
	for _, who := range []admission.Caller{as("operator"), local} {
		if _, err := d.posture.Report(t.Context(), who, good); err != nil {
			t.Errorf("reported: %v", err)
		}
	}
	r, err := d.posture.Read(t.Context(), local, "machine", "alice")
	if err != nil || r.ReportedBy != "uid:0" {
		t.Errorf("kept: %+v, %v", r, err)
	}
	if _, err := d.posture.Read(t.Context(), as("alice"), "machine", "alice"); !fault.Is(err, fault.Denied) {
		t.Errorf("read by a workload: %v", err)
	}
}

func TestWhatIsReadFromAURLIsAllThereIs(t *testing.T) {
	d := startWith(t, whileHealthy)
	read := func(ids ...string) int {
		var records []posture.Report
		for _, id := range ids {
			records = append(records, posture.Report{ID: id, Fields: json.RawMessage(`{"healthy":true}`)})
		}
		records = append(records, posture.Report{ID: "broken", Fields: json.RawMessage(`{"healthy":1}`)})
		refused, err := d.posture.Take(t.Context(), posture.Reading{Source: "machine", By: "https://health.example.com", Records: records})
		must(t, err)
		return refused
	}
	if refused := read("alice", "bob", "alice"); refused != 2 {
		t.Errorf("%d records were refused", refused)
	}
	alice, bob := d.acquire("alice", "reader"), d.acquire("bob", "reader")
	read("bob")
	d.ended(alice.Lease.ID)
	d.lives(bob.Lease.ID)
}
