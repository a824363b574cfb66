package httpapi_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
)

// TestAnAccessTokenBuysNoLongerOne makes sure that evidence is shown again one day: whoever got hold of a workload's key
// could otherwise go on for ever.
func TestAnAccessTokenBuysNoLongerOne(t *testing.T) {
	r := newRig(t, nil)
	h := r.holder(t)
	exchange := func(token string) api.TokenAnswer {
		return given(t, r.post(t, "/oauth/token", fields(token, nil), h.proof(t, "POST", "/oauth/token", "")))
	}
	expires := func(token string) int64 {
		var claims struct {
			Expires int64 `json:"exp"`
		}
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
		if err == nil {
			err = json.Unmarshal(payload, &claims)
		}
		if err != nil {
			t.Fatal(err)
		}
		return claims.Expires
	}
	first := exchange(r.token("worker")).AccessToken
	end := expires(first)
	second := first
	for range 2 {
		<-time.After(time.Until(time.Unix(time.Now().Unix()+1, 0))) // tokens count in whole seconds
		second = exchange(second).AccessToken
		if got := expires(second); got > end {
			t.Errorf("it expires %d s after the token that it was given for", got-end)
		}
	}
	if second == first {
		t.Error("nothing was made")
	}
}
