package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/secret"
)

// frontDesk is a server for the examples: it gives one lease of "orders-readonly", and denies all else.
func frontDesk() *httptest.Server {
	mux := http.NewServeMux()
	lease := api.Lease{ID: "mzxw6ytboi2hk3dpo5zq", Role: "orders-readonly", Target: "orders-db", State: "active",
		CreatedAt: api.At(time.Now()), ExpiresAt: api.At(time.Now().Add(15 * time.Minute)), RenewableUntil: api.At(time.Now().Add(time.Hour))}
	mux.HandleFunc("POST /v1/leases", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token-of-the-platform" {
			writeProblem(w, api.Problem{Status: 403, Code: "denied", Detail: "no policy permits it", DecisionID: "2xkq"})
			return
		}
		writeJSON(w, http.StatusCreated, api.Acquired{Lease: lease, LeaseToken: "t", Receipt: "…",
			Credential: api.Credential{Type: "postgres", Fields: map[string]any{"username": "dp_k3v9ab_mzxw6ytboi2hk3dpo5zq",
				"password": "…", "host": "db.example.com", "port": 5432}}})
	})
	mux.HandleFunc("DELETE /v1/leases/{id}", func(w http.ResponseWriter, _ *http.Request) {
		lease.State, lease.Reason = "revoked", "released"
		writeJSON(w, http.StatusOK, lease)
	})
	mux.HandleFunc("GET /v1/leases/{id}", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, lease) })
	return httptest.NewServer(mux)
}

func Example() {
	server := frontDesk()
	defer server.Close()

	c, err := client.New(client.Options{URL: server.URL, Token: client.StaticToken(secret.New("token-of-the-platform"))})
	if err != nil {
		log.Fatal(err)
	}
	lease, err := c.Acquire(context.Background(), api.AcquireRequest{Role: "orders-readonly", Reason: "nightly report"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("log in as", lease.Credential.Public("username"), "with", lease.Credential.Secret("password"))

	ended, err := lease.Release(context.Background(), 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the credential is", ended.State)
	// Output:
	// log in as dp_k3v9ab_mzxw6ytboi2hk3dpo5zq with [secret]
	// the credential is revoked
}

func ExampleLease_Hold() {
	server := frontDesk()
	defer server.Close()
	c, err := client.New(client.Options{URL: server.URL, Token: client.StaticToken(secret.New("token-of-the-platform"))})
	if err != nil {
		log.Fatal(err)
	}
	lease, err := c.Acquire(context.Background(), api.AcquireRequest{Role: "orders-readonly"})
	if err != nil {
		log.Fatal(err)
	}

	lease.Release(context.Background(), 0) // stands for a lock that an administrator places

	// The work's context ends when the lease does.
	work, stop := context.WithCancelCause(context.Background())
	go func() { stop(lease.Hold(work)) }()
	<-work.Done()
	if lost, ok := errors.AsType[*client.LostError](context.Cause(work)); ok {
		fmt.Println("the lease ended:", lost.Reason)
	}
	// Output:
	// the lease ended: released
}

func ExampleClient_Acquire_denied() {
	server := frontDesk()
	defer server.Close()
	c, err := client.New(client.Options{URL: server.URL, Token: client.StaticToken(secret.New("somebody-else"))})
	if err != nil {
		log.Fatal(err)
	}
	_, err = c.Acquire(context.Background(), api.AcquireRequest{Role: "orders-admin"})
	if problem, ok := errors.AsType[*api.Problem](err); ok && problem.Code == "denied" {
		fmt.Println("an administrator can look: daypass explain", problem.DecisionID)
	}
	// Output:
	// an administrator can look: daypass explain 2xkq
}
