package httpapi

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// BenchmarkEdge measures what the edge adds to an acquisition: everything but the broker.
func BenchmarkEdge(b *testing.B) {
	e := &edge{Config: Config{Now: time.Now, Log: slog.New(slog.DiscardHandler)}, mux: http.NewServeMux()}
	now := time.Now()
	acquired := broker.Acquired{
		Lease: store.Lease{ID: "aaaaaaaaaaaaaaaaaaaa", State: "active", Role: "reader", Target: "vault", Issuer: "github",
			Subject: "repo:acme/orders:ref:refs/heads/main", CreatedAt: now, ExpiresAt: now, RenewableUntil: now},
		Token: secret.Random(),
		Credential: target.Credential{Type: "postgres", Attributes: map[string]any{"username": "dp_x_y", "host": "db", "port": 5432, "database": "orders", "sslmode": "verify-full"},
			Secrets: map[string]secret.Text{"password": secret.Random(), "url": secret.Random()}},
		Receipt: strings.Repeat("r", 700),
	}
	r := route{method: "POST", path: "/v1/leases", serve: func(c *call) error {
		if _, err := c.acquireRequest(); err != nil {
			return err
		}
		body, err := json.Marshal(reveal(acquired, nil))
		if err != nil {
			return err
		}
		return c.send("application/json", body)
	}}
	e.mux.Handle("POST /v1/leases", e.handler(r.guarded()))
	token := "Bearer " + strings.Repeat("a", 1500)
	for b.Loop() {
		request := httptest.NewRequest("POST", "/v1/leases", strings.NewReader(`{"role":"reader","ttl":"15m"}`))
		request.Header.Set("Authorization", token)
		request.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		e.ServeHTTP(recorder, request)
		if recorder.Code != 200 {
			b.Fatal(recorder.Body)
		}
	}
}
