package oidc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

// FuzzToken changes a good token: whatever is accepted must be what was signed.
func FuzzToken(f *testing.F) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	issuer, err := testissuer.New(testissuer.Options{Now: func() time.Time { return now }, Algorithm: "EdDSA", URL: "https://issuer.example"})
	if err != nil {
		f.Fatal(err)
	}
	v, err := New(Config{Name: "x", URL: issuer.URL(), Audience: "a", Now: func() time.Time { return now }, Floor: time.Minute})
	if err != nil {
		f.Fatal(err)
	}
	k := issuer.Key()
	v.keys.current.Store(&snapshot{
		keys:      map[string]*key{k.ID: {public: k.Signer.Public(), algs: mustSuit(f, k.Signer.Public())}},
		fetchedAt: now, dueAt: now.Add(time.Hour), staleAt: now.Add(time.Hour), deadAt: now.Add(time.Hour),
	})
	v.keys.begun = now // the floor keeps the fuzzer off the network
	good := issuer.Token(map[string]any{"sub": "s", "aud": "a"})
	part := strings.Split(good, ".")
	signature, _ := base64.RawURLEncoding.DecodeString(part[2])
	header, _ := base64.RawURLEncoding.DecodeString(part[0])
	payload, _ := base64.RawURLEncoding.DecodeString(part[1])
	f.Add(header, payload, signature, "")
	f.Add([]byte(`{"alg":"none","kid":"k"}`), payload, []byte("x"), "")
	f.Add(header, payload, signature, good)
	f.Add(header, payload, signature, good+"\n")
	f.Add([]byte(`{"alg":"HS256","kid":"`+k.ID+`","crit":["b64"],"b64":false}`), payload, signature, "..")
	f.Fuzz(func(t *testing.T, header, payload, signature []byte, token string) {
		if token == "" {
			token = testissuer.Compact(header, payload, signature)
		}
		p, err := v.Verify(t.Context(), secret.New(token))
		if err == nil && token != good {
			t.Fatalf("%q is accepted as %+v", token, p)
		}
		if err != nil && !errors.Is(err, identity.ErrRejected) && !errors.Is(err, ErrUnknownKey) {
			t.Fatalf("%q is neither rejected nor of an unknown key: %v", token, err)
		}
	})
}

func mustSuit(f *testing.F, public any) (algs []jose.SignatureAlgorithm) {
	algs, err := suits(public)
	if err != nil {
		f.Fatal(err)
	}
	return algs
}

// FuzzClaims compares the strict reader with the standard library's: what ours accepts both read alike, and the
// rules for claims hold for every principal.
func FuzzClaims(f *testing.F) {
	now := time.Unix(1_772_366_400, 0)
	v, err := New(Config{Name: "x", URL: "https://i.example", Audience: "a", Now: func() time.Time { return now }})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"iss":"https://i.example","aud":"a","sub":"s","iat":1772366400,"exp":1772366700.5,"nbf":1,"jti":"j","l":[1,1.5,null,{"a":"\u00e9"}]}`))
	f.Add([]byte(`{"iss":"https://i.example","aud":["a"],"sub":"s","iat":1772366400,"exp":1772366700,"sub":"t"}`))
	f.Add([]byte(`{"a":-0,"b":1e5,"c":123456789012345678901234567890,"d":"\ud83d\ude00"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		claims, err := parseClaims(payload)
		if err != nil {
			if !errors.Is(err, identity.ErrRejected) {
				t.Fatal(err)
			}
			return
		}
		var theirs map[string]any
		dec := json.NewDecoder(bytes.NewReader(payload))
		dec.UseNumber()
		if err := dec.Decode(&theirs); err != nil {
			t.Fatalf("the standard library does not read %q: %v", payload, err)
		}
		if !reflect.DeepEqual(numbers(claims), numbers(theirs)) {
			t.Fatalf("%q is read as %v and as %v", payload, claims, theirs)
		}
		p, err := v.principal(claims)
		if err != nil {
			return
		}
		if len(p.Subject) == 0 || len(p.Subject) > 255 || strings.ContainsAny(p.Subject, "\x00\n\r\u202e\u2066") ||
			!p.ExpiresAt.After(now.Add(-time.Minute)) || p.IssuedAt.After(now.Add(time.Minute)) {
			t.Fatalf("accepted: %+v", p)
		}
	})
}

// numbers makes whole numbers of both readers alike.
func numbers(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, member := range v {
			out[name] = numbers(member)
		}
		return out
	case []any:
		out := []any{}
		for _, element := range v {
			out = append(out, numbers(element))
		}
		return out
	case json.Number:
		if whole, err := v.Int64(); err == nil {
			return whole
		}
	}
	return value
}

func FuzzDiscovery(f *testing.F) {
	f.Add([]byte(`{"issuer":"https://i.example","jwks_uri":"https://i.example/keys"}`))
	f.Add([]byte(`{"issuer":"https://i.example","jwks_uri":"http://127.0.0.1:1/keys"}`))
	f.Add([]byte(`{"issuer":"https://i.example","jwks_uri":"https://[::1%25lo]/keys"}`))
	issuer, err := checkURL("https://i.example")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		discovery, err := parseDiscovery(text, issuer, "https://i.example")
		if err != nil {
			return
		}
		u, err := url.Parse(discovery.KeysAt)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || isLoopback(u.Hostname()) {
			t.Fatalf("%q leads to %q", text, discovery.KeysAt)
		}
	})
}

// published returns a key set of one key.
func published(k *testissuer.Key) []byte {
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: k.Signer.Public(), KeyID: k.ID, Algorithm: k.Algorithm, Use: "sig"}}})
	if err != nil {
		panic(err)
	}
	return text
}

func FuzzKeySet(f *testing.F) {
	for _, algorithm := range []string{"RS256", "ES256", "ES512", "EdDSA"} {
		k, err := testissuer.NewKey("k", algorithm)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(published(k))
	}
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"a"},{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"b"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"c"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, _, err := parseKeySet(text, useSignature)
		if err != nil {
			return
		}
		for id, k := range keys {
			if id == "" || len(id) > maxKeyID || len(k.algs) == 0 || k.fits("none") || k.fits("HS256") || k.fits("") {
				t.Fatalf("%q gives key %q %+v", text, id, k)
			}
			if _, err := suits(k.public); err != nil {
				t.Fatalf("%q gives an unfit key: %v", text, err)
			}
			// A key that is used must not make the verifier panic.
			token := testissuer.Compact([]byte(`{"alg":"`+string(k.algs[0])+`","kid":"x"}`), []byte(`{}`), make([]byte, 64))
			p, _ := split(token)
			h, err := parseHeader(p.protected)
			if err != nil || h.prepare() != nil {
				t.Fatal(err)
			}
			if _, err := open(p, h, k); err == nil {
				t.Fatalf("a signature of zeros is accepted under %q", text)
			}
		}
	})
}
