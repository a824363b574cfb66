package ledger_test

import (
	"testing"
	"time"

	"github.com/daypass/daypass/ledger"
)

func TestALeafRoundTrips(t *testing.T) {
	e := ledger.Entry{Time: time.Unix(1e9, 123456000).UTC(), Event: ledger.LeasePending, ID: ledger.NewID(), Lease: "abc", Count: 3, Commitment: ledger.Commit(ledger.NewSalt(), []byte("x")), Until: time.Unix(2e9, 0).UTC()}
	leaf, err := e.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ledger.ParseLeaf(leaf)
	if err != nil || back != e {
		t.Fatalf("%s: %v %+v", leaf, err, back)
	}
	s, _, _ := ledger.GenerateSigner("example.com/l")
	v, err := ledger.NewVerifier(s.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Receipt(s.Receipt(leaf, e.Time))
	if err != nil || r.Entry != e {
		t.Fatal(err)
	}
	if c, err := v.Checkpoint(s.Checkpoint(3, ledger.LeafHash(leaf))); err != nil || c.Size != 3 {
		t.Fatal(err)
	}
}
