package admission_test

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
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

// Nobody is anybody without evidence that an issuer of the active revision vouches for.
func TestWhoIsNobody(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	held := d.Acquired("alice", "reader")
	with := func(how func(*admission.Evidence)) admission.Evidence {
		e := brokertest.Shown(secret.New("alice"))
		how(&e)
		return e
	}
	for says, e := range map[string]admission.Evidence{
		"who shows nothing":                           {},
		"a stranger":                                  brokertest.Shown(secret.New("stranger")),
		"a certificate of nobody's":                   {Chain: []*x509.Certificate{{}}},
		"a workload token that comes as if bound":     with(func(e *admission.Evidence) { e.Scheme = accesstoken.SchemeDPoP }),
		"a lease token with other random bits":        brokertest.Shown(admission.NewToken(held.Lease.ID)),
		"a lease token of no lease":                   brokertest.Shown(admission.NewToken(lease.NewID(1))),
		"half a lease token":                          brokertest.Shown(secret.New("dpl_" + string(held.Lease.ID))),
		"a lease token that comes as an access token": {Token: held.Token, Scheme: accesstoken.SchemeDPoP},
	} {
		_, err := d.Identify(t.Context(), admission.Caller{Evidence: e, Origin: brokertest.Origin()})
		brokertest.Check(t, says, err, fault.Unauthenticated)
		if err != nil && strings.Contains(err.Error(), held.Token.Reveal()) {
			t.Errorf("%s: the refusal tells the token", says)
		}
	}
	who, err := d.Identify(t.Context(), brokertest.Holding(held.Token))
	if err != nil || who.Holds != held.Lease.ID || who.Name != "ci:alice" || !who.Owns(d.Stored(held.Lease.ID)) {
		t.Errorf("the holder is %+v, %v", who, err)
	}
}

// What is good once is used up by whatever it was shown for, reads too, and by one of many.
func TestATokenThatIsGoodOnceIsUsedUp(t *testing.T) {
	files := brokertest.Configuration()
	files["access.yaml"] = strings.Replace(files["access.yaml"], `"https://ops.example.com"}`, `"https://ops.example.com", single_use: true}`, 1)
	d := brokertest.StartWith(t, files)
	once := func(id string) admission.Caller {
		p := brokertest.Workload("ops", "operator", map[string]any{"team": "platform"})
		p.TokenID, p.ExpiresAt = id, d.Now().Add(time.Minute)
		d.Workloads.Know(id, p)
		c := brokertest.As(id)
		c.Evidence.Method = "GET"
		return c
	}
	_, err := d.Identify(t.Context(), brokertest.As("operator"))
	brokertest.Check(t, "one without an ID", err, fault.Unauthenticated)
	first := once("first")
	_, _, _, err = d.Revisions(t.Context(), first, "", 1)
	brokertest.Check(t, "the first use", err, "")
	_, _, _, err = d.Revisions(t.Context(), first, "", 1)
	brokertest.Check(t, "the second use", err, fault.Unauthenticated)

	second, errs := once("second"), make(chan error, 8)
	for range cap(errs) {
		go func() { _, err := d.Identify(context.WithoutCancel(t.Context()), second); errs <- err }()
	}
	good := 0
	for range cap(errs) {
		if err := <-errs; err == nil {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d of %d uses at once were good", good, cap(errs))
	}

	admitted, err := d.Admit(t.Context(), once("third"), policy.Configure) // who is admitted is known from then on
	brokertest.Must(t, err)
	_, err = d.Apply(t.Context(), admitted, files, "")
	brokertest.Check(t, "apply, once admitted", err, "")
}

// Evidence that was used up for something that did not happen was not used up: both are one transaction.
func TestWhatIsDueIsSettledWithWhatItIsFor(t *testing.T) {
	files := brokertest.Configuration()
	files["access.yaml"] = strings.Replace(files["access.yaml"], `"https://ci.example.com"}`, `"https://ci.example.com", single_use: true}`, 1)
	d := brokertest.StartWith(t, files)
	p := brokertest.Workload("ci", "alice", map[string]any{"team": "payments"})
	p.TokenID, p.ExpiresAt = "once", d.Now().Add(time.Minute)
	d.Workloads.Know("once", p)
	who, err := d.Meet(t.Context(), brokertest.As("once"))
	brokertest.Must(t, err)
	settle := func(then error) error {
		return d.Store.Update(t.Context(), func(tx *store.Tx) error {
			if err := d.Settle(tx, who.Dues); err != nil {
				return err
			}
			return then
		})
	}
	broken := errors.New("something else went wrong")
	if err := settle(broken); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	brokertest.Check(t, "after what did not happen", settle(nil), "")
	brokertest.Check(t, "after what did", settle(nil), fault.Unauthenticated)
}

// No two lists of parts have one hash, wherever they are cut.
func TestHashesTellPartsApart(t *testing.T) {
	seen := map[string][]string{}
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"a", "", "b"}, {"1:a,"}, {"a,1:b"}} {
		hash := string(admission.Hash(parts...))
		if other, known := seen[hash]; known {
			t.Errorf("%q and %q have one hash", parts, other)
		}
		seen[hash] = parts
	}
}
