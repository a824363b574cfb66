package admission_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/fault"
)

// Equal denials are recorded once. Denials in other circumstances are not equal: whoever asks why is not to be shown the
// circumstances of an earlier one.
func TestADenialIsExplainedByItsOwnCircumstances(t *testing.T) {
	d := brokertest.StartWith(t, brokertest.WithPosture(brokertest.WhileHealthy))
	explained := func() (id, input string) {
		t.Helper()
		_, err := d.Acquire(t.Context(), brokertest.Ask("alice", "reader"))
		if id = brokertest.DecisionOf(err); id == "" {
			t.Fatalf("not denied, or not recorded: %v", err)
		}
		found, err := d.Decision(t.Context(), brokertest.Local(), id)
		brokertest.Must(t, err)
		return id, string(found.Input)
	}
	unknown, _ := explained()
	if again, _ := explained(); again != unknown {
		t.Error("equal denials were recorded twice")
	}
	d.Reported("alice", `{"healthy":false}`, time.Time{})
	ill, input := explained()
	if ill == unknown || !strings.Contains(input, `"healthy":false`) {
		t.Errorf("a denial by posture is explained by %s", input)
	}
	request := brokertest.Ask("alice", "reader")
	d.Places.Put(request.Origin.SourceIP, "DE")
	if abroad, input := explained(); abroad == ill || !strings.Contains(input, `"country":"DE"`) {
		t.Errorf("a denial from another place is explained by %s", input)
	}
}

func TestALimitOnOtherLeasesHoldsWhateverHappensAtOnce(t *testing.T) {
	d := brokertest.StartWith(t, brokertest.WithPosture(`permit (principal in Issuer::"ci", action == Action::"acquire", resource) when { context.live_leases < 3 };`))
	results := make(chan error, 20)
	for range cap(results) {
		go func() {
			_, err := d.Acquire(context.Background(), brokertest.Ask("alice", "reader"))
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
	if live := len(d.Live()); good != 3 || live != 3 {
		t.Errorf("%d acquisitions succeeded, %d leases live", good, live)
	}
}
