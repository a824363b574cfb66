package identity_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"testing"

	"github.com/daypass/daypass/identity"
)

// claims are of every kind that evidence has, and some that it should not.
func claims() map[string]any {
	return map[string]any{
		"ref": "refs/heads/main", "empty": "", "quoted": `a "b" \\ c`, "markup": "<a>&amp;</a>", "umlaut": "Bär", "bell": "\a\u007f",
		"separators": "\u2028\u2029", "broken": "a\xffb", "": "no name", "a\"b": true, "whole": int64(math.MinInt64), "fraction": json.Number("1.50"),
		"float": 0.1, "off": false, "nothing": nil, "list": []any{"a", int64(1), nil, []any{}}, "no list": []any(nil),
		"act": map[string]any{"sub": "robot", "act": map[string]any{}}, "no object": map[string]any(nil), "texts": []string{"a", "<"},
	}
}

func TestClaimsAreWrittenAsEncodingJSONWritesThem(t *testing.T) {
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(claims()); err != nil {
		t.Fatal(err)
	}
	got, err := identity.EncodeClaims(claims())
	if err != nil || string(got)+"\n" != want.String() {
		t.Errorf("got %s, %v\nwant %s", got, err, &want)
	}
	if none, err := identity.EncodeClaims(nil); err != nil || string(none) != "null" {
		t.Errorf("no claims are %s, %v", none, err)
	}
}

func TestClaimsThatHaveNoJSONAreAnError(t *testing.T) {
	for _, value := range []any{math.NaN(), func() {}, []any{math.Inf(1)}, map[string]any{"a": make(chan int)}} {
		if text, err := identity.EncodeClaims(map[string]any{"a": value}); err == nil {
			t.Errorf("%T became %s", value, text)
		}
	}
}

func FuzzClaimsComeBackAsTheyWere(f *testing.F) {
	text, err := identity.EncodeClaims(claims())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"a":{"b":["\u00e9\ud83d\ude00",1e3,9223372036854775808]},"<":">"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		before, err := identity.ParseClaims(text)
		if err != nil {
			return
		}
		again, err := identity.EncodeClaims(before)
		if err != nil {
			t.Fatal(err)
		}
		after, err := identity.ParseClaims(again)
		if err != nil || !maps.EqualFunc(before, after, func(a, b any) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("%s came back as %s, %v", text, again, err)
		}
	})
}
