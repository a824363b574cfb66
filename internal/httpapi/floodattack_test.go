package httpapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/testissuer"
)

// Every way to be refused makes a line of the log, for strangers too. As many requests as one likes do not make as many lines,
// none of them is an error, and none hides what is refused for another reason.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	const requests = 300
	other, err := testissuer.Start(testissuer.Options{Now: time.Now, Algorithm: "ES256"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	r := newRig(t, nil)
	now := time.Now().Unix()
	unknownKey := other.Token(map[string]any{"iss": r.issuer.URL(), "aud": r.URL(), "sub": "x", "iat": now, "exp": now + 300})
	form := "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token_type=urn:ietf:params:oauth:token-type:jwt&subject_token="
	media := "Content-Type: application/x-www-form-urlencoded"
	for name, send := range map[string]func() answer{
		"a token that is none":       func() answer { return r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer("not.a.token")) },
		"a key that nobody knows":    func() answer { return r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer(unknownKey)) },
		"a lease of nobody":          func() answer { return r.ask(t, "GET", "/v1/leases/x", "", bearer("dpl_x")) },
		"no evidence":                func() answer { return r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`) },
		"an exchange of nothing":     func() answer { return r.ask(t, "POST", "/oauth/token", form+"not.a.token", media) },
		"an exchange of that key":    func() answer { return r.ask(t, "POST", "/oauth/token", form+unknownKey, media) },
		"an introspection by none":   func() answer { return r.ask(t, "POST", "/oauth/introspect", "token=x", media, bearer("not.a.token")) },
		"a device that is not known": func() answer { return r.ask(t, "POST", "/v1/devices/enrol", `{}`) },
	} {
		before, begun := len(r.log.String()), time.Now()
		for range requests {
			if got := send(); got.status < 400 {
				t.Fatalf("%s: %d %s", name, got.status, got.body)
			}
		}
		lines := strings.Split(r.log.String()[before:], "\n")
		codes := map[string]int{}
		for _, line := range lines {
			if _, rest, ok := strings.Cut(line, "code="); ok {
				code, _, _ := strings.Cut(rest, " ")
				codes[code]++
			}
			if strings.Contains(line, "level=ERROR") {
				t.Fatalf("%s: an error: %s", name, line)
			}
		}
		most := 100 + int(time.Since(begun)/time.Second+1)
		for code, n := range codes {
			if n > most {
				t.Errorf("%s: %d requests made %d lines of code %s, more than %d", name, requests, n, code, most)
			}
		}
	}
	// What is refused for another reason has its line: nobody hides in the crowd.
	got := r.ask(t, "POST", "/v1/leases", `{"role":"no-such-role"}`, bearer(r.token("reader")))
	if line := lineOf(r.log.String(), got.problem(t).Instance); !strings.Contains(line, "code=denied") {
		t.Errorf("a denial has the line %q", line)
	}
}

// Strangers who flood one route do not hide who tries tokens at another, and who comes after them tells how many they were.
func TestAFloodHidesNeitherAnotherDoorNorItsOwnEnd(t *testing.T) {
	r := newRig(t, nil)
	for deadline := time.Now().Add(time.Minute); ; { // until one has no line
		got := r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer("not.a.token"))
		if lineOf(r.log.String(), got.problem(t).Instance) == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("each of a flood of refusals has its line")
		}
	}
	got := r.ask(t, "GET", "/v1/leases", "", bearer("not.a.token"))
	line := lineOf(r.log.String(), got.problem(t).Instance)
	if !strings.Contains(line, "code=unauthenticated") || !strings.Contains(line, "unlogged=1") {
		t.Errorf("who tries another route has the line %q, want code=unauthenticated and unlogged=1", line)
	}
}
