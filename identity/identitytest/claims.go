package identitytest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/secret"
)

func testClaims(t *testing.T, start func(*testing.T) *Fixture) {
	f := start(t)
	f.accept(t, f.token(nil, nil))
	ours := f.Audience
	for name, claims := range map[string]map[string]any{
		"no audience":                        {"aud": absent},
		"another audience":                   {"aud": "https://evil.example"},
		"an empty audience":                  {"aud": ""},
		"an empty list of audiences":         {"aud": []any{}},
		"an audience that is null":           {"aud": nil},
		"an audience that is a number":       {"aud": 1},
		"an audience inside an object":       {"aud": map[string]any{"aud": ours}},
		"an audience inside two lists":       {"aud": []any{[]any{ours}}},
		"our audience and another":           {"aud": []any{ours, "https://other.example"}},
		"another audience and ours":          {"aud": []any{"https://other.example", ours}},
		"our audience twice":                 {"aud": []any{ours, ours}},
		"an audience with one slash more":    {"aud": ours + "/"},
		"an audience in another case":        {"aud": strings.ToUpper(ours)},
		"an audience that begins like ours":  {"aud": ours + ".evil.example"},
		"audiences in one text":              {"aud": ours + " https://other.example"},
		"no subject":                         {"sub": absent},
		"an empty subject":                   {"sub": ""},
		"a subject that is a number":         {"sub": 7},
		"a subject in a list":                {"sub": []any{"a"}},
		"a subject of 256 bytes":             {"sub": f.subjectOf(256)},
		"a subject of 86 letters, 258 bytes": {"sub": strings.Repeat("€", 86)},
		"a token ID that is a number":        {"jti": 7},
		"a security event":                   {"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}},
		"a token bound to a key":             {"cnf": map[string]any{"jkt": "x"}},
	} {
		t.Run(name+" is rejected", func(t *testing.T) { f.reject(t, f.token(nil, claims)) })
	}
	testIssuerNames(t, f)
	for _, r := range "\x00\n\r\t\x1b\x7f\u0085\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff" {
		t.Run(fmt.Sprintf("a subject with %U is rejected", r), func(t *testing.T) {
			f.reject(t, f.token(nil, map[string]any{"sub": f.subject() + string(r) + "/orders"}))
		})
	}
}

func testIssuerNames(t *testing.T, f *Fixture) {
	for name, claims := range map[string]map[string]any{
		"no issuer":                       {"iss": absent},
		"another issuer":                  {"iss": "https://evil.example"},
		"an issuer with one slash more":   {"iss": f.URL + "/"},
		"an issuer in another case":       {"iss": strings.ToUpper(f.URL)},
		"an issuer that begins like ours": {"iss": f.URL + ".evil.example"},
		"an issuer in a list":             {"iss": []any{f.URL}},
	} {
		t.Run(name+" is rejected", func(t *testing.T) {
			need(t, !f.Issuerless, "tell issuers by their names: others do")
			f.reject(t, f.token(nil, claims))
		})
	}
}

func testTimes(t *testing.T, start func(*testing.T) *Fixture) {
	f := start(t)
	now := f.Now().Unix()
	leeway, age := int64(f.Leeway/time.Second), int64(f.MaxAge/time.Second)
	for name, claims := range map[string]map[string]any{
		"no exp":                       {"exp": absent},
		"no iat":                       {"iat": absent},
		"exp that is null":             {"exp": nil},
		"exp in a text":                {"exp": fmt.Sprint(now + 300)},
		"iat in a text":                {"iat": fmt.Sprint(now)},
		"nbf in a text":                {"nbf": fmt.Sprint(now)},
		"nbf that is null":             {"nbf": nil},
		"exp that is true":             {"exp": true},
		"exp at the end of the leeway": {"iat": now - 300, "nbf": now - 300, "exp": now - leeway},
		"exp long ago":                 {"iat": now - 600, "nbf": now - 600, "exp": now - 300},
		"exp below zero":               {"exp": -1},
		"exp of zero":                  {"exp": 0},
		"exp in milliseconds":          {"exp": (now + 300) * 1000},
		"exp beyond all time":          {"exp": 1e300},
		"exp in ten years":             {"exp": now + 10*365*86400},
		"exp before iat":               {"iat": now + 10, "exp": now + 5},
		"iat in milliseconds":          {"iat": now * 1000},
		"iat beyond the leeway":        {"iat": now + leeway + 1, "nbf": absent},
		"nbf beyond the leeway":        {"nbf": now + leeway + 1},
		"iat beyond the age":           {"iat": now - age - leeway - 1, "nbf": absent, "exp": now + 1},
		"iat of zero":                  {"iat": 0},
	} {
		t.Run(name+" is rejected", func(t *testing.T) { f.reject(t, f.token(nil, claims)) })
	}
	for name, claims := range map[string]map[string]any{
		"exp inside the leeway":        {"iat": now - 300, "exp": now - leeway + 1},
		"iat at the end of the leeway": {"iat": now + leeway, "nbf": absent},
		"nbf at the end of the leeway": {"nbf": now + leeway},
		"nbf long before iat":          {"nbf": now - 3000},
		"iat at the end of the age":    {"iat": now - age, "nbf": absent, "exp": now + 1},
	} {
		t.Run(name+" is good", func(t *testing.T) { f.accept(t, f.token(nil, claims)) })
	}
	t.Run("a token that was good expires", func(t *testing.T) {
		token := f.token(nil, nil)
		f.accept(t, token)
		f.Advance(300*time.Second + f.Leeway)
		f.reject(t, token)
	})
}

func testIssuers(t *testing.T, start func(*testing.T) *Fixture) {
	t.Run("with an issuer that is down nobody can tell", func(t *testing.T) {
		f := start(t)
		need(t, f.SetDown != nil, "take its issuer down")
		token := f.token(nil, nil)
		f.SetDown(true)
		f.cannotTell(t, token)
		f.reject(t, "no token at all")
		f.SetDown(false)
		f.Advance(f.Floor)
		f.accept(t, token)
	})
	t.Run("with documents that are too large nobody can tell", func(t *testing.T) {
		f := start(t)
		need(t, f.Oversize != nil, "send large documents")
		f.Oversize()
		f.cannotTell(t, f.token(nil, nil))
	})
	t.Run("a redirect to another host is not followed", func(t *testing.T) {
		f := start(t)
		need(t, f.Redirect != nil && f.Foreign != nil, "redirect")
		f.Redirect()
		f.cannotTell(t, f.under(f.Foreign()))
		f.cannotTell(t, f.token(nil, nil))
	})
	t.Run("a document about another issuer is not used", func(t *testing.T) {
		f := start(t)
		need(t, f.Mismatch != nil, "speak for another issuer")
		f.Mismatch()
		f.cannotTell(t, f.token(nil, nil))
	})
	t.Run("a caller that gives up does not make a good token bad", func(t *testing.T) {
		f := start(t)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := f.Verifier.Verify(ctx, secret.New(f.token(nil, nil))); errors.Is(err, identity.ErrRejected) {
			t.Errorf("got ErrRejected: %v", err)
		}
		f.Advance(f.Floor)
		f.accept(t, f.token(nil, nil))
	})
}
