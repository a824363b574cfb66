package accesstoken_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/issuer/issuertest"
	"github.com/daypass/daypass/secret"
)

const ours = "https://daypass.example"

// desk makes tokens of an issuer, for an audience.
func desk(t testing.TB, now *time.Time) (func(audience string) *accesstoken.Tokens, *issuer.Issuer) {
	t.Helper()
	clock := func() time.Time { return *now }
	i := issuertest.NewKeys(t).Open(issuer.Config{URL: ours, Now: clock})
	return func(audience string) *accesstoken.Tokens {
		return accesstoken.New(accesstoken.Config{Issuer: i, Audience: audience, TTL: time.Hour, Now: clock,
			Proofs: dpop.NewVerifier(dpop.Config{Key: []byte(strings.Repeat("k", 32)), Now: clock})})
	}, i
}

func worker() identity.Principal {
	return identity.Principal{Issuer: "ci", IssuerURL: "https://ci.example", Subject: "worker", TokenID: "evidence-1",
		IssuedAt: time.Unix(1_700_000_000, 0), Claims: map[string]any{"run": int64(7), "team": "payments"}}
}

func TestATokenStandsForThePrincipalThatItWasMadeFor(t *testing.T) {
	now := time.Now()
	open, _ := desk(t, &now)
	tokens := open(ours)
	text, made, err := tokens.Mint(t.Context(), worker(), accesstoken.Binding{Key: "thumb"}, time.Time{})
	if err != nil || !tokens.Ours(text) {
		t.Fatal(err)
	}
	read, err := tokens.Read(t.Context(), text)
	p := read.Principal
	if err != nil || read.ID != made.ID || read.Binding.Key != "thumb" || p.Name() != "ci:worker" || p.IssuerURL != "https://ci.example" ||
		p.Claims["run"] != int64(7) || p.TokenID != "" || !p.IssuedAt.Equal(worker().IssuedAt) {
		t.Errorf("%+v, %v", read, err)
	}
	if _, err := open("https://other.example").Read(t.Context(), text); code(err) != accesstoken.InvalidToken {
		t.Errorf("a token for another audience: %v", err)
	}
	now = now.Add(time.Hour)
	if _, err := tokens.Read(t.Context(), text); code(err) != accesstoken.InvalidToken {
		t.Errorf("an hour later: %v", err)
	}
}

func code(err error) string {
	refusal, _ := errors.AsType[*accesstoken.Refusal](err)
	if refusal == nil {
		return ""
	}
	return refusal.Code
}

func TestNoUnboundTokenIsMadeOrRead(t *testing.T) {
	now := time.Now()
	open, signer := desk(t, &now)
	tokens := open(ours)
	for _, to := range []accesstoken.Binding{{}, {Key: "a", Certificate: "b"}} {
		if _, _, err := tokens.Mint(t.Context(), worker(), to, time.Time{}); err == nil {
			t.Errorf("%+v: made", to)
		}
	}
	for name, cnf := range map[string]any{"none": nil, "empty": map[string]any{}, "both": map[string]any{"jkt": "a", "x5t#S256": "b"}, "another": map[string]any{"jwk": "a"}} {
		text, err := signer.Sign(t.Context(), issuer.Token{Type: accesstoken.Type, ID: "1", Subject: "ci:worker", Audience: []string{ours}, TTL: time.Hour,
			Claims: map[string]any{"cnf": cnf, "daypass": map[string]any{"issuer_url": "https://ci.example", "subject": "worker", "claims": map[string]any{}}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tokens.Read(t.Context(), text); code(err) != accesstoken.InvalidToken {
			t.Errorf("cnf %s: %v", name, err)
		}
	}
	plain, err := signer.Sign(t.Context(), issuer.Token{Type: "enrol+jwt", ID: "1", Subject: "ci:worker", Audience: []string{ours}, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Read(t.Context(), plain); tokens.Ours(plain) || code(err) != accesstoken.InvalidToken {
		t.Errorf("a token of another type: %v", err)
	}
	p := worker()
	p.Claims["long"] = strings.Repeat("x", api.MaxToken)
	if _, _, err := tokens.Mint(t.Context(), p, accesstoken.Binding{Key: "a"}, time.Time{}); err == nil {
		t.Error("a token was made that no header takes")
	}
	if tokens.Ours(secret.Text{}) || tokens.Ours(secret.New("a.b")) || tokens.Ours(secret.New("?.?.?")) {
		t.Error("nonsense is ours")
	}
}

func TestMemoryForgetsNothingThatCouldBeUsedAgain(t *testing.T) {
	now := time.Now()
	m := accesstoken.NewMemory(func() time.Time { return now })
	for minute := range 60 {
		until := now.Add(5*time.Minute + 30*time.Second)
		id := fmt.Sprint("proof ", minute)
		if !m.First("worker", id, until) {
			t.Fatalf("minute %d: a fresh one is refused", minute)
		}
		for back := range min(minute+1, 6) {
			if m.First("worker", fmt.Sprint("proof ", minute-back), now.Add(time.Minute)) {
				t.Errorf("minute %d: one from %d minutes ago is taken again", minute, back)
			}
		}
		now = now.Add(time.Minute)
	}
}
