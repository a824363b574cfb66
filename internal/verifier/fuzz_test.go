package verifier

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

// FuzzTheIssuerThatATokenNames holds the choice of an issuer to what a reader of another make sees in the same claims:
// where that one sees an issuer that the choice does not see, the token is refused, and never given to somebody else.
func FuzzTheIssuerThatATokenNames(f *testing.F) {
	for _, seed := range []string{
		`{"iss":"https://a","sub":"x"}`, `{"iss":"https://a","iss":"https://b"}`, `{"\u0069ss":"https:\/\/a"}`, `{"ISS":"https://a","iss":"https://b"}`,
		`{"iss":["https://a"]}`, `{"iss":null,"sub":"spiffe://a/b"}`, `{"sub":"spiffe://a?b/c"}`, `{"sub":"spiffe:///"}`, `{"iss":"https://a"}{}`, "\xef\xbb\xbf{}",
		`{"iss":"https://a\ud800"}`, strings.Repeat(`{"iss":`, 200) + `1` + strings.Repeat(`}`, 200),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		urls, err := claimedIssuers("e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".x")
		if (err == nil) != (len(urls) > 0) {
			t.Fatalf("%q: %q, %v", payload, urls, err)
		}
		if err != nil {
			return
		}
		var seen map[string]any
		if err := json.Unmarshal([]byte(payload), &seen); err != nil {
			t.Fatalf("%q is claims here and nowhere else: %v", payload, err)
		}
		issuer, _ := seen["iss"].(string)
		if issuer != "" && urls[0] != issuer {
			t.Fatalf("%q names %q, and is taken to %q", payload, issuer, urls)
		}
		if subject, _ := seen["sub"].(string); issuer == "" && (len(urls) != 1 || !strings.HasPrefix(subject+"/", urls[0]+"/")) {
			t.Fatalf("%q is of %q, and is taken to %q", payload, subject, urls)
		}
	})
}
