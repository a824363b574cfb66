package broker_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/posture"
)

// Who is a little ahead of time says what counts now, and not what counts until then: a machine that turned bad would stay
// good for as long.
func TestAReportFromTheFutureOutweighsNoneOfThePresent(t *testing.T) {
	d := startWith(t, whileHealthy)
	d.report("alice", `{"healthy":true}`, time.Now().Add(50*time.Second))
	alice := d.acquire("alice", "reader")
	d.report("alice", `{"healthy":false}`, time.Time{})
	d.ended(alice.Lease.ID)
	if _, err := d.posture.Report(t.Context(), local, posture.Report{Source: "machine", ID: "alice", Fields: []byte(`{"healthy":true}`), ReportedAt: time.Now().Add(2 * time.Minute)}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a record of the day after: %v", err)
	}
}

// A source that says two things of one machine says nothing of it: else its order would decide who is healthy.
func TestASourceThatContradictsItselfSaysNothing(t *testing.T) {
	d := startWith(t, whileHealthy)
	good, bad := json.RawMessage(`{"healthy":true}`), json.RawMessage(`{"healthy":false}`)
	records := []posture.Report{{ID: "alice", Fields: good}, {ID: "bob", Fields: good}, {ID: "bob", Fields: good}}
	read := func(records []posture.Report) int {
		refused, err := d.posture.Take(t.Context(), posture.Reading{Source: "machine", By: "https://health.example.com", Records: records})
		must(t, err)
		return refused
	}
	if refused := read(records); refused != 1 {
		t.Errorf("%d records were refused", refused)
	}
	alice, bob := d.acquire("alice", "reader"), d.acquire("bob", "reader")
	if refused := read(append(records, posture.Report{ID: "alice", Fields: bad}, posture.Report{ID: "alice", Fields: good})); refused != 4 {
		t.Errorf("%d records were refused", refused)
	}
	d.ended(alice.Lease.ID)
	d.lives(bob.Lease.ID)
}
