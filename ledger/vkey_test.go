package ledger_test

import (
	"strings"
	"testing"

	"github.com/daypass/daypass/ledger"
)

// A verifier key is three parts joined by plus signs, and base64 has plus signs of its own.
func TestEveryVerifierKeyIsReadBack(t *testing.T) {
	withPlus := 0
	for range 200 {
		signer, _, err := ledger.GenerateSigner("daypass.example.com/ledger")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(signer.VerifierKey(), "+") > 2 {
			withPlus++
		}
		if _, err := ledger.NewVerifier(signer.VerifierKey()); err != nil {
			t.Fatal(err)
		}
	}
	if withPlus == 0 {
		t.Error("no key had a plus sign in it: the test shows nothing")
	}
}
