package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/secret"
)

// wire is a transport that answers from a handler, so that tests in a bubble touch no network.
type wire struct{ http.Handler }

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	recorder.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.ServeHTTP(recorder, r)
	return recorder.Result(), nil
}

// dial is a client of a server that gives no access tokens.
func dial(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	plain := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/oauth-authorization-server" {
			http.NotFound(w, r)
			return
		}
		h(w, r)
	}
	return newClient(t, client.Options{URL: "https://daypass.example.com", HTTP: &http.Client{Transport: wire{http.HandlerFunc(plain)}},
		Token: client.StaticToken(secret.New("evidence"))})
}

func newClient(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func writeProblem(w http.ResponseWriter, p api.Problem) {
	w.Header().Set("Content-Type", api.MediaProblem)
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// acquired is a good answer to an acquisition for a life.
func acquired(life time.Duration) api.Acquired {
	now := time.Now()
	return api.Acquired{
		Lease: api.Lease{ID: "abcdefghij2345abcdef", Role: "orders", State: "active", CreatedAt: api.At(now),
			ExpiresAt: api.At(now.Add(life)), RenewableUntil: api.At(now.Add(10 * life))},
		LeaseToken: "lease-token",
		Credential: api.Credential{Type: "postgres", Fields: map[string]any{"username": "dp_x", "password": "canary",
			"port": 5432, "tls": true, "brand_new": "canary", "list": []string{"canary"}, "url": "postgres://dp_x:canary@db"}},
		Receipt: "receipt",
	}
}

func TestURLsThatWouldLeakTokensAreRefused(t *testing.T) {
	for _, good := range []string{"https://daypass.example.com", "https://h:8420/prefix/", "http://127.0.0.1:1", "http://localhost", "http://[::1]:8420", "unix:///run/x.sock"} {
		if _, err := client.New(client.Options{URL: good}); err != nil {
			t.Errorf("%s is refused: %v", good, err)
		}
	}
	for _, bad := range []string{"", "daypass.example.com", "http://daypass.example.com", "http://127.0.0.1.example.com", "http://10.0.0.1",
		"https://user:pass@h", "https://h?x=1", "https://h#x", "ftp://h", "unix://run/x.sock", "unix:run", "https://", "://"} {
		_, err := client.New(client.Options{URL: bad})
		if err == nil {
			t.Errorf("%q is accepted", bad)
		} else if strings.Contains(err.Error(), "pass@") {
			t.Errorf("%q: the error shows the password: %v", bad, err)
		}
	}
}

func TestAcquireHidesEverySecretField(t *testing.T) {
	c := dial(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer evidence" || len(r.Header.Get("Idempotency-Key")) < 32 {
			t.Errorf("headers are %v", r.Header)
		}
		writeJSON(w, http.StatusCreated, acquired(time.Minute))
	})
	lease, err := c.Acquire(t.Context(), api.AcquireRequest{Role: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprintf("%v %+v %#v %v %s", lease.Credential, lease.Credential, lease.Credential, lease.Token(), lease.Token())
	if strings.Contains(shown, "canary") || strings.Contains(shown, "lease-token") {
		t.Errorf("a secret is printed: %s", shown)
	}
	got := lease.Credential
	if got.Secret("password").Reveal() != "canary" || got.Secret("url").Reveal() == "" || got.Public("username") != "dp_x" ||
		got.Public("port") != "5432" || got.Secret("port").Reveal() != "5432" || got.Public("password") != "" || got.Has("absent") {
		t.Errorf("fields are wrong: %v", got.Names())
	}
	for _, name := range []string{"brand_new", "list", "password", "url"} {
		if !got.IsSecret(name) {
			t.Errorf("%s is not secret", name)
		}
	}
	if want := "brand_new list password port tls url username"; strings.Join(got.Names(), " ") != want {
		t.Errorf("names are %v, want %s", got.Names(), want)
	}
}

func TestProblemsArriveAsErrors(t *testing.T) {
	c := dial(t, func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, api.Problem{Status: 403, Code: "denied", Detail: "no policy permits it", DecisionID: "d1", Instance: "r1"})
	})
	_, err := c.Acquire(t.Context(), api.AcquireRequest{Role: "orders"})
	problem, ok := errors.AsType[*api.Problem](err)
	if !ok || problem.Code != "denied" || problem.DecisionID != "d1" || problem.Instance != "r1" {
		t.Fatalf("got %v", err)
	}
	if want := `acquire role "orders": no policy permits it (denied)`; err.Error() != want {
		t.Errorf("text is %q, want %q", err, want)
	}
}

func TestAnswersThatAreNotOursAreNamed(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"http_502": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) },
		"http_404": func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, 404, map[string]string{"code": "not_found"})
		},
	} {
		_, err := dial(t, h).Status(t.Context())
		if problem, ok := errors.AsType[*api.Problem](err); !ok || problem.Code != name {
			t.Errorf("%s: got %v", name, err)
		}
	}
	_, err := dial(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"lease": "canary`) }).
		Acquire(t.Context(), api.AcquireRequest{Role: "orders"})
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("a broken answer gives %v", err)
	}
	_, err = dial(t, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 201, api.Acquired{}) }).
		Acquire(t.Context(), api.AcquireRequest{Role: "orders"})
	if err == nil {
		t.Error("an empty answer is taken for a lease")
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	_, err := newClient(t, client.Options{URL: server.URL, Token: client.StaticToken(secret.New("x"))}).Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "redirect") {
		t.Errorf("got %v", err)
	}
}

