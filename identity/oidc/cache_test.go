package oidc_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

func TestCacheControlShortensTheAgeOfKeysWithinBounds(t *testing.T) {
	for control, want := range map[string]time.Duration{
		"":                      15 * time.Minute,
		"public, max-age=300":   5 * time.Minute,
		"max-age=0":             time.Minute,
		"no-store":              time.Minute,
		"max-age=86400":         15 * time.Minute,
		"max-age=-5":            time.Minute,
		"max-age=9999999999999": time.Minute,
	} {
		w := newWorld(t, "ES256")
		w.issuer.SetFaults(testissuer.Faults{Cache: control})
		for step, at := range []time.Duration{0, want - time.Second, time.Second} {
			w.Advance(at)
			if _, err := w.verify(w.github()); err != nil {
				t.Fatal(err)
			}
			if got, want := w.issuer.Fetches().Keys, 1+step/2; got != want {
				t.Errorf("%q, step %d: %d fetches, want %d", control, step, got, want)
			}
		}
	}
}

func TestDocumentsThatLieAreNotUsed(t *testing.T) {
	for name, faults := range map[string]testissuer.Faults{
		"no JSON":                     {Discovery: []byte("<html>")},
		"an array":                    {Discovery: []byte("[]")},
		"no jwks_uri":                 {Discovery: []byte(`{"issuer":"ISSUER"}`)},
		"a jwks_uri twice":            {Discovery: []byte(`{"issuer":"ISSUER","jwks_uri":"ISSUER/.well-known/jwks","jwks_uri":"ISSUER/.well-known/jwks"}`)},
		"a jwks_uri that is a file":   {KeysAt: "file:///etc/passwd"},
		"plain http to a stranger":    {KeysAt: "http://192.0.2.1/keys"},
		"a user in the jwks_uri":      {KeysAt: "http://u@127.0.0.1/keys"},
		"a relative jwks_uri":         {KeysAt: "/keys"},
		"an issuer with a slash more": {Issuer: "ISSUER/"},
		"an empty key set document":   {KeySet: []byte("")},
		"no list of keys":             {KeySet: []byte(`{}`)},
		"keys that are an object":     {KeySet: []byte(`{"keys":{}}`)},
		"101 keys":                    {KeySet: []byte(`{"keys":[` + strings.Repeat(`{},`, 100) + `{}]}`)},
		"the list of keys twice":      {KeySet: []byte(`{"keys":[],"keys":[]}`)},
		"keys nested deep":            {KeySet: []byte(`{"keys":[` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `]}`)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "ES256")
			faults.Issuer = strings.ReplaceAll(faults.Issuer, "ISSUER", w.issuer.URL())
			if faults.Discovery != nil {
				faults.Discovery = []byte(strings.ReplaceAll(string(faults.Discovery), "ISSUER", w.issuer.URL()))
			}
			w.issuer.SetFaults(faults)
			if _, err := w.verify(w.github()); err == nil || errors.Is(err, identity.ErrRejected) {
				t.Errorf("got %v", err)
			}
			if s := w.verifier.Status(); s.Failures != 1 || s.LastError == "" || !s.Failing {
				t.Errorf("got %+v", s)
			}
			// The last good keys survive all of it.
			w.issuer.SetFaults(testissuer.Faults{})
			w.Advance(time.Minute)
			if _, err := w.verify(w.github()); err != nil {
				t.Fatal(err)
			}
			w.issuer.SetFaults(faults)
			w.Advance(time.Hour)
			if _, err := w.verify(w.github()); err != nil {
				t.Errorf("the last good keys are gone: %v", err)
			}
		})
	}
}

func TestARemoteIssuerCannotPointAtOurOwnMachine(t *testing.T) {
	c := identitytest.NewClock()
	for _, keysAt := range []string{"https://127.0.0.1/.well-known/jwks", "https://localhost/.well-known/jwks", "https://[::1]/.well-known/jwks", "http://127.0.0.1/.well-known/jwks"} {
		issuer, err := testissuer.New(testissuer.Options{Now: c.Now, Algorithm: "ES256", URL: "https://issuer.example"})
		if err != nil {
			t.Fatal(err)
		}
		issuer.SetFaults(testissuer.Faults{KeysAt: keysAt})
		asked := &inProcess{handler: issuer}
		v, err := oidc.New(oidc.Config{Name: "remote", URL: issuer.URL(), Audience: audience, Now: c.Now, Client: &http.Client{Transport: asked}})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{Clock: c, issuer: issuer, verifier: v}
		if _, err := w.verify(w.github()); err == nil || errors.Is(err, identity.ErrRejected) {
			t.Errorf("%s: got %v", keysAt, err)
		}
		if got := issuer.Fetches(); got.Keys != 0 || got.Discovery != 1 {
			t.Errorf("%s was asked", keysAt)
		}
	}
}

