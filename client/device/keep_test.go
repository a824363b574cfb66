package device_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/client/device"
)

const day = 24 * time.Hour

// desk is a server that renews devices, without a network: time in a bubble waits for it.
type desk struct {
	begun time.Time
	term  time.Duration // of a renewal
	down  atomic.Bool

	mu   sync.Mutex // guards what follows
	asks []time.Duration
}

// asked is when renewals were asked for, since the beginning.
func (d *desk) asked() []time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asks)
}

func (d *desk) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")
	write := func(status int, v any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v) // it is a buffer
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/oauth-authorization-server"):
		write(http.StatusOK, map[string]any{"token_endpoint": "https://daypass.example.com/oauth/token",
			"dpop_signing_alg_values_supported": []string{"ES256"}, "grant_types_supported": []string{"urn:ietf:params:oauth:grant-type:token-exchange"}})
	case r.URL.Path == "/v1/devices/edge/pump-7/renew":
		d.mu.Lock()
		d.asks = append(d.asks, time.Since(d.begun))
		d.mu.Unlock()
		if d.down.Load() {
			write(http.StatusServiceUnavailable, api.Problem{Status: http.StatusServiceUnavailable, Code: "store_unavailable"})
			break
		}
		write(http.StatusOK, api.Device{Issuer: "edge", IssuerURL: "urn:daypass:devices:edge", Name: "pump-7", Audience: "https://daypass.example.com",
			Until: api.At(time.Now().Add(d.term))})
	default:
		http.NotFound(w, r)
	}
	return w.Result(), nil
}

// kept runs Keep for a device with a term of 30 days in a bubble, and returns its state file and what it told.
func kept(t *testing.T, d *desk) (path string, told func() []string, stop func()) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "state")
	if _, _, err := device.Key(filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	d.begun = time.Now()
	state := device.State{Server: "https://daypass.example.com", Issuer: "edge", IssuerURL: "urn:daypass:devices:edge", Name: "pump-7",
		Audience: "https://daypass.example.com", Key: filepath.Join(dir, "key"), RenewedAt: api.At(d.begun), Until: api.At(d.begun.Add(30 * day))}
	if err := state.Write(path); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Options{URL: "https://daypass.example.com", HTTP: &http.Client{Transport: d}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var mu sync.Mutex
	var texts []string
	go func() {
		defer close(ended)
		device.Keep(ctx, c, path, time.Now, func(text string) {
			mu.Lock()
			defer mu.Unlock()
			texts = append(texts, text)
		})
	}()
	return path, func() []string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(texts)
	}, func() { cancel(); <-ended }
}

// pass lets time pass in the bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestATermIsRenewedAtTwoThirdsOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{term: 30 * day}
		path, told, stop := kept(t, d)
		pass(65 * day)
		if want := []time.Duration{20 * day, 40 * day, 60 * day}; !slices.Equal(d.asked(), want) {
			t.Errorf("asked after %v, want %v", d.asked(), want)
		}
		state, err := device.Read(path)
		if err != nil || !state.Until.Equal(d.begun.Add(90*day)) || !state.RenewedAt.Equal(d.begun.Add(60*day)) {
			t.Errorf("the state is %+v, %v", state, err)
		}
		if all := told(); len(all) != 3 || !strings.Contains(all[0], "pump-7 was renewed") {
			t.Errorf("told %q", all)
		}
		stop() // and it ends with its context
	})
}

func TestATermThatCannotBeRenewedIsTriedAgainLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{term: 30 * day}
		d.down.Store(true)
		_, told, stop := kept(t, d)
		pass(20*day + 250*time.Minute)
		want := []time.Duration{20 * day}
		for _, minutes := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
			want = append(want, want[len(want)-1]+minutes*time.Minute)
		}
		if !slices.Equal(d.asked(), want) {
			t.Errorf("asked after %v, want %v", d.asked(), want)
		}
		if all := told(); len(all) != len(want) || !strings.Contains(all[0], "is tried again") {
			t.Errorf("told %q", all)
		}
		d.down.Store(false)
		pass(time.Hour)
		n := len(d.asked())
		pass(19 * day)
		if len(d.asked()) != n {
			t.Errorf("asked %d times more for a fresh term", len(d.asked())-n)
		}
		pass(day)
		if len(d.asked()) != n+1 {
			t.Errorf("asked %d times more at two thirds of it", len(d.asked())-n)
		}
		stop()
	})
}

// A server that says that a term is over when it begins is asked again in a minute, not at once.
func TestAServerThatGivesNoTermIsNotAskedWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		_, _, stop := kept(t, d)
		pass(20*day + 5*time.Minute + time.Second)
		if len(d.asked()) != 6 {
			t.Errorf("asked after %v", d.asked())
		}
		stop()
	})
}

func TestADeviceWithoutItsStateSaysSoAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{term: 30 * day}
		path, told, stop := kept(t, d)
		pass(day)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		pass(40 * day)
		all := told()
		if len(d.asked()) != 0 || len(all) != 2 || !strings.Contains(all[1], "read the state") {
			t.Errorf("asked after %v, told %q", d.asked(), all)
		}
		stop()
	})
}
