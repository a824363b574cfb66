package issuer_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/secret"
)

var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256}

func TestATokenSaysWhatWasAskedAndWhoSignedIt(t *testing.T) {
	h := newHouse(t)
	i := h.server()
	for _, algorithm := range issuer.Algorithms() {
		asked := order()
		asked.Algorithm, asked.Type = algorithm, "at+jwt"
		asked.Claims = map[string]any{"https://aws.amazon.com/tags": map[string]any{"principal_tags": map[string][]string{"team": {"core"}}}}
		token := sign(t, i, asked)
		parsed, err := jwt.ParseSigned(token.Reveal(), algorithms)
		if err != nil {
			t.Fatal(err)
		}
		var set jose.JSONWebKeySet
		if err := json.Unmarshal([]byte(document(t, i, issuer.KeysPath)), &set); err != nil {
			t.Fatal(err)
		}
		var claims map[string]any
		if err := parsed.Claims(set, &claims); err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		now := float64(h.clock().Unix())
		for name, want := range map[string]any{
			"iss": h.url, "sub": "role:deploy", "aud": "sts.example.com", "jti": "dp_abc234_one", "iat": now, "nbf": now - 60, "exp": now + 3600,
		} {
			if claims[name] != want {
				t.Errorf("%s: claim %s is %v, want %v", algorithm, name, claims[name], want)
			}
		}
		if got := fmt.Sprint(claims["https://aws.amazon.com/tags"]); got != "map[principal_tags:map[team:[core]]]" {
			t.Errorf("%s: tags are %s", algorithm, got)
		}
		header := parsed.Headers[0]
		if header.Algorithm != string(algorithm) || header.ExtraHeaders["typ"] != "at+jwt" || !strings.HasSuffix(header.KeyID, strings.ToLower(string(algorithm))) {
			t.Errorf("%s: the header is %+v", algorithm, header)
		}
	}
}

func TestATokenWithoutBoundsIsNotSigned(t *testing.T) {
	i := newHouse(t).server()
	for name, spoil := range map[string]func(*issuer.Token){
		"no subject":             func(o *issuer.Token) { o.Subject = "" },
		"no ID":                  func(o *issuer.Token) { o.ID = "" },
		"no audience":            func(o *issuer.Token) { o.Audience = nil },
		"an empty audience":      func(o *issuer.Token) { o.Audience = []string{"a", ""} },
		"no time":                func(o *issuer.Token) { o.TTL = 0 },
		"too long":               func(o *issuer.Token) { o.TTL = issuer.MaxTTL + time.Second },
		"an algorithm of no one": func(o *issuer.Token) { o.Algorithm = "EdDSA" },
	} {
		asked := order()
		spoil(&asked)
		if _, err := i.Sign(t.Context(), asked); err == nil {
			t.Errorf("%s: it was signed", name)
		}
	}
	for _, name := range issuer.Registered() {
		asked := order()
		asked.Claims = map[string]any{name: "mine"}
		if _, err := i.Sign(t.Context(), asked); err == nil {
			t.Errorf("claim %s was overridden", name)
		}
	}
}

// Whatever kind of target asks: a token for us that is none of our own types would be evidence, of whoever holds it.
func TestATokenForUsIsSignedOnlyWithATypeOfOurs(t *testing.T) {
	cfg := newHouse(t).config()
	cfg.Server = "https://desk.example"
	i := issuer.New(cfg)
	for _, audience := range []string{cfg.URL, cfg.Server} {
		asked := order()
		asked.Type, asked.Audience = "", []string{"sts.example.com", audience}
		if _, err := i.Sign(t.Context(), asked); err == nil {
			t.Errorf("a token for %s was signed", audience)
		}
		asked.Type = "at+jwt"
		if _, err := i.Sign(t.Context(), asked); err != nil {
			t.Error(err)
		}
	}
}

func TestServersOfOneStoreHaveTheSameKeysFromTheFirstRequest(t *testing.T) {
	h := newHouse(t)
	const servers = 4
	tokens := make([]secret.Text, servers)
	var all sync.WaitGroup
	for n := range servers {
		all.Go(func() { tokens[n] = sign(t, h.server(), order()) })
	}
	all.Wait()
	for _, token := range tokens[1:] {
		if keyOf(t, token) != keyOf(t, tokens[0]) {
			t.Error("two servers signed with different keys")
		}
	}
	if changes := h.shelf.changed(); len(changes) != 1 || changes[0].Signing != generationOf(keyOf(t, tokens[0])) {
		t.Errorf("the record says %+v", changes)
	}
}

func TestAGenerationIsNextThenSignsThenRetiresThenGoes(t *testing.T) {
	h := newHouse(t)
	i := h.server()
	before := sign(t, i, order())
	h.pass(issuer.Ahead)
	done, err := i.Rotate(t.Context(), issuer.Rotation{By: "anna"})
	if err != nil {
		t.Fatal(err)
	}
	first := generationOf(keyOf(t, before))
	after := sign(t, i, order())
	if generationOf(keyOf(t, after)) != done.Signing || done.Signing == first || done.Next == done.Signing {
		t.Errorf("rotated to %+v, signed with %s before and %s after", done, keyOf(t, before), keyOf(t, after))
	}
	published := func(generation string, want bool) {
		t.Helper()
		if got := strings.Contains(document(t, i, issuer.KeysPath), generation); got != want {
			t.Errorf("generation %s is published: %v, want %v", generation, got, want)
		}
	}
	for _, generation := range []string{first, done.Signing, done.Next} {
		published(generation, true)
	}
	h.pass(issuer.MaxTTL)
	published(first, true) // the longest token of the last moment has just expired
	h.pass(time.Hour)
	published(first, false)
	published(done.Signing, true)
	if changes := h.shelf.changed(); changes[1] != (issuer.Change{Signing: done.Signing, By: "anna"}) {
		t.Errorf("the record says %+v", changes)
	}
}

