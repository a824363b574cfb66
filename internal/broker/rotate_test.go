package broker_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store/storetest"
	"github.com/daypass/daypass/ledger"
)

func verifies(t *testing.T, d *brokertest.Desk, key string, receipts ...string) ledger.Report {
	t.Helper()
	var export bytes.Buffer
	brokertest.Must(t, storetest.Export(t.Context(), d.Store, &export))
	report, err := ledger.VerifyExport(&export, []string{key}, receipts, time.Time{})
	brokertest.Must(t, err)
	return report
}

// signer is the key that signed a receipt.
func signer(t *testing.T, receipt string, keys ...string) string {
	t.Helper()
	for _, key := range keys {
		v, err := ledger.NewVerifier(key)
		brokertest.Must(t, err)
		if _, err := v.Receipt(receipt); err == nil {
			return key
		}
	}
	t.Errorf("none of the keys signed the receipt")
	return ""
}

func TestReceiptsFollowARotationAtOnce(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	first := d.Store.Signer().VerifierKey()
	before := d.Acquired("alice", "reader").Receipt
	done, err := d.RotateKey(t.Context(), brokertest.Local())
	brokertest.Must(t, err)
	if done.Key == first || done.Key != d.Store.Signer().VerifierKey() {
		t.Errorf("rotated from %s to %s, and %s signs", first, done.Key, d.Store.Signer().VerifierKey())
	}
	after := d.Acquired("alice", "reader").Receipt
	if by := signer(t, after, first, done.Key); by != done.Key {
		t.Errorf("%s signed the receipt", by)
	}
	if report := verifies(t, d, first, before, after); report.Held != 2 || len(report.Rotations) != 1 || report.Rotations[0].Size <= done.Entry {
		t.Errorf("from the first key: %+v", report)
	}
	verifies(t, d, done.Key, after)
}

func TestWhoMayNotRotateTheKey(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	before := d.Store.Signer().VerifierKey()
	lease := d.Acquired("alice", "reader")
	for name, c := range map[string]struct {
		who  admission.Caller
		kind fault.Kind
	}{
		"a workload":      {brokertest.As("alice"), fault.Denied},
		"a lease token":   {brokertest.Holding(lease.Token), fault.Denied},
		"nobody":          {brokertest.As("nobody"), fault.Unauthenticated},
		"an empty caller": {admission.Caller{Origin: brokertest.Origin()}, fault.Unauthenticated},
	} {
		_, err := d.RotateKey(t.Context(), c.who)
		brokertest.Check(t, name, err, c.kind)
	}
	if d.Store.Signer().VerifierKey() != before {
		t.Error("the key was rotated")
	}
	if _, err := d.RotateKey(t.Context(), brokertest.As("operator")); err != nil {
		t.Errorf("an administrator who may configure: %v", err)
	}
}

// Whoever acquires while keys change gets a receipt of a key that was the ledger's.
func TestAcquisitionsDuringRotationsHaveReceiptsThatVerify(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	first := d.Store.Signer().VerifierKey()
	var wg sync.WaitGroup
	receipts := make([]string, 24)
	for i := range receipts {
		wg.Go(func() {
			got, err := d.Acquire(t.Context(), brokertest.Ask([]string{"alice", "bob"}[i%2], "reader"))
			if err != nil {
				t.Errorf("acquire: %v", err)
			}
			receipts[i] = got.Receipt
		})
	}
	rotations := 0
	for range 6 {
		if _, err := d.RotateKey(t.Context(), brokertest.Local()); err != nil {
			t.Errorf("rotate: %v", err)
		}
		rotations++
	}
	wg.Wait()
	if report := verifies(t, d, first, receipts...); report.Held != len(receipts) || len(report.Rotations) != rotations {
		t.Errorf("held %d, rotations %d", report.Held, len(report.Rotations))
	}
}
