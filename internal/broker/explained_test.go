package broker_test

import (
	"strings"
	"testing"
	"time"
)

// Equal denials are recorded once. Denials in other circumstances are not equal: whoever asks why is not to be shown the
// circumstances of an earlier one.
func TestADenialIsExplainedByItsOwnCircumstances(t *testing.T) {
	d := startWith(t, whileHealthy)
	explained := func() (id, input string) {
		t.Helper()
		_, err := d.Acquire(t.Context(), ask("alice", "reader"))
		if id = decisionOf(err); id == "" {
			t.Fatalf("not denied, or not recorded: %v", err)
		}
		found, err := d.Decision(t.Context(), local, id)
		must(t, err)
		return id, string(found.Input)
	}
	unknown, _ := explained()
	if again, _ := explained(); again != unknown {
		t.Error("equal denials were recorded twice")
	}
	d.report("alice", `{"healthy":false}`, time.Time{})
	ill, input := explained()
	if ill == unknown || !strings.Contains(input, `"healthy":false`) {
		t.Errorf("a denial by posture is explained by %s", input)
	}
	request := ask("alice", "reader")
	d.places.known.Store(request.Origin.SourceIP.String(), "DE")
	if abroad, input := explained(); abroad == ill || !strings.Contains(input, `"country":"DE"`) {
		t.Errorf("a denial from another place is explained by %s", input)
	}
}