func TestAnEmptyKeySetWithdrawsAllKeys(t *testing.T) {
	w := newWorld(t, "ES256")
	if _, err := w.verify(w.github()); err != nil {
		t.Fatal(err)
	}
	w.issuer.SetFaults(testissuer.Faults{KeySet: []byte(`{"keys":[]}`)})
	w.Advance(oidc.DefaultKeyAge)
	_, err := w.verify(w.github())
	why(t, err, oidc.WhyKey)
}

func TestTwoKeysOfOneIDAreBothRefused(t *testing.T) {
	w := newWorld(t, "ES256")
	key := w.issuer.Key()
	other, err := testissuer.NewKey(key.ID, "ES256")
	if err != nil {
		t.Fatal(err)
	}
	w.issuer.Publish(publicKey(other))
	_, err = w.verify(w.github())
	why(t, err, oidc.WhyKey)
	w = newWorld(t, "ES256")
	w.issuer.Publish(publicKey(w.issuer.Key())) // the same key twice is one key
	if _, err := w.verify(w.github()); err != nil {
		t.Error(err)
	}
}

func TestAHangingIssuerHoldsUpNobodyTwice(t *testing.T) {
	w := newWorld(t, "ES256", func(c *oidc.Config) { c.Timeout = 50 * time.Millisecond })
	if _, err := w.verify(w.github()); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	defer close(release)
	w.issuer.SetFaults(testissuer.Faults{Hang: release})
	w.Advance(oidc.DefaultKeyAge)
	for range 3 {
		if _, err := w.verify(w.github()); err != nil {
			t.Fatal(err)
		}
		w.Advance(oidc.DefaultFloor)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // a caller that cannot wait at all is served
	if _, err := w.verifier.Verify(ctx, w.github()); err != nil {
		t.Error(err)
	}
}

func TestACancelledCallerDoesNotSpoilTheFetchOfOthers(t *testing.T) {
	w := newWorld(t, "ES256")
	release := make(chan struct{})
	w.issuer.SetFaults(testissuer.Faults{Hang: release})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.verifier.Verify(ctx, w.github()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	if _, err := w.verify(w.github()); err != nil {
		t.Error(err)
	}
	if got := w.verifier.Status().Fetches; got != 1 {
		t.Errorf("%d fetches", got)
	}
}

func TestABrokenStoreDoesNotStopVerification(t *testing.T) {
	w := newWorld(t, "ES256")
	w.store.err = errors.New("disk full")
	if _, err := w.verify(w.github()); err != nil {
		t.Error(err)
	}
}

func TestAForgedStoreCannotMakeKeysYounger(t *testing.T) {
	w := newWorld(t, "ES256")
	if _, err := w.verify(w.github()); err != nil {
		t.Fatal(err)
	}
	w.issuer.SetFaults(testissuer.Faults{Down: true})
	for at, good := range map[time.Duration]bool{-time.Hour: true, time.Minute: true, time.Hour: false, -25 * time.Hour: false} {
		kept := w.store.all[w.issuer.URL()]
		w.store.all[w.issuer.URL()] = stored{kept.jwks, w.Now().Add(at)}
		w.verifier = w.restart(t)
		if _, err := w.verify(w.github()); (err == nil) != good || errors.Is(err, identity.ErrRejected) {
			t.Errorf("kept %v from now: got %v", at, err)
		}
	}
}

func TestAClockThatGoesBackDoesNotKeepRemovedKeys(t *testing.T) {
	w := newWorld(t, "ES256")
	if _, err := w.verify(w.github()); err != nil {
		t.Fatal(err)
	}
	w.issuer.SetFaults(testissuer.Faults{KeySet: []byte(`{"keys":[]}`)})
	w.Advance(-10 * time.Hour)
	_, err := w.verify(w.github())
	why(t, err, oidc.WhyKey)
}

// inProcess asks a handler without a network, so that a synctest bubble can tell when everybody waits.
type inProcess struct{ handler http.Handler }

func (p *inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	p.handler.ServeHTTP(recorder, r)
	return recorder.Result(), nil
}

func TestRunKeepsKeysFreshSoThatNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, err := testissuer.New(testissuer.Options{Now: time.Now, Algorithm: "ES256", URL: "https://issuer.example"})
		if err != nil {
			t.Fatal(err)
		}
		v, err := oidc.New(oidc.Config{Name: "x", URL: issuer.URL(), Audience: audience, Now: time.Now, Client: &http.Client{Transport: &inProcess{issuer}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- v.Run(ctx) }()
		synctest.Wait()
		w := &world{issuer: issuer, verifier: v}
		pass := func(d time.Duration) { <-time.After(d) } // in the bubble: at once, when all others wait
		verify := func(want int) {
			t.Helper()
			cancelled, stop := context.WithCancel(t.Context())
			stop() // whoever would have to wait fails
			if _, err := v.Verify(cancelled, w.github()); (err == nil) != (want == 1) {
				t.Errorf("got %v", err)
			}
		}
		for range 48 { // a day, every half hour
			verify(1)
			pass(30 * time.Minute)
		}
		if got := v.Status().Fetches; got < 90 || got > 140 {
			t.Errorf("%d fetches in a day, want about one in 11 minutes", got)
		}
		old := issuer.Key()
		if _, err := issuer.Rotate("ES256"); err != nil {
			t.Fatal(err)
		}
		issuer.Remove(old.ID)
		pass(15 * time.Minute)
		verify(1)
		issuer.SetFaults(testissuer.Faults{Down: true})
		before := v.Status()
		pass(23 * time.Hour)
		verify(1)
		if s := v.Status(); !s.Failing || s.Fetches-before.Fetches > 23*60+10 || s.Keys != 1 || !s.LastSuccess.Equal(s.KeysAt) {
			t.Errorf("got %+v", s)
		}
		pass(2 * time.Hour)
		verify(0)
		issuer.SetFaults(testissuer.Faults{})
		pass(time.Minute)
		verify(1)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestOnlyItsOwnFetchTellsACallerThatAKeyIsNotPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, err := testissuer.New(testissuer.Options{Now: time.Now, Algorithm: "ES256", URL: "https://issuer.example"})
		if err != nil {
			t.Fatal(err)
		}
		v, err := oidc.New(oidc.Config{Name: "x", URL: issuer.URL(), Audience: audience, Now: time.Now, Client: &http.Client{Transport: &inProcess{issuer}}})
		if err != nil {
			t.Fatal(err)
		}
		unknown := func() secret.Text {
			key, err := testissuer.NewKey("unknown", "ES256")
			if err != nil {
				t.Fatal(err)
			}
			return secret.New(key.Sign([]byte(`{"alg":"ES256","kid":"unknown"}`), []byte(`{}`)))
		}
		hold := make(chan struct{})
		issuer.SetFaults(testissuer.Faults{Hang: hold})
		answers := [2]chan error{make(chan error, 1), make(chan error, 1)}
		for _, answer := range answers {
			token := unknown()
			go func() {
				_, err := v.Verify(context.Background(), token)
				answer <- err
			}()
			synctest.Wait() // the first has begun the fetch that the second joins
		}
		close(hold)
		why(t, <-answers[0], oidc.WhyKey)
		if err := <-answers[1]; !errors.Is(err, oidc.ErrUnknownKey) || errors.Is(err, identity.ErrRejected) {
			t.Errorf("got %v", err)
		}
	})
}

func TestKeysOfAnEarlierRunAreAskedForAgainSoon(t *testing.T) {
	w := newWorld(t, "ES256")
	if _, err := w.verify(w.github()); err != nil {
		t.Fatal(err)
	}
	w.issuer.SetFaults(testissuer.Faults{Down: true})
	w.verifier = w.restart(t)
	for range 2 {
		if _, err := w.verify(w.github()); err != nil {
			t.Fatal(err)
		}
		w.Advance(oidc.DefaultFloor)
	}
	if got := w.verifier.Status().Fetches; got != 2 {
		t.Errorf("%d fetches, want one in each interval", got)
	}
}