func TestOverlongAnswersAreCut(t *testing.T) {
	c := dial(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Write(make([]byte, 2*api.MaxAccess+1))
	})
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got %v", err)
	}
}

func TestOnlySafeCallsAreRepeatedWhenTheirFateIsUnknown(t *testing.T) {
	for name, k := range map[string]struct {
		call func(context.Context, *client.Client) error
		want int32
	}{
		"acquire": {func(ctx context.Context, c *client.Client) error {
			_, err := c.Acquire(ctx, api.AcquireRequest{Role: "orders"})
			return err
		}, 4},
		"release": {func(ctx context.Context, c *client.Client) error {
			_, err := c.Handle("x", secret.New("t")).Release(ctx, 0)
			return err
		}, 4},
		"lock": {func(ctx context.Context, c *client.Client) error {
			_, err := c.Lock(ctx, api.LockRequest{})
			return err
		}, 1},
		"apply": {func(ctx context.Context, c *client.Client) error {
			_, err := c.ApplyAccess(ctx, nil, "r1")
			return err
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int32
				keys := map[string]bool{}
				c := newClient(t, client.Options{URL: "https://h", HTTP: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					calls.Add(1)
					keys[r.Header.Get("Idempotency-Key")] = true
					return nil, errors.New("connection reset")
				})}})
				err := k.call(t.Context(), c)
				if !errors.Is(err, client.ErrUnreachable) || calls.Load() != k.want {
					t.Errorf("%d calls, want %d: %v", calls.Load(), k.want, err)
				}
				if len(keys) != 1 {
					t.Errorf("repetitions carry %d keys", len(keys))
				}
			})
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRefusalsWithATimeAreRepeatedThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, calls := time.Now(), 0
		c := dial(t, func(w http.ResponseWriter, _ *http.Request) {
			if calls++; calls < 3 {
				writeProblem(w, api.Problem{Status: 503, Code: "store_unavailable", RetryAfter: 2})
				return
			}
			writeJSON(w, 200, api.Lock{ID: "l1"})
		})
		lock, err := c.Lock(t.Context(), api.LockRequest{Reason: "drill"})
		if err != nil || lock.ID != "l1" || calls != 3 || time.Since(start) < 4*time.Second {
			t.Errorf("%d calls in %v: %v, %v", calls, time.Since(start), lock, err)
		}
	})
	for _, p := range []api.Problem{{Status: 429, Code: "too_many"}, {Status: 429, Code: "too_many", RetryAfter: 3600}, {Status: 500, Code: "internal", RetryAfter: 1}} {
		calls := 0
		c := dial(t, func(w http.ResponseWriter, _ *http.Request) { calls++; writeProblem(w, p) })
		if _, err := c.Acquire(t.Context(), api.AcquireRequest{}); err == nil || calls != 1 {
			t.Errorf("%+v: %d calls, %v", p, calls, err)
		}
	}
}

func TestListsGoThroughAllPages(t *testing.T) {
	c := dial(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("role") != "orders" {
			t.Errorf("the filter is lost: %s", r.URL)
		}
		switch r.URL.Query().Get("cursor") {
		case "":
			writeJSON(w, 200, api.Page[api.Lease]{Items: []api.Lease{{ID: "a"}, {ID: "b"}}, Next: "2"})
		case "2":
			writeJSON(w, 200, api.Page[api.Lease]{Items: []api.Lease{{ID: "c"}}})
		}
	})
	var ids string
	for lease, err := range c.Leases(t.Context(), client.Filter{Role: "orders"}) {
		if err != nil {
			t.Fatal(err)
		}
		ids += lease.ID
	}
	if ids != "abc" {
		t.Errorf("got %q", ids)
	}
	loop := dial(t, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, api.Page[api.Lock]{Next: "again"}) })
	var last error
	for _, err := range loop.Locks(t.Context()) {
		last = err
	}
	if last == nil {
		t.Error("a server that repeats its cursor is followed for ever, or silently")
	}
}

func TestTheSocketNeedsNoToken(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("a token was sent over the socket")
		}
		writeJSON(w, 200, api.Status{Version: "1"})
	})}
	go server.Serve(listener)
	defer server.Close()
	if status, err := newClient(t, client.Options{URL: "unix://" + socket}).Status(t.Context()); err != nil || status.Version != "1" {
		t.Errorf("got %+v, %v", status, err)
	}
}

func TestTokenFilesAreReadEachTime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	source := client.FileToken(file)
	if _, err := source.Token(t.Context()); err == nil {
		t.Error("an absent file gives a token")
	}
	for _, text := range []string{"one\n", " two "} {
		os.WriteFile(file, []byte(text), 0o600)
		if token, err := source.Token(t.Context()); err != nil || token.Reveal() != strings.TrimSpace(text) {
			t.Errorf("got %v, %v", token, err)
		}
	}
	for name, text := range map[string]string{"empty": "\n", "too long": strings.Repeat("x", api.MaxToken+1)} {
		os.WriteFile(file, []byte(text), 0o600)
		if _, err := source.Token(t.Context()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTokensThatAreNoHeaderValueAreNotSent(t *testing.T) {
	for _, bad := range []string{"", "a b", "a\r\nX: y", "ä"} {
		c := newClient(t, client.Options{URL: "https://h", Token: client.StaticToken(secret.New(bad)),
			HTTP: &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { panic("sent") })}})
		_, err := c.Status(t.Context())
		if !errors.Is(err, client.ErrNoToken) || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}
