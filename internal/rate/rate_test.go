package rate_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/rate"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestWhoAsksTooOftenIsToldWhenToComeBack(t *testing.T) {
	limit := rate.New(2)
	for range 2 {
		if err := limit.Take("https://ci", "alice", noon); err != nil {
			t.Fatal(err)
		}
	}
	err := limit.Take("https://ci", "alice", noon)
	if refusal, ok := errors.AsType[*fault.Error](err); !ok || refusal.Kind != fault.TooMany || refusal.RetryAfter != 500*time.Millisecond {
		t.Errorf("a third request in one instant: %v", err)
	}
	if err := limit.Take("https://ci", "bob", noon); err != nil {
		t.Errorf("another principal: %v", err)
	}
	if err := limit.Take("https://ci", "alice", noon.Add(500*time.Millisecond)); err != nil {
		t.Errorf("when it was told to come back: %v", err)
	}
}

func TestALimitOfNothingIsNone(t *testing.T) {
	limit := rate.New(0)
	for range 1000 {
		if err := limit.Take("https://ci", "alice", noon); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAskingWhetherItIsUsedUpCountsNothing(t *testing.T) {
	limit := rate.New(1)
	for range 10 {
		if err := limit.Used("", "192.0.2.7", noon); err != nil {
			t.Fatal(err)
		}
	}
	if err := limit.Take("", "192.0.2.7", noon); err != nil {
		t.Fatal(err)
	}
	if err := limit.Used("", "192.0.2.7", noon); !fault.Is(err, fault.TooMany) {
		t.Errorf("used up: %v", err)
	}
}

// TestTheIdleAreForgottenAndTheBusyAreNot also after the memory was swept.
func TestTheIdleAreForgottenAndTheBusyAreNot(t *testing.T) {
	limit := rate.New(1)
	for n := range 1000 {
		if err := limit.Take("https://ci", fmt.Sprint("idle-", n), noon); err != nil {
			t.Fatal(err)
		}
	}
	later := noon.Add(time.Minute)
	if err := limit.Take("https://ci", "busy", later); err != nil {
		t.Fatal(err)
	}
	if known := limit.Known(); known != 1 {
		t.Errorf("%d are remembered", known)
	}
	if err := limit.Take("https://ci", "busy", later); !fault.Is(err, fault.TooMany) {
		t.Errorf("the busy one: %v", err)
	}
}
