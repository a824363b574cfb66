package cloud_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
)

// service answers the nth request with the nth status, and the last one from then on.
func service(t *testing.T, statuses ...int) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := int(asked.Add(1))
		w.WriteHeader(statuses[min(n, len(statuses))-1])
		_, _ = w.Write([]byte(`{"error":{"code":"Reason","message":"because"}}`))
	}))
	t.Cleanup(server.Close)
	return server, &asked
}

func TestARequestIsTriedAgainWhereThatMayHelp(t *testing.T) {
	for name, c := range map[string]struct {
		statuses []int
		asked    int32
		status   int
		notDone  bool // it is certain that nothing was done
	}{
		"it is well":                        {[]int{200}, 1, 200, false},
		"it is busy and then well":          {[]int{429, 200}, 2, 200, false},
		"it fails and is then well":         {[]int{503, 500, 200}, 3, 200, false},
		"it fails for good":                 {[]int{503}, 4, 503, false},
		"it says no":                        {[]int{403}, 1, 403, true},
		"it is busy and says no":            {[]int{429, 403}, 2, 403, true},
		"it fails, perhaps done, and no":    {[]int{500, 403}, 2, 403, false},
		"it has something of that name":     {[]int{409}, 1, 409, false},
		"it leads elsewhere":                {[]int{302}, 1, 302, false},
		"it is busy for as long as we wait": {[]int{429}, 4, 429, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, asked := service(t, c.statuses...)
			status, err := cloud.NewCaller(nil, time.Now).Do(t.Context(), cloud.Request{URL: server.URL, Body: map[string]any{}}, nil)
			if status != c.status || asked.Load() != c.asked || (err == nil) != (c.status == 200) {
				t.Errorf("status %d after %d requests, %v", status, asked.Load(), err)
			}
			if errors.Is(cloud.Refused(err), target.ErrNotDone) != c.notDone {
				t.Errorf("whether nothing was done: %v", err)
			}
			if err != nil && c.status >= 500 != errors.Is(err, target.ErrUnreachable) {
				t.Errorf("whether it cannot be reached: %v", err)
			}
		})
	}
}

// broken is a bearer without a token.
type broken struct{ err error }

func (b broken) Text(context.Context) (secret.Text, error) { return secret.Text{}, b.err }
func (b broken) Refused()                                  {}

// What the service of tokens answers is no answer to the request: a manager that is gone is not a principal that is gone.
func TestAnAnswerAboutTheManagerIsNoAnswer(t *testing.T) {
	server, asked := service(t, 200)
	_, err := cloud.NewCaller(nil, time.Now).Do(t.Context(), cloud.Request{URL: server.URL, Bearer: broken{&cloud.StatusError{Status: http.StatusNotFound}}}, nil)
	if err == nil || cloud.Absent(err) == nil || cloud.IsStatus(err, http.StatusNotFound) || asked.Load() != 0 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}
	if !errors.Is(cloud.Refused(err), target.ErrNotDone) {
		t.Errorf("nothing was asked, and this is not said: %v", err)
	}
	_, err = cloud.NewCaller(nil, time.Now).Do(t.Context(), cloud.Request{URL: server.URL, Bearer: broken{target.ErrUnreachable}}, nil)
	if !errors.Is(err, target.ErrUnreachable) {
		t.Errorf("the cause is lost: %v", err)
	}
}

// A manager's token is asked for once while it is good, and again when it ends or was refused.
func TestABorrowedTokenIsAskedForWhenItMustBe(t *testing.T) {
	now, asked := time.Unix(1_800_000_000, 0), 0
	b := cloud.Borrow(func(context.Context) (cloud.Token, error) {
		asked++
		return cloud.Token{Text: secret.New("t"), Expires: now.Add(10 * time.Minute)}, nil
	}, func() time.Time { return now })
	for i, step := range []struct {
		pass    time.Duration
		refused bool
		asked   int
	}{
		{0, false, 1}, {8 * time.Minute, false, 1}, {2 * time.Minute, false, 2},
		{time.Second, true, 2}, // it is fresh: another would be the same
		{time.Minute, true, 3}, {time.Minute, false, 3},
	} {
		now = now.Add(step.pass)
		if step.refused {
			b.Refused()
		}
		if _, err := b.Text(t.Context()); err != nil || asked != step.asked {
			t.Errorf("step %d: asked %d times, want %d (%v)", i, asked, step.asked, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	blocked := cloud.Borrow(func(ctx context.Context) (cloud.Token, error) { return cloud.Token{}, ctx.Err() }, time.Now)
	if _, err := blocked.Text(ctx); err == nil {
		t.Error("a dead context got a token")
	}
}

// rights are those of a test.
type rights struct {
	Name string `json:"name"`
}

func (r rights) Validate() error {
	if r.Name == "" {
		return target.Wrong("name", "want one")
	}
	return nil
}

func TestRightsAreReadStrictly(t *testing.T) {
	if got, err := cloud.ReadRights[rights]([]byte(` {"name":"x"} `)); err != nil || got.Name != "x" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"", "null", `{}`, `{"name":"x"}{}`, `{"name":"x"}]`, `{"name":"x","more":1}`, `[1]`, `"x"`} {
		if _, err := cloud.ReadRights[rights]([]byte(text)); err == nil {
			t.Errorf("%q: taken", text)
		}
	}
}

func TestEndpointsThatTokensMustNotGoToAreRefused(t *testing.T) {
	for _, bad := range []string{"http://example.com", "ftp://example.com", "https://u@example.com", "https://example.com/", "https://example.com?x", "example.com", "http://localhost:80"} {
		if cloud.CheckEndpoint("sts", bad) == nil {
			t.Errorf("%s: taken", bad)
		}
	}
	for _, good := range []string{"", "https://example.com", "https://example.com/path", "http://127.0.0.1:80", "http://[::1]:80"} {
		if err := cloud.CheckEndpoint("sts", good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}

func TestNobodyBehindALeaseHasTheTextOfAnother(t *testing.T) {
	seen := map[string]bool{}
	for _, subject := range []string{"a", "a=20b", "a b", "a  b", "a\nb", strings.Repeat("x", 500), strings.Repeat("x", 501), "ended=2020-01-01T00:00:00Z", "*", ""} {
		text := target.Holder{Issuer: "github", Subject: subject}.Text(190)
		if len(text) > 190 || seen[text] || strings.ContainsAny(text, " \n*") {
			t.Errorf("%.20q is %q", subject, text)
		}
		seen[text] = true
	}
}
