package posture_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/posture"
)

func TestReportsAreForThoseWhomAPolicyPermits(t *testing.T) {
	d := brokertest.StartWith(t, brokertest.WithPosture(brokertest.WhileHealthy))
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
		"a workload says nothing of itself":         {brokertest.As("alice"), good, fault.Denied},
		"a stranger says nothing":                   {brokertest.As("nobody"), good, fault.Unauthenticated},
		"a source that is not declared":             {brokertest.Local(), change(func(r *posture.Report) { r.Source = "cluster" }), fault.NotFound},
		"a source that no policy lets one speak of": {brokertest.As("operator"), change(func(r *posture.Report) { r.Source = "cluster" }), fault.Denied},
		"an empty ID":                  {brokertest.Local(), change(func(r *posture.Report) { r.ID = "" }), fault.Invalid},
		"an ID that deceives":          {brokertest.Local(), change(func(r *posture.Report) { r.ID = "a\u202eb" }), fault.Invalid},
		"a field of another type":      {brokertest.Local(), change(func(r *posture.Report) { r.Fields = []byte(`{"healthy":"true"}`) }), fault.Invalid},
		"a field that is missing":      {brokertest.Local(), change(func(r *posture.Report) { r.Fields = []byte(`{}`) }), fault.Invalid},
		"a field that is not declared": {brokertest.Local(), change(func(r *posture.Report) { r.Fields = []byte(`{"healthy":true,"admin":true}`) }), fault.Invalid},
		"no object":                    {brokertest.Local(), change(func(r *posture.Report) { r.Fields = []byte(`[]`) }), fault.Invalid},
		"null":                         {brokertest.Local(), change(func(r *posture.Report) { r.Fields = []byte(`null`) }), fault.Invalid},
		"a record from the future":     {brokertest.Local(), change(func(r *posture.Report) { r.ReportedAt = time.Now().Add(time.Hour) }), fault.Invalid},
		"a record of long ago":         {brokertest.Local(), change(func(r *posture.Report) { r.ReportedAt = time.Now().Add(-time.Hour) }), fault.Invalid},
		"a record of any size":         {brokertest.Local(), change(func(r *posture.Report) { r.Fields = []byte(strings.Repeat(" ", 5000)) }), fault.Invalid},
	} {
		if _, err := d.Posture.Report(t.Context(), c.caller, c.report); !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", says, err)
		}
	}
	for _, who := range []admission.Caller{brokertest.As("operator"), brokertest.Local()} {
		if _, err := d.Posture.Report(t.Context(), who, good); err != nil {
			t.Errorf("reported: %v", err)
		}
	}
	r, err := d.Posture.Read(t.Context(), brokertest.Local(), "machine", "alice")
	if err != nil || r.ReportedBy != "uid:0" {
		t.Errorf("kept: %+v, %v", r, err)
	}
	if _, err := d.Posture.Read(t.Context(), brokertest.As("alice"), "machine", "alice"); !fault.Is(err, fault.Denied) {
		t.Errorf("read by a workload: %v", err)
	}
}

func TestWhatIsReadFromAURLIsAllThereIs(t *testing.T) {
	d := brokertest.StartWith(t, brokertest.WithPosture(brokertest.WhileHealthy))
	read := func(ids ...string) int {
		var records []posture.Report
		for _, id := range ids {
			records = append(records, posture.Report{ID: id, Fields: json.RawMessage(`{"healthy":true}`)})
		}
		records = append(records, posture.Report{ID: "broken", Fields: json.RawMessage(`{"healthy":1}`)})
		refused, err := d.Posture.Take(t.Context(), posture.Reading{Source: "machine", By: "https://health.example.com", Records: records})
		brokertest.Must(t, err)
		return refused
	}
	if refused := read("alice", "bob", "alice"); refused != 2 {
		t.Errorf("%d records were refused", refused)
	}
	alice, bob := d.Acquired("alice", "reader"), d.Acquired("bob", "reader")
	read("bob")
	d.Ended(alice.Lease.ID, lease.Policy)
	d.Lives(bob.Lease.ID)
}

// Who is a little ahead of time says what counts now, and not what counts until then: a machine that turned bad would stay
// good for as long.
func TestAReportFromTheFutureOutweighsNoneOfThePresent(t *testing.T) {
	d := brokertest.StartWith(t, brokertest.WithPosture(brokertest.WhileHealthy))
	d.Reported("alice", `{"healthy":true}`, time.Now().Add(50*time.Second))
	alice := d.Acquired("alice", "reader")
	d.Reported("alice", `{"healthy":false}`, time.Time{})
	d.Ended(alice.Lease.ID, lease.Policy)
	if _, err := d.Posture.Report(t.Context(), brokertest.Local(), posture.Report{Source: "machine", ID: "alice", Fields: []byte(`{"healthy":true}`), ReportedAt: time.Now().Add(2 * time.Minute)}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a record of the day after: %v", err)
	}
}

