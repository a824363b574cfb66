package kube_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/kube"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/secret"
)

func TestMain(m *testing.M) { os.Exit(testbed.Main(m)) }

const token = "token-canary"

// connect returns a client of a server that answers as it likes.
func connect(t *testing.T, answer http.HandlerFunc) *kube.Client {
	t.Helper()
	server := httptest.NewTLSServer(answer)
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	c, err := kube.New(kube.Config{URL: server.URL, CA: ca, Token: func() (secret.Text, error) { return secret.New(token), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestWhatWasRefusedIsToldFromWhatNobodyKnows(t *testing.T) {
	status := func(code int, reason string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"kind":"Status","reason":%q,"message":"no\n\u001b[31m"}`, reason)
		}
	}
	raw := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			w.Write([]byte(body))
		}
	}
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		refused bool
		reason  string
	}{
		"a conflict":                    {status(409, "Conflict"), true, "Conflict"},
		"something that exists":         {status(409, "AlreadyExists"), true, "AlreadyExists"},
		"a right that lacks":            {status(403, "Forbidden"), true, "Forbidden"},
		"too many requests":             {status(429, "TooManyRequests"), true, "TooManyRequests"},
		"a time-out of the server":      {status(504, "Timeout"), false, "Timeout"},
		"a request time-out":            {status(408, "Timeout"), false, "Timeout"},
		"a failure of the server":       {status(500, "InternalError"), false, "InternalError"},
		"a refusal by something else":   {raw(403, "<html>"), false, ""},
		"a connection that is cut":      {hangUp, false, ""},
		"an answer that is no object":   {raw(201, "[]"), false, ""},
		"an answer that never ends":     {raw(201, `{"metadata":{"name":"`+strings.Repeat("x", 5<<20)), false, ""},
		"a Status beside another code":  {raw(302, `{"kind":"Status","reason":"Conflict"}`), false, "Conflict"},
		"a success with an error in it": {raw(200, `{"metadata":7}`), false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := connect(t, c.answer).CreateSecret(t.Context(), kube.Meta{Name: "a", Namespace: "b"})
			if err == nil || kube.WasRefused(err) != c.refused || c.reason != "" && !kube.Is(err, c.reason) {
				t.Fatalf("got %v, refused %v", err, kube.WasRefused(err))
			}
			if text := err.Error(); strings.ContainsAny(text, "\n\x1b") || strings.Contains(text, token) || len(text) > 1000 {
				t.Errorf("the error is unfit for a log: %q", text)
			}
		})
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	asked := false
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer other.Close()
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	if _, err := c.Keys(t.Context()); err == nil || asked {
		t.Errorf("got %v, the other server was asked: %v", err, asked)
	}
}

func TestACancelledRequestWasNotSent(t *testing.T) {
	asked := false
	c := connect(t, func(http.ResponseWriter, *http.Request) { asked = true })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.CreateLease(ctx, kube.Lease{}); !kube.WasRefused(err) || !errors.Is(err, context.Canceled) || asked {
		t.Errorf("got %v, asked %v", err, asked)
	}
}

func TestAListIsReadPageByPage(t *testing.T) {
	var asked []string
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		asked = append(asked, query.Get("limit")+query.Get("continue"))
		next := map[string]string{"": "second", "second": "third"}[query.Get("continue")]
		item := map[string]any{"metadata": map[string]any{"name": fmt.Sprint(len(asked))}}
		json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]any{"continue": next}, "items": []any{item}})
	})
	names := ""
	for l, err := range c.Leases(t.Context(), "space", "a=b") {
		if err != nil {
			t.Fatal(err)
		}
		names += l.Meta.Name
	}
	if names != "123" || strings.Join(asked, " ") != "500 500second 500third" {
		t.Errorf("got %s after asking %q", names, asked)
	}
}

func TestAConnectionIsOneCredentialToOneHTTPSServer(t *testing.T) {
	some := func() (secret.Text, error) { return secret.New(token), nil }
	for name, cfg := range map[string]kube.Config{
		"no URL":               {Token: some},
		"plain HTTP":           {URL: "http://127.0.0.1:8080", Token: some},
		"a user in the URL":    {URL: "https://a:b@127.0.0.1", Token: some},
		"a query":              {URL: "https://127.0.0.1?x=y", Token: some},
		"no credential":        {URL: "https://127.0.0.1"},
		"two credentials":      {URL: "https://127.0.0.1", Token: some, Certificate: []byte("x")},
		"a certificate's fake": {URL: "https://127.0.0.1", Certificate: []byte("x"), Key: secret.New(token)},
		"no authority":         {URL: "https://127.0.0.1", Token: some, CA: []byte("x")},
	} {
		if _, err := kube.New(cfg); err == nil || strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheRealServerTellsTimeAndKeys(t *testing.T) {
	k := testbed.SharedKubernetes(t)
	c, err := kube.New(kube.Config{URL: k.URL, CA: k.CA, Token: func() (secret.Text, error) { return secret.New(k.Admin), nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if now, err := c.Now(t.Context()); err != nil || now.IsZero() {
		t.Errorf("now: %v, %v", now, err)
	}
	if keys, err := c.Keys(t.Context()); err != nil || !strings.Contains(string(keys), `"use":"sig"`) {
		t.Errorf("keys: %s, %v", keys, err)
	}
	namespace := k.Namespace(t, "kube")
	made, err := c.CreateLease(t.Context(), kube.Lease{Meta: kube.Meta{Name: "one", Namespace: namespace}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateLease(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	made.Spec.HolderIdentity = "somebody"
	now, err := c.UpdateLease(t.Context(), made)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateLease(t.Context(), made); !kube.Is(err, kube.ReasonConflict) || !kube.WasRefused(err) {
		t.Errorf("an old version: %v", err)
	}
	stranger := now.Meta
	stranger.UID = made.Meta.UID[:len(made.Meta.UID)-4] + "0000"
	if err := c.DeleteLease(t.Context(), stranger); !kube.Is(err, kube.ReasonConflict) {
		t.Errorf("deleting another one: %v", err)
	}
	if err := c.DeleteLease(t.Context(), now.Meta); err != nil {
		t.Error(err)
	}
	if _, err := c.Lease(t.Context(), namespace, "one"); !kube.Is(err, kube.ReasonNotFound) {
		t.Errorf("deleted: %v", err)
	}
}
