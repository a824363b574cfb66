package spiffe_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/client/spiffe"
	"github.com/daypass/daypass/internal/testspiffe"
)

const (
	audience = "https://daypass.example.com"
	orders   = "spiffe://example.org/acme/orders"
	reports  = "spiffe://example.org/acme/reports"
)

// clock is a clock that tests move.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// agent starts a trust domain's agent.
func agent(t *testing.T) *testspiffe.Domain {
	t.Helper()
	dir, err := os.MkdirTemp("", "spiffe") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d, err := testspiffe.Start(testspiffe.Options{Domain: "example.org", Socket: filepath.Join(dir, "agent.sock"), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// workload is a workload whose patience is long unless the test changes it.
func workload(t *testing.T, o spiffe.Options) *spiffe.Workload {
	t.Helper()
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Wait == 0 {
		o.Wait = 30 * time.Second
	}
	o.Audience = audience
	w, err := spiffe.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func name(t *testing.T, c *tls.Certificate, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf.URIs[0].String()
}

func TestATokenIsForTheServerAloneAndOfTheIdentityThatWasNamed(t *testing.T) {
	d := agent(t)
	d.Know(orders, reports)
	for id, want := range map[string]string{"": orders, reports: reports} {
		token, err := workload(t, spiffe.Options{Endpoint: d.Endpoint(), ID: id}).Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token.Reveal(), ".")[1])
		var claims struct {
			Subject  string   `json:"sub"`
			Audience []string `json:"aud"`
		}
		if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Subject != want || len(claims.Audience) != 1 || claims.Audience[0] != audience {
			t.Errorf("%q: got %s, %v", id, payload, err)
		}
	}
}

func TestACertificateIsReplacedWhenTheAgentReplacesIt(t *testing.T) {
	d := agent(t)
	d.Know(reports, orders)
	w := workload(t, spiffe.Options{Endpoint: d.Endpoint(), ID: orders})
	first, err := w.Certificate(t.Context())
	if got := name(t, first, err); got != orders {
		t.Fatalf("got %s", got)
	}
	if again, err := w.Certificate(t.Context()); err != nil || again.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) != 0 {
		t.Errorf("without a change: got %v, %v", again, err)
	}
	d.Know(reports, orders)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		next, err := w.Certificate(ctx)
		if got := name(t, next, err); got != orders {
			t.Fatalf("got %s", got)
		}
		if next.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) != 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the certificate that the agent replaced is shown for ever")
		}
	}
}

func TestAWorkloadThatTheAgentDoesNotKnowYetIsWaitedFor(t *testing.T) {
	d := agent(t)
	w := workload(t, spiffe.Options{Endpoint: d.Endpoint()})
	var wait sync.WaitGroup
	wait.Go(func() {
		if _, err := w.Token(t.Context()); err != nil {
			t.Error(err)
		}
	})
	wait.Go(func() {
		c, err := w.Certificate(t.Context())
		if err != nil || c.Leaf.URIs[0].String() != orders {
			t.Errorf("got %v, %v", c, err)
		}
	})
	d.Know(orders)
	wait.Wait()
}

func TestWhatTheAgentRefusesIsSaidInWordsThatHelp(t *testing.T) {
	d := agent(t)
	brief := time.Nanosecond // the first answer counts
	gone := spiffe.Options{Endpoint: "unix:///nonexistent/agent.sock", Wait: brief}
	stranger := spiffe.Options{Endpoint: d.Endpoint(), Wait: brief}
	d.Know(orders)
	other := spiffe.Options{Endpoint: d.Endpoint(), ID: reports, Wait: brief}
	for want, options := range map[string]spiffe.Options{"nobody answers; does the agent run": gone, "it knows no identity for this process, or not this one": other} {
		w := workload(t, options)
		_, token := w.Token(t.Context())
		_, certificate := w.Certificate(t.Context())
		for what, err := range map[string]error{"token": token, "certificate": certificate} {
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), options.Endpoint) {
				t.Errorf("%s: got %v, want %s", what, err, want)
			}
		}
	}
	d.Know()
	if _, err := workload(t, stranger).Token(t.Context()); err == nil || !strings.Contains(err.Error(), "is the workload registered with its agent?") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := workload(t, spiffe.Options{Endpoint: d.Endpoint()}).Token(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that nobody waits for: %v", err)
	}
}

func TestWhenTheAgentGoesAwayItsLastCertificateCountsUntilItExpires(t *testing.T) {
	d, c := agent(t), &clock{}
	d.Know(orders)
	w := workload(t, spiffe.Options{Endpoint: d.Endpoint(), Now: c.Now})
	certificate, err := w.Certificate(t.Context())
	if got := name(t, certificate, err); got != orders {
		t.Fatalf("got %s", got)
	}
	d.Close()
	certificate, err = w.Certificate(t.Context())
	if got := name(t, certificate, err); got != orders {
		t.Errorf("got %s", got)
	}
	c.advance(2 * time.Hour)
	if _, err = w.Certificate(t.Context()); err == nil || !strings.Contains(err.Error(), "the X509-SVID of "+orders+" expired at ") {
		t.Errorf("got %v", err)
	}
}

func TestAddressesAndIdentitiesThatCannotBeRightAreRefused(t *testing.T) {
	for _, o := range []spiffe.Options{
		{}, {Endpoint: "/run/agent.sock"}, {Endpoint: "http://127.0.0.1:1"}, {Endpoint: "tcp://agent:1"},
		{Endpoint: "unix:///run/agent.sock", ID: "orders"}, {Endpoint: "unix:///run/agent.sock", ID: "https://example.org/orders"},
	} {
		if w, err := spiffe.New(o); err == nil {
			w.Close()
			t.Errorf("%+v is accepted", o)
		}
	}
	w, err := spiffe.New(spiffe.Options{Endpoint: "unix:///run/agent.sock", Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "the server that it is for is not named") {
		t.Errorf("got %v", err)
	}
}
