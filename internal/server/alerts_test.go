package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/internal/watch"
	"github.com/daypass/daypass/secret"
)

// pager is a webhook that keeps what it is told.
type pager struct {
	*httptest.Server
	messages chan watch.Message
	seen     []string // state, kind and subject of all that were waited for
}

func newPager(t *testing.T) *pager {
	t.Helper()
	p := &pager{messages: make(chan watch.Message, 1000)}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var m watch.Message
		if err == nil {
			err = json.Unmarshal(body, &m)
		}
		if err != nil || r.Header.Get(watch.SignatureHeader) == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		p.messages <- m
	}))
	t.Cleanup(p.Close)
	return p
}

// await waits for a message, and fails when another comes twice meanwhile.
func (p *pager) await(t *testing.T, state watch.State, kind watch.Kind, subject string) watch.Message {
	t.Helper()
	late := time.After(4 * time.Minute)
	for {
		select {
		case m := <-p.messages:
			line := fmt.Sprintf("%s %s %s", m.State, m.Kind, m.Subject)
			for _, before := range p.seen {
				if before == line {
					t.Errorf("told twice: %s", line)
				}
			}
			p.seen = append(p.seen, line)
			if m.State == state && m.Kind == kind && m.Subject == subject {
				return m
			}
		case <-late:
			t.Fatalf("not told: %s %s %s; told: %q", state, kind, subject, p.seen)
		}
	}
}

// lone asks with a token of its own, and expects no lease.
func (r *rig) lone(t *testing.T, token string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL()+"/v1/leases", strings.NewReader(`{"role":"orders-readonly"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request) // not our client, which would try again
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized && answer.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("it was answered %s", answer.Status)
	}
}

func TestWhatIssuersAndStrangersDoIsToldOnceEach(t *testing.T) {
	page := newPager(t)
	r := newRig(t)
	r.write(t, "hook.key", "a key for the hook\n")
	r.cfg.Alerts = config.Alerts{Quiet: config.Period(time.Minute), Failures: 20, Sinks: []config.AlertSink{
		{Name: "dead", Webhook: "http://127.0.0.1:1/"},
		{Name: "page", Webhook: page.URL, Key: "file://" + r.dir + "/hook.key", Rate: 100},
	}}
	r.start(t)
	run := testissuer.Run{Repository: "acme/orders", Ref: "refs/heads/main"}
	acquire(t, r.workload(t, run))

	// A stranger's issuer knocks, twice.
	stranger, err := testissuer.Start(testissuer.Options{Now: time.Now, Algorithm: "ES256"})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	for range 2 {
		r.lone(t, stranger.Token(map[string]any{"aud": r.URL(), "sub": "one"}))
	}
	if m := page.await(t, watch.Opened, watch.Stranger, stranger.URL()); m.Instance == "" || m.Advice == "" {
		t.Errorf("the message: %+v", m)
	}

	// Made-up keys, by the dozen. The workload of the same issuer is served on.
	for i := range 25 {
		key, err := testissuer.NewKey(fmt.Sprintf("made-up-%d", i), "ES256")
		if err != nil {
			t.Fatal(err)
		}
		header, _ := json.Marshal(map[string]any{"alg": "ES256", "kid": key.ID, "typ": "JWT"})
		payload, _ := json.Marshal(map[string]any{"iss": r.issuer.URL(), "aud": r.URL(), "sub": "one"})
		r.lone(t, key.Sign(header, payload))
	}
	page.await(t, watch.Opened, watch.UnknownKeys, "github")
	acquire(t, r.workload(t, run))

	// All keys of the issuer are replaced at once: a token with a new one has them fetched.
	old := r.issuer.Key().ID
	if _, err := r.issuer.Rotate("ES256"); err != nil {
		t.Fatal(err)
	}
	r.issuer.Remove(old)
	await(t, "a lease with the new key", func() bool {
		_, err := r.workload(t, run).Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"})
		return err == nil
	})
	page.await(t, watch.Opened, watch.KeysReplaced, "github")

	status, err := r.administrator(t).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]bool{}
	for _, a := range status.Alerts {
		open[a.Kind+" "+a.Subject] = true
	}
	if !open["issuer-keys-replaced github"] || !open["unknown-issuer "+stranger.URL()] {
		t.Errorf("status has the alerts %v", open)
	}
	if text := strings.Join(status.Warnings, "\n"); !strings.Contains(text, `sink "dead" takes no alerts`) {
		t.Errorf("status warns of %q", text)
	}
	page.await(t, watch.Ended, watch.Stranger, stranger.URL())
	page.await(t, watch.Ended, watch.KeysReplaced, "github")
	if text := r.log.String(); strings.Contains(text, "a key for the hook") {
		t.Error("the log has the key")
	}
}

// await waits until something is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

// An issuer that hangs, sends too much or garbage: another issuer's workloads get their leases meanwhile.
func TestAnIssuerThatMisbehavesHarmsOnlyItself(t *testing.T) {
	hang := make(chan struct{})
	for name, faults := range map[string]testissuer.Faults{
		"hangs":             {Hang: hang},
		"sends too much":    {Oversized: true},
		"sends garbage":     {Discovery: []byte(`{"issuer":`)},
		"sends bad keys":    {KeySet: []byte(`{"keys":[{"kty":"RSA","kid":"a","n":"AQ","e":"AQAB"},`)},
		"leads to metadata": {KeysAt: "https://169.254.169.254/latest/meta-data"},
		"redirects":         {Redirect: "https://169.254.169.254/"},
	} {
		t.Run(name, func(t *testing.T) {
			sick, err := testissuer.Start(testissuer.Options{Now: time.Now, Algorithm: "ES256"})
			if err != nil {
				t.Fatal(err)
			}
			defer sick.Close()
			sick.SetFaults(faults)
			r := newRig(t)
			r.write(t, "access/sick.yaml", fmt.Sprintf("kind: Issuer\nname: sick\npreset: github-actions\noidc: {url: %q}\n", sick.URL()))
			r.start(t)
			var all sync.WaitGroup
			ctx, cancel := context.WithCancel(t.Context())
			for range 8 { // they wait for the sick issuer, or are refused
				all.Go(func() {
					token := sick.Token(sick.GitHub(testissuer.Run{Repository: "acme/orders", Ref: "refs/heads/main", Audience: r.URL()}))
					c, err := client.New(client.Options{URL: r.URL(), Token: client.StaticToken(secret.New(token))})
					if err == nil {
						_, err = c.Acquire(ctx, api.AcquireRequest{Role: "orders-readonly"})
					}
					if err == nil {
						t.Error("the sick issuer's token was accepted")
					}
				})
			}
			for range 3 {
				acquire(t, r.workload(t, testissuer.Run{Repository: "acme/orders", Ref: "refs/heads/main"}))
			}
			cancel()
			all.Wait()
			status, err := r.administrator(t).Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range status.Issuers {
				if i.Name == "github" && i.Health != "ok" {
					t.Errorf("the well issuer: %+v", i)
				}
				if i.Name == "sick" && i.Keys != 0 {
					t.Errorf("the sick issuer: %+v", i)
				}
			}
		})
	}
	close(hang)
}
