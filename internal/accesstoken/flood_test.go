package accesstoken_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/secret"
)

// Anybody can make keys and prove them. Were strangers' proofs remembered, a few thousand a second would fill the memory,
// and what cannot be remembered is not accepted: every holder of a token would be shut out.
func TestStrangersProofsFillNoMemory(t *testing.T) {
	now := time.Now()
	open, _ := desk(t, &now)
	tokens := open(ours)
	holder, stranger := newProver(t), newProver(t)
	text, made, err := tokens.Mint(t.Context(), worker(), accesstoken.Binding{Key: holder.Thumbprint()}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	showing := func(p *dpop.Prover, token secret.Text) accesstoken.Showing {
		proof, err := p.Prove(dpop.Request{Method: "GET", URL: ours + "/v1/leases", Token: token.Reveal()}, "", now)
		if err != nil {
			t.Fatal(err)
		}
		return accesstoken.Showing{Scheme: accesstoken.SchemeDPoP, Proof: proof, Method: "GET", URL: ours + "/v1/leases"}
	}
	first, second := showing(stranger, secret.Text{}), showing(stranger, text)
	for range 2 { // what is remembered is refused the second time
		if _, err := tokens.Possess(first, secret.Text{}); err != nil {
			t.Errorf("a proof without a token: %v", err)
		}
		_, err := tokens.Hold(made, text, second)
		if refusal, ok := errors.AsType[*accesstoken.Refusal](err); !ok || refusal.Text == replayed(t) {
			t.Errorf("a proof of another key than the token's: %v", err)
		}
	}
	own := showing(holder, text)
	if _, err := tokens.Hold(made, text, own); err != nil {
		t.Errorf("the holder: %v", err)
	}
	if _, err := tokens.Hold(made, text, own); err == nil || err.Error() != replayed(t) {
		t.Errorf("the holder's proof, shown again: %v", err)
	}
}

// Whoever has a token can show it with as many proofs as they like. They fill a share of the memory, and nobody else's.
func TestOnePrincipalFillsItsOwnShareOfTheMemoryAlone(t *testing.T) {
	now := time.Now()
	m := accesstoken.NewSmallMemory(func() time.Time { return now }, 1000)
	until, taken := now.Add(time.Minute), 0
	for n := range 2000 {
		if m.First("greedy", fmt.Sprint("proof ", n), until) {
			taken++
		}
	}
	if taken != 200 {
		t.Errorf("%d proofs of one were remembered, of a thousand in all", taken)
	}
	if !m.First("modest", "a proof", until) {
		t.Error("another one is shut out")
	}
	if m.First("greedy", "proof 1", until) {
		t.Error("a proof is taken again")
	}
	now = now.Add(10 * time.Minute)
	if !m.First("greedy", "the next", now.Add(time.Minute)) {
		t.Error("its share is used up for ever")
	}
}

func replayed(t *testing.T) string {
	t.Helper()
	return accesstoken.ErrReplayed().Error()
}

func newProver(t *testing.T) *dpop.Prover {
	t.Helper()
	p, err := dpop.NewProver()
	if err != nil {
		t.Fatal(err)
	}
	return p
}
