package testbed

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"testing"
)

// shared holds the servers that the tests of one process share. It is the one mutable variable of this package:
// tests have no place of their own that outlives each of them. The servers die with the process.
var shared struct {
	sync.Mutex
	postgres   map[int]*Postgres
	kubernetes *Kubernetes
}

// SharedPostgres returns the server of version that all tests of this process share, and starts it when it is
// the first to ask. Tests that stop, kill or configure their server start one of their own.
func SharedPostgres(t testing.TB, version int) *Postgres {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if p := shared.postgres[version]; p != nil {
		return p
	}
	// Not the test's context: the server outlives the test.
	p, err := StartPostgres(context.Background(), PostgresOptions{Version: version, Settings: map[string]string{"max_connections": "400"}})
	if err != nil {
		t.Fatal(err)
	}
	if shared.postgres == nil {
		shared.postgres = map[int]*Postgres{}
	}
	shared.postgres[version] = p
	return p
}

// OwnPostgres starts a server for one test, and stops it with the test.
func OwnPostgres(t testing.TB, opt PostgresOptions) *Postgres {
	t.Helper()
	p, err := StartPostgres(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Main runs the tests of a package and stops the servers that they shared. Use it in TestMain to leave nothing
// behind; without it the servers still end with the process, and the next run removes their files.
func Main(m *testing.M) int {
	defer func() {
		shared.Lock()
		defer shared.Unlock()
		for _, p := range shared.postgres {
			_ = p.Stop() // the process ends: the next run removes what is left
		}
		if shared.kubernetes != nil {
			_ = shared.kubernetes.Stop()
		}
	}()
	return m.Run()
}

// Database makes an empty database with a random name and drops it with the test.
func (p *Postgres) Database(t testing.TB) string {
	t.Helper()
	name := "t_" + strings.ToLower(rand.Text()[:12])
	if err := p.Exec(t.Context(), "postgres", "create database "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := p.Exec(ctx, "postgres", "drop database if exists "+name+" with (force)"); err != nil {
			t.Logf("drop database %s: %v", name, err)
		}
	})
	return name
}
