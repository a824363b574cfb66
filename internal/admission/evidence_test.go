package admission_test

import (
	"errors"
	"testing"

	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/fault"
)

func TestADeskWithoutConfigurationDeniesEverything(t *testing.T) {
	d := brokertest.Open(t, brokertest.Options{})
	if _, err := d.Acquire(t.Context(), brokertest.Ask("alice", "reader")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("got %v", err)
	}
}

func TestAnIssuerThatCannotBeAskedIsNotARejection(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	d.Workloads.Fail(errors.New("connection refused"))
	if _, err := d.Acquire(t.Context(), brokertest.Ask("alice", "reader")); !fault.Is(err, fault.IssuerUnavailable) {
		t.Errorf("got %v", err)
	}
}