// A source that says two things of one machine says nothing of it: else its order would decide who is healthy.
func TestASourceThatContradictsItselfSaysNothing(t *testing.T) {
	d := brokertest.StartWith(t, brokertest.WithPosture(brokertest.WhileHealthy))
	good, bad := json.RawMessage(`{"healthy":true}`), json.RawMessage(`{"healthy":false}`)
	records := []posture.Report{{ID: "alice", Fields: good}, {ID: "bob", Fields: good}, {ID: "bob", Fields: good}}
	read := func(records []posture.Report) int {
		refused, err := d.Posture.Take(t.Context(), posture.Reading{Source: "machine", By: "https://health.example.com", Records: records})
		brokertest.Must(t, err)
		return refused
	}
	if refused := read(records); refused != 1 {
		t.Errorf("%d records were refused", refused)
	}
	alice, bob := d.Acquired("alice", "reader"), d.Acquired("bob", "reader")
	if refused := read(append(records, posture.Report{ID: "alice", Fields: bad}, posture.Report{ID: "alice", Fields: good})); refused != 4 {
		t.Errorf("%d records were refused", refused)
	}
	d.Ended(alice.Lease.ID, lease.Policy)
	d.Lives(bob.Lease.ID)
}

// The listener is told, and hears what happens after that again: no change is lost between two looks.
func TestEachChangeIsTold(t *testing.T) {
	d := open(t)
	told := func() bool {
		select {
		case <-d.records.Changed():
			return true
		default:
			return false
		}
	}
	report := posture.Report{Source: "machine", ID: "alice", Fields: []byte(`{"healthy":true}`)}
	for _, change := range []struct {
		what string
		make func() error
	}{
		{"a report", func() error { _, err := d.records.Report(t.Context(), brokertest.Local(), report); return err }},
		{"a reading", func() error { _, err := d.records.Take(t.Context(), posture.Reading{Source: "machine"}); return err }},
	} {
		brokertest.Must(t, change.make())
		brokertest.Must(t, change.make()) // while nobody listens
		if !told() || told() {
			t.Errorf("%s is not told once", change.what)
		}
	}
	_, err := d.records.Withdraw(t.Context(), brokertest.Local(), "machine", "alice")
	brokertest.Check(t, "what the reading has taken back", err, fault.NotFound)
}

func TestEqualRecordsAreEqualBytes(t *testing.T) {
	d := open(t)
	var kept [2]string
	for i, fields := range []string{`{"patches":3, "healthy":true}`, `{"healthy":true,"patches":3}`} {
		r, err := d.records.Report(t.Context(), brokertest.Local(), posture.Report{Source: "machine", ID: "alice", Fields: []byte(fields)})
		brokertest.Must(t, err)
		kept[i] = string(r.Fields)
	}
	if kept[0] != kept[1] {
		t.Errorf("%s and %s", kept[0], kept[1])
	}
}

func TestOnePrincipalReportsNoFasterThanItMay(t *testing.T) {
	d := open(t)
	report := posture.Report{Source: "machine", ID: "alice", Fields: []byte(`{"healthy":true}`)}
	_, err := d.records.Report(t.Context(), brokertest.As("operator"), report)
	brokertest.Must(t, err)
	_, err = d.records.Report(t.Context(), brokertest.As("operator"), report)
	brokertest.Check(t, "the second one at once", err, fault.TooMany)
	_, err = d.records.Report(t.Context(), brokertest.Local(), report)
	brokertest.Check(t, "a local administrator", err, "")
}

func TestAdministratorsReadTheRecordsPageByPage(t *testing.T) {
	d := open(t)
	var records []posture.Report
	for i := range 450 { // more than are kept or dropped in one transaction
		records = append(records, posture.Report{ID: fmt.Sprintf("m%03d", i), Fields: []byte(`{"healthy":true}`)})
	}
	count := func() (n int) {
		for cursor := ""; ; {
			page, next, err := d.records.List(t.Context(), brokertest.As("operator"), "machine", cursor, 100)
			brokertest.Must(t, err)
			n += len(page)
			if cursor = next; cursor == "" {
				return n
			}
		}
	}
	for _, n := range []int{450, 3} {
		_, err := d.records.Take(t.Context(), posture.Reading{Source: "machine", By: "https://health.example.com", Records: records[:n]})
		brokertest.Must(t, err)
		if found := count(); found != n {
			t.Errorf("%d records, of %d", found, n)
		}
	}
	_, _, err := d.records.List(t.Context(), brokertest.As("alice"), "machine", "", 10)
	brokertest.Check(t, "a workload", err, fault.Denied)
}

// desk has records of its own, to which no reviews listen.
type desk struct {
	*brokertest.Desk
	records *posture.Records
}

func open(t *testing.T) desk {
	t.Helper()
	d := brokertest.StartWith(t, brokertest.WithPosture(brokertest.WhileHealthy))
	return desk{d, posture.New(posture.Config{Guard: d.Guard, Store: d.Store, Rate: 0.01, Now: d.Now})}
}
