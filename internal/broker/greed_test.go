package broker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/fault"
)

// One stranger of an allowed issuer asks for roles that there are not.
func TestAStrangerCannotFillTheLedgerWithMadeUpRoles(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	before := d.LedgerSize()
	for i := range 300 {
		_, err := d.Acquire(t.Context(), brokertest.Ask("mallory", fmt.Sprintf("made-up-%d", i)))
		if !fault.Is(err, fault.Denied) {
			t.Fatal(err)
		}
	}
	if grown := d.LedgerSize() - before; grown > 20 {
		t.Errorf("one principal wrote %d entries", grown)
	}
	// And nobody else's denial is blinded by that.
	_, err := d.Acquire(t.Context(), brokertest.Ask("bob", "nowhere"))
	if brokertest.DecisionOf(err) == "" {
		t.Error("the first denial of another principal was not recorded")
	}
}

// The holder of one lease renews it as fast as it can.
func TestAHolderCannotFillTheLedgerWithRenewals(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{Limits: broker.Limits{AcquireRate: 10}})
	acquired := d.Acquired("alice", "reader")
	holder := brokertest.Holding(acquired.Token)
	before := d.LedgerSize()
	begun, done := time.Now(), 0
	for range 300 {
		if _, _, err := d.Renew(t.Context(), holder, acquired.Lease.ID, 0); err == nil {
			done++
		}
	}
	if allowed := int(10*time.Since(begun).Seconds()) + 20; done > allowed {
		t.Errorf("%d renewals in %v wrote %d entries: no rate holds them back", done, time.Since(begun), d.LedgerSize()-before)
	}
}

// A role that refuses long lives must not tell strangers that it is there.
func TestTheTTLTellsNobodyWhichRolesThereAre(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	long := func(role string) error {
		request := brokertest.Ask("mallory", role)
		request.TTL = 24 * time.Hour
		_, err := d.Acquire(t.Context(), request)
		return err
	}
	there, absent := long("writer"), long("no-such-role")
	if fault.KindOf(there) != fault.KindOf(absent) {
		t.Errorf("a role that is there: %v; one that is not: %v", there, absent)
	}
}

// Handles that a role no longer renews by.
func TestARoleThatStopsRenewingByHandleStopsForLiveLeases(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	acquired := d.Acquired("alice", "reader")
	_, err := d.Apply(t.Context(), brokertest.Local(), access.Files{"access.yaml": strings.Replace(brokertest.Access, "renew: handle", "renew: evidence", 1), "policies.cedar": brokertest.Policies}, "")
	brokertest.Must(t, err)
	if _, _, err := d.Renew(t.Context(), brokertest.Holding(acquired.Token), acquired.Lease.ID, 20*time.Minute); err == nil {
		t.Error("the lease token still renews")
	}
}
