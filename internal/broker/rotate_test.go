package broker_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/storetest"
	"github.com/daypass/daypass/ledger"
)

// newKey makes keys that nobody seals: these tests start no store again after a rotation.
func newKey(origin string) (store.Rotation, error) {
	signer, _, err := ledger.GenerateSigner(origin)
	return store.Rotation{Signer: signer, Name: "ledger-key", Sealed: []byte("sealed")}, err
}

func (d *desk) verifies(key string, receipts ...string) ledger.Report {
	d.t.Helper()
	var export bytes.Buffer
	must(d.t, storetest.Export(d.t.Context(), d.store, &export))
	report, err := ledger.VerifyExport(&export, []string{key}, receipts, time.Time{})
	must(d.t, err)
	return report
}

// signer is the key that signed a receipt.
func (d *desk) signer(receipt string, keys ...string) string {
	d.t.Helper()
	for _, key := range keys {
		v, err := ledger.NewVerifier(key)
		must(d.t, err)
		if _, err := v.Receipt(receipt); err == nil {
			return key
		}
	}
	d.t.Errorf("none of the keys signed the receipt")
	return ""
}

func TestReceiptsFollowARotationAtOnce(t *testing.T) {
	d := start(t, options{})
	first := d.signerKey()
	before := d.acquire("alice", "reader").Receipt
	done, err := d.RotateKey(t.Context(), local)
	must(t, err)
	if done.Key == first || done.Key != d.signerKey() {
		t.Errorf("rotated from %s to %s, and %s signs", first, done.Key, d.signerKey())
	}
	after := d.acquire("alice", "reader").Receipt
	if by := d.signer(after, first, done.Key); by != done.Key {
		t.Errorf("%s signed the receipt", by)
	}
	if report := d.verifies(first, before, after); report.Held != 2 || len(report.Rotations) != 1 || report.Rotations[0].Size <= done.Entry {
		t.Errorf("from the first key: %+v", report)
	}
	d.verifies(done.Key, after)
}

func TestWhoMayNotRotateTheKey(t *testing.T) {
	d := start(t, options{})
	before := d.signerKey()
	lease := d.acquire("alice", "reader")
	for name, c := range map[string]struct {
		who  admission.Caller
		kind fault.Kind
	}{
		"a workload":      {as("alice"), fault.Denied},
		"a lease token":   {admission.Caller{Evidence: shown(lease.Token), Origin: origin}, fault.Denied},
		"nobody":          {as("nobody"), fault.Unauthenticated},
		"an empty caller": {admission.Caller{Origin: origin}, fault.Unauthenticated},
	} {
		_, err := d.RotateKey(t.Context(), c.who)
		check(t, name, err, c.kind)
	}
	if d.signerKey() != before {
		t.Error("the key was rotated")
	}
	if _, err := d.RotateKey(t.Context(), as("operator")); err != nil {
		t.Errorf("an administrator who may configure: %v", err)
	}
}

// Whoever acquires while keys change gets a receipt of a key that was the ledger's.
func TestAcquisitionsDuringRotationsHaveReceiptsThatVerify(t *testing.T) {
	d := start(t, options{})
	first := d.signerKey()
	var wg sync.WaitGroup
	receipts := make([]string, 24)
	for i := range receipts {
		wg.Go(func() {
			got, err := d.Acquire(t.Context(), ask([]string{"alice", "bob"}[i%2], "reader"))
			if err != nil {
				t.Errorf("acquire: %v", err)
			}
			receipts[i] = got.Receipt
		})
	}
	rotations := 0
	for range 6 {
		if _, err := d.RotateKey(t.Context(), local); err != nil {
			t.Errorf("rotate: %v", err)
		}
		rotations++
	}
	wg.Wait()
	if report := d.verifies(first, receipts...); report.Held != len(receipts) || len(report.Rotations) != rotations {
		t.Errorf("held %d, rotations %d", report.Held, len(report.Rotations))
	}
}
