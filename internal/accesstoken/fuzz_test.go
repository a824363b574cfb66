package accesstoken_test

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/secret"
)

// FuzzNoTextIsAnAccessToken shows header, payload and signature of strangers: what claims to be ours is rejected, and what
// we made is read only as it was made.
func FuzzNoTextIsAnAccessToken(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	open, _ := desk(f, &now)
	tokens := open(ours)
	good, made, err := tokens.Mint(f.Context(), worker(), accesstoken.Binding{Key: "thumb"}, time.Time{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(`{"typ":"at+jwt","alg":"none"}`, `{"iss":"`+ours+`","cnf":{"jkt":"thumb"}}`, "")
	f.Add(`{"typ":"AT+JWT","alg":"ES256","kid":"x"}`, `{"iss":"https://evil.example","iss":"`+ours+`"}`, "AAAA")
	f.Add(`{"TYP":"at+jwt"}`, `{"ISS":"`+ours+`"}`, "x.y")
	f.Fuzz(func(t *testing.T, header, payload, signature string) {
		encode := base64.RawURLEncoding.EncodeToString
		for _, text := range []string{encode([]byte(header)) + "." + encode([]byte(payload)) + "." + signature, good.Reveal() + signature} {
			read, err := tokens.Read(t.Context(), secret.New(text))
			if ours := tokens.Ours(secret.New(text)); err == nil && (!ours || read.ID != made.ID || read.Binding != made.Binding) {
				t.Errorf("%q is read as %+v", text, read)
			}
		}
	})
}