func TestTheNextKeysDoNotSignBeforeTheyWerePublishedForAWhile(t *testing.T) {
	h := newHouse(t)
	i := h.server()
	token := sign(t, i, order())
	_, err := i.Rotate(t.Context(), issuer.Rotation{By: "anna"})
	if !fault.Is(err, fault.Conflict) {
		t.Fatalf("got %v, want a conflict", err)
	}
	if again := sign(t, i, order()); keyOf(t, again) != keyOf(t, token) {
		t.Error("a refused rotation changed the key")
	}
	if issuer.MaxAge >= issuer.Ahead {
		t.Errorf("others may keep our keys for %s, and new ones sign after %s", issuer.MaxAge, issuer.Ahead)
	}
}

func TestWithdrawnKeysAreGoneAtOnce(t *testing.T) {
	h := newHouse(t)
	i := h.server()
	stolen := sign(t, i, order())
	if _, err := i.Rotate(t.Context(), issuer.Rotation{By: "anna", Withdraw: true}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(document(t, i, issuer.KeysPath), generationOf(keyOf(t, stolen))) {
		t.Error("the stolen key is still published")
	}
	if _, err := i.Verify(t.Context(), stolen, "JWT"); !errors.Is(err, issuer.ErrRejected) {
		t.Errorf("a token of a withdrawn key: %v", err)
	}
	if fresh := sign(t, i, order()); generationOf(keyOf(t, fresh)) == generationOf(keyOf(t, stolen)) {
		t.Error("the stolen key still signs")
	}
}

func TestAServerThatMeetsAKeyItDoesNotKnowLooksAtTheShelf(t *testing.T) {
	h := newHouse(t)
	one, two := h.server(), h.server()
	sign(t, one, order())
	sign(t, two, order())
	h.pass(issuer.Ahead)
	for range 2 { // so that two has never heard of the key that signs then
		sign(t, two, order())
		if _, err := one.Rotate(t.Context(), issuer.Rotation{}); err != nil {
			t.Fatal(err)
		}
		h.pass(issuer.Ahead - time.Minute)
		sign(t, two, order())
		h.pass(time.Minute)
	}
	if _, err := one.Rotate(t.Context(), issuer.Rotation{Withdraw: true}); err != nil {
		t.Fatal(err)
	}
	fresh := sign(t, one, order())
	if _, err := two.Verify(t.Context(), fresh, "JWT"); err != nil {
		t.Errorf("the other server: %v", err)
	}
	before := h.shelf.looks()
	stranger := sign(t, newHouse(t).server(), order())
	for range 1000 {
		if _, err := two.Verify(t.Context(), stranger, "JWT"); !errors.Is(err, issuer.ErrRejected) {
			t.Fatalf("a stranger's token: %v", err)
		}
	}
	if looks := h.shelf.looks() - before; looks > 1 {
		t.Errorf("1000 tokens of a stranger made %d looks at the store", looks)
	}
}

func TestVerifyTakesOurGoodTokensOnly(t *testing.T) {
	h := newHouse(t)
	i := h.server()
	token := sign(t, i, order())
	claims, err := i.Verify(t.Context(), token, "JWT")
	if err != nil || claims["sub"] != "role:deploy" {
		t.Fatalf("our own token: %v, %v", claims, err)
	}
	parts := strings.Split(token.Reveal(), ".")
	other := strings.Split(sign(t, i, issuer.Token{ID: "x", Subject: "admin", Audience: []string{"a"}, TTL: time.Hour}).Reveal(), ".")
	for name, bad := range map[string]string{
		"another payload":    parts[0] + "." + other[1] + "." + parts[2],
		"no signature":       parts[0] + "." + parts[1] + ".",
		"nothing":            "",
		"algorithm none":     "eyJhbGciOiJub25lIn0." + parts[1] + ".",
		"a token of no kind": "a.b.c",
	} {
		if _, err := i.Verify(t.Context(), secret.New(bad), "JWT"); !errors.Is(err, issuer.ErrRejected) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := i.Verify(t.Context(), token, "at+jwt"); !errors.Is(err, issuer.ErrRejected) {
		t.Errorf("another type: %v", err)
	}
	h.pass(time.Hour)
	if _, err := i.Verify(t.Context(), token, "JWT"); !errors.Is(err, issuer.ErrRejected) {
		t.Errorf("expired: %v", err)
	}
}

func TestWhenTheStoreIsDownTheDocumentsStayAndNothingIsSigned(t *testing.T) {
	h := newHouse(t)
	i := h.server()
	sign(t, i, order())
	known := document(t, i, issuer.KeysPath)
	down := errors.New("the store is down")
	h.shelf.fail(down)
	h.pass(time.Hour)
	if document(t, i, issuer.KeysPath) != known {
		t.Error("the documents changed")
	}
	if _, err := i.Sign(t.Context(), order()); !errors.Is(err, down) {
		t.Errorf("sign with keys that nobody can vouch for: %v", err)
	}
	if _, err := h.server().Documents(t.Context()); !errors.Is(err, down) {
		t.Errorf("documents of a server that never saw them: %v", err)
	}
}

func TestNothingPrintsAPrivateKey(t *testing.T) {
	h := newHouse(t)
	i := h.server()
	sign(t, i, order())
	said := fmt.Sprintf("%v %+v %#v %s", i, i, i, h.shelf.sealed)
	for _, word := range []string{"PRIVATE", "Primes", "PrivateKey"} {
		if strings.Contains(said, word) {
			t.Errorf("printing an issuer shows %q", word)
		}
	}
}
