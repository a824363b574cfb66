package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/fault"
)

// One stranger of an allowed issuer asks for roles that there are not.
func TestAStrangerCannotFillTheLedgerWithMadeUpRoles(t *testing.T) {
	d := start(t, options{})
	before := d.ledgerSize()
	for i := range 300 {
		_, err := d.Acquire(t.Context(), ask("mallory", fmt.Sprintf("made-up-%d", i)))
		if !fault.Is(err, fault.Denied) {
			t.Fatal(err)
		}
	}
	if grown := d.ledgerSize() - before; grown > 20 {
		t.Errorf("one principal wrote %d entries", grown)
	}
	// And nobody else's denial is blinded by that.
	_, err := d.Acquire(t.Context(), ask("bob", "nowhere"))
	if decisionOf(err) == "" {
		t.Error("the first denial of another principal was not recorded")
	}
}

func decisionOf(err error) string {
	refusal, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return ""
	}
	return refusal.Decision
}

// The holder of one lease renews it as fast as it can.
func TestAHolderCannotFillTheLedgerWithRenewals(t *testing.T) {
	d := start(t, options{limits: broker.Limits{AcquireRate: 10}})
	acquired := d.acquire("alice", "reader")
	holder := admission.Caller{Evidence: shown(acquired.Token), Origin: origin}
	before := d.ledgerSize()
	begun, done := time.Now(), 0
	for range 300 {
		if _, _, err := d.Renew(t.Context(), holder, acquired.Lease.ID, 0); err == nil {
			done++
		}
	}
	if allowed := int(10*time.Since(begun).Seconds()) + 20; done > allowed {
		t.Errorf("%d renewals in %v wrote %d entries: no rate holds them back", done, time.Since(begun), d.ledgerSize()-before)
	}
}

// A role that refuses long lives must not tell strangers that it is there.
func TestTheTTLTellsNobodyWhichRolesThereAre(t *testing.T) {
	d := start(t, options{})
	long := func(role string) error {
		request := ask("mallory", role)
		request.TTL = 24 * time.Hour
		_, err := d.Acquire(t.Context(), request)
		return err
	}
	there, absent := long("writer"), long("no-such-role")
	if fault.KindOf(there) != fault.KindOf(absent) {
		t.Errorf("a role that is there: %v; one that is not: %v", there, absent)
	}
}

// The name of an issuer moves to another URL, and the old URL gets another name: what was "ci" is not "ci" any more.
func TestARenamedIssuerDoesNotKeepItsOldRights(t *testing.T) {
	d := start(t, options{})
	acquired := d.acquire("alice", "reader")
	renamed := strings.Replace(files, "name: ci\noidc: {url: \"https://ci.example.com\"}", "name: old\noidc: {url: \"https://ci.example.com\"}", 1) +
		"---\nkind: Issuer\nname: ci\noidc: {url: \"https://new.example.com\"}\nclaims: {team: string, level: long?}\n"
	narrowed := strings.Replace(policies, "principal is Workload, action in", "principal in Issuer::\"ci\", action in", 1)
	_, err := d.Apply(t.Context(), local, access.Files{"access.yaml": renamed, "policies.cedar": narrowed}, "")
	must(t, err)
	if _, _, err := d.Renew(t.Context(), admission.Caller{Evidence: shown(acquired.Token), Origin: origin}, acquired.Lease.ID, 20*time.Minute); err == nil {
		t.Error("a lease of https://ci.example.com was renewed by a policy for https://new.example.com")
	}
}

// Handles that a role no longer renews by.
func TestARoleThatStopsRenewingByHandleStopsForLiveLeases(t *testing.T) {
	d := start(t, options{})
	acquired := d.acquire("alice", "reader")
	_, err := d.Apply(t.Context(), local, access.Files{"access.yaml": strings.Replace(files, "renew: handle", "renew: evidence", 1), "policies.cedar": policies}, "")
	must(t, err)
	if _, _, err := d.Renew(t.Context(), admission.Caller{Evidence: shown(acquired.Token), Origin: origin}, acquired.Lease.ID, 20*time.Minute); err == nil {
		t.Error("the lease token still renews")
	}
}
