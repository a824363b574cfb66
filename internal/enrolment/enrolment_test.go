package enrolment_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/enrolment"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/secret"
)

// refused fails unless an error refuses somebody who is not known, and says something.
func refused(t *testing.T, err error, says string) {
	t.Helper()
	if !fault.Is(err, fault.Unauthenticated) || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v; want a refusal that says %q", err, says)
	}
}

func TestOfManyWhoShowOneTokenOneGetsTheDevice(t *testing.T) {
	w := open(t, brokertest.Options{})
	token := w.invite("pump-7")
	var mu sync.Mutex
	var won []enrolment.Enrolled
	var all sync.WaitGroup
	for range 4 {
		key := newKey(t)
		all.Go(func() {
			d, err := w.enrolWith(token, key)
			if err != nil {
				refused(t, err, "used before")
				return
			}
			if again, err := w.enrolWith(token, key); err != nil || again.Thumbprint != d.Thumbprint { // the answer may have been lost
				t.Errorf("the same token with the same key: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			won = append(won, d)
		})
	}
	all.Wait()
	d, err := w.device("pump-7")
	if err != nil || len(won) != 1 || d.Thumbprint != won[0].Thumbprint {
		t.Errorf("%d have won, and %+v is the device: %v", len(won), d, err)
	}
}

func TestWhoMayInviteAndWhom(t *testing.T) {
	w := open(t, brokertest.Options{})
	good := enrolment.InviteRequest{Issuer: "edge", Name: "pump-7", TTL: time.Hour}
	change := func(how func(*enrolment.InviteRequest)) enrolment.InviteRequest {
		r := good
		how(&r)
		return r
	}
	many := map[string]string{}
	for _, name := range strings.Split("abcdefghijklmnopq", "") {
		many[name] = "x"
	}
	for says, c := range map[string]struct {
		who  admission.Caller
		what enrolment.InviteRequest
		kind fault.Kind
	}{
		"an administrator":              {brokertest.As("operator"), good, ""},
		"a workload":                    {brokertest.As("alice"), good, fault.Denied},
		"nobody":                        {brokertest.As("stranger"), good, fault.Unauthenticated},
		"an issuer of no devices":       {brokertest.Local(), change(func(r *enrolment.InviteRequest) { r.Issuer = "ci" }), fault.NotFound},
		"a name with a slash":           {brokertest.Local(), change(func(r *enrolment.InviteRequest) { r.Name = "a/b" }), fault.Invalid},
		"a token for more than a day":   {brokertest.Local(), change(func(r *enrolment.InviteRequest) { r.TTL = 25 * time.Hour }), fault.Invalid},
		"a token for less than nothing": {brokertest.Local(), change(func(r *enrolment.InviteRequest) { r.TTL = -time.Hour }), fault.Invalid},
		"a thumbprint of no key":        {brokertest.Local(), change(func(r *enrolment.InviteRequest) { r.Thumbprint = "abc" }), fault.Invalid},
		"a label with a space":          {brokertest.Local(), change(func(r *enrolment.InviteRequest) { r.Labels = map[string]string{"site": "a b"} }), fault.Invalid},
		"seventeen labels":              {brokertest.Local(), change(func(r *enrolment.InviteRequest) { r.Labels = many }), fault.Invalid},
	} {
		_, err := w.Devices.Invite(t.Context(), c.who, c.what)
		brokertest.Check(t, says, err, c.kind)
	}
}

func TestAnEnrolmentTokenIsForOneKeyAndAWhile(t *testing.T) {
	w := open(t, brokertest.Options{})
	key := newKey(t)
	bound := w.inviteAs(enrolment.InviteRequest{Issuer: "edge", Name: "pump-7", Thumbprint: key.Thumbprint()})
	_, err := w.enrolWith(bound, newKey(t))
	refused(t, err, "bound to another key")
	if _, err := w.enrolWith(bound, key); err != nil {
		t.Errorf("who holds the key: %v", err)
	}
	short := w.inviteAs(enrolment.InviteRequest{Issuer: "edge", Name: "pump-8", TTL: time.Second})
	w.Await("the token to expire", func() bool {
		_, err := w.Issuer.Verify(t.Context(), short, "enrol+jwt")
		return err != nil
	})
	_, err = w.enrolWith(short, key)
	refused(t, err, "no longer good")
	if log := w.Log(); strings.Contains(log, bound.Reveal()) || strings.Contains(log, short.Reveal()) {
		t.Error("an enrolment token stands in the log")
	}
}

func TestWhoHasNoTokenOfOursOrProvesNoKeyEnrolsNothing(t *testing.T) {
	w := open(t, brokertest.Options{})
	key, token := newKey(t), w.invite("pump-7")
	_, err := w.enrolWith(secret.New("a.b.c"), key)
	refused(t, err, "not one of ours")
	_, err = w.Devices.Enrol(t.Context(), token, admission.Evidence{Method: "POST", URL: brokertest.URL + "/v1/devices"}, brokertest.Origin())
	refused(t, err, "prove the device's key")
	_, err = w.Devices.Enrol(t.Context(), token, w.proof(key, "another token"), brokertest.Origin())
	refused(t, err, "")
	if _, err := w.device("pump-7"); !fault.Is(err, fault.NotFound) {
		t.Errorf("there is a device: %v", err)
	}
	if _, err := w.enrolWith(token, key); err != nil {
		t.Errorf("what was refused has used the token up: %v", err)
	}
}

// A token for a name may be about from before the device of that name was removed, perhaps since it was stolen: nobody
// knows all of them, and so the removal ends them.
func TestAnEnrolmentTokenFromBeforeTheRemovalGivesTheNameToNobody(t *testing.T) {
	w := open(t, brokertest.Options{})
	w.enrol("pump-7")
	kept := w.invite("pump-7")
	_, err := w.Devices.Remove(t.Context(), brokertest.Local(), "edge", "pump-7")
	brokertest.Must(t, err)
	_, err = w.enrolWith(kept, newKey(t))
	refused(t, err, "before the device of that name was removed")
	w.enrol("pump-7") // by a token of afterwards, made at once
	w.Acquired("pump-7", "reader")
}

func TestARenewalNeedsTheKeyAndTheNextOne(t *testing.T) {
	w := open(t, brokertest.Options{})
	before, key := w.enrol("pump-7")
	next := newKey(t)
	_, err := w.renew("pump-7", next, nil)
	refused(t, err, "no such device with this key")
	_, err = w.renew("pump-8", key, nil)
	refused(t, err, "no such device with this key")
	unasked := enrolment.RenewRequest{Issuer: "edge", Name: "pump-7", Evidence: w.proof(key, ""), Next: w.prove(next, ""), Origin: brokertest.Origin()}
	_, err = w.Devices.Renew(t.Context(), unasked) // a proof of the next key that was not made for this renewal
	refused(t, err, "")
	after, err := w.renew("pump-7", key, next)
	if err != nil || after.Thumbprint != next.Thumbprint() || after.Until.Before(before.Until) {
		t.Errorf("got %+v, %v", after, err)
	}
	_, err = w.renew("pump-7", key, nil)
	refused(t, err, "no such device with this key")
	if _, err := w.Acquire(t.Context(), brokertest.Ask("pump-7", "reader")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("by the key before: %v", err)
	}
}

func TestEachStepIsOnTheLedger(t *testing.T) {
	w := open(t, brokertest.Options{})
	_, key := w.enrol("pump-7")
	_, err := w.renew("pump-7", key, nil)
	brokertest.Must(t, err)
	_, err = w.Devices.Remove(t.Context(), brokertest.Local(), "edge", "pump-7")
	brokertest.Must(t, err)
	var told []string
	for _, entry := range w.Entries() {
		if entry.Device == "edge:pump-7" {
			told = append(told, string(entry.Event))
		}
	}
	want := []ledger.Event{ledger.DeviceInvited, ledger.DeviceEnrolled, ledger.DeviceRenewed, ledger.DeviceRemoved}
	for i, event := range want {
		if len(told) != len(want) || told[i] != string(event) {
			t.Fatalf("the ledger tells %v, want %v", told, want)
		}
	}
}

// Guessing does not go on for ever, and makes no entries of the ledger.
func TestAStrangerWhoFailsToEnrolIsSlowedDownAndFillsNoLedger(t *testing.T) {
	w := open(t, brokertest.Options{})
	before, slowed := w.LedgerSize(), 0
	for range 40 {
		_, err := w.enrolWith(secret.New("a.b.c"), newKey(t))
		if fault.Is(err, fault.TooMany) {
			slowed++
		}
	}
	if after := w.LedgerSize(); slowed == 0 || after != before {
		t.Errorf("slowed down %d times; the ledger has grown by %d", slowed, after-before)
	}
}

// Renewals are counted, so that nobody fills the ledger with them. What strangers ask for in a device's name must not be
// counted as the device's: it could renew neither itself nor its leases.
func TestAStrangerCannotUseUpTheRenewalsOfADevice(t *testing.T) {
	w := open(t, brokertest.Options{Limits: broker.Limits{AcquireRate: 0.01}, Renewals: 0.01}) // one of each kind, in the time of this test
	_, key := w.enrol("pump-7")
	held := w.Acquired("pump-7", "reader")
	for range 3 {
		_, err := w.renew("pump-7", newKey(t), nil)
		refused(t, err, "no such device with this key")
	}
	if _, _, err := w.Renew(t.Context(), brokertest.As("pump-7"), held.Lease.ID, 0); err != nil {
		t.Errorf("the device renews its lease: %v", err)
	}
	if _, err := w.renew("pump-7", key, nil); err != nil {
		t.Errorf("the device renews its term: %v", err)
	}
	if _, err := w.renew("pump-7", key, nil); !fault.Is(err, fault.TooMany) {
		t.Errorf("again, at once: %v", err)
	}
}
