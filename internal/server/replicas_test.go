package server_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/secret"
)

// share puts the store of a rig into a PostgreSQL database.
func (r *rig) share(t *testing.T) *rig {
	t.Helper()
	name := r.postgres.Database(t)
	login := "store_" + strings.TrimPrefix(name, "t_")
	r.must(t, fmt.Sprintf("create role %s login password 'sesame'", login), fmt.Sprintf("alter database %s owner to %s", name, login))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_ = r.postgres.Exec(ctx, name, fmt.Sprintf("drop owned by %[1]s cascade", login))
		_ = r.postgres.Exec(ctx, "postgres", fmt.Sprintf("alter database %s owner to postgres", name), "drop role "+login)
	})
	r.write(t, "store-password", "sesame\n")
	r.cfg.Store = fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", login, r.postgres.Address(), name)
	r.cfg.StorePassword = "file://" + filepath.Join(r.dir, "store-password")
	return r
}

// another is one more server of the same store, which runs.
func (r *rig) another(t *testing.T) *rig {
	t.Helper()
	second := *r
	second.cfg.Socket = filepath.Join(r.dir, "second.sock")
	second.cfg.URL = r.URL()
	return second.start(t)
}

// at is a client of a workload that asks this server.
func (r *rig) at(t *testing.T) *client.Client {
	t.Helper()
	token := secret.New(r.issuer.Token(r.issuer.GitHub(testissuer.Run{Audience: r.URL()})))
	c, err := client.New(client.Options{URL: "http://" + r.Address(), Token: client.StaticToken(token)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestServersThatShareAStoreAreOne(t *testing.T) {
	first := newRig(t).share(t).start(t)
	second := first.another(t)

	lease := acquire(t, first.at(t))
	away := second.administrator(t).Handle(lease.ID(), lease.Token())
	if info, err := away.Read(t.Context()); err != nil || info.State != "active" {
		t.Fatalf("the other server reads %+v, %v", info, err)
	}
	if released, err := away.Release(t.Context(), 10*time.Second); err != nil || released.State != "revoked" {
		t.Errorf("released at the other server: %+v, %v", released, err)
	}
	if released, err := acquire(t, second.at(t)).Release(t.Context(), 10*time.Second); err != nil || released.State != "revoked" {
		t.Errorf("released where it was made: %+v, %v", released, err)
	}

	lease = acquire(t, first.at(t))
	lock, err := second.administrator(t).Lock(t.Context(), api.LockRequest{Match: api.Match{Role: "orders-readonly"}, Reason: "a test"})
	if err != nil || lock.Hits != 1 {
		t.Fatalf("lock: %+v, %v", lock, err)
	}
	if _, err := first.at(t).Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"}); err == nil {
		t.Error("a lock of the other server does not hold at once")
	}
	info, err := lease.Read(t.Context())
	for err == nil && info.State == "active" { // live leases end right after the answer, not before
		info, err = lease.Read(t.Context())
	}
	if released, err := lease.Release(t.Context(), 10*time.Second); err != nil || released.Reason != "locked" {
		t.Errorf("the lease that was locked is %+v, %v", released, err)
	}
	if _, err := second.administrator(t).Unlock(t.Context(), lock.ID); err != nil {
		t.Fatal(err)
	}

	denied := map[string]string{"access.yaml": first.accessFile(), "policy.cedar": strings.Replace(allowMain, "refs/heads/main", "refs/heads/none", 1)}
	if _, err := second.administrator(t).ApplyAccess(t.Context(), denied, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := first.at(t).Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"}); err == nil {
		t.Error("a revision that the other server activated does not hold at once")
	}
	allowed := map[string]string{"access.yaml": first.accessFile(), "policy.cedar": allowMain}
	if _, err := first.administrator(t).ApplyAccess(t.Context(), allowed, ""); err != nil {
		t.Fatal(err)
	}

	rotated, err := second.administrator(t).RotateKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lease = acquire(t, first.at(t))
	verifier, err := ledger.NewVerifier(rotated.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.Receipt(lease.Receipt); err != nil {
		t.Errorf("a receipt after the other server's rotation: %v", err)
	}
}

// What one server began, another ends, whether the first says goodbye or not.
func TestALeaseOutlivesItsServer(t *testing.T) {
	first := newRig(t).share(t).start(t)
	second := first.another(t)
	lease := acquire(t, first.at(t))
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	away := second.administrator(t).Handle(lease.ID(), lease.Token())
	if info, err := away.Read(t.Context()); err != nil || info.State != "active" {
		t.Fatalf("after its server has gone the lease is %+v, %v", info, err)
	}
	if released, err := away.Release(t.Context(), 30*time.Second); err != nil || released.State != "revoked" {
		t.Errorf("released: %+v, %v", released, err)
	}
	status, err := second.administrator(t).Status(t.Context())
	if err != nil || len(status.Servers) != 1 {
		t.Errorf("the servers are %+v, %v", status.Servers, err)
	}
}

// A server that came up before anything was configured serves what another one activates, the first revision too.
func TestTheFirstRevisionReachesServersThatWaitForOne(t *testing.T) {
	first := newRig(t).share(t)
	first.cfg.Access = ""
	first.start(t)
	second := first.another(t)
	files := map[string]string{"access.yaml": first.accessFile(), "policy.cedar": allowMain}
	if _, err := second.administrator(t).ApplyAccess(t.Context(), files, ""); err != nil {
		t.Fatal(err)
	}
	patience, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		status, err := first.administrator(t).Status(patience)
		if err == nil && status.Ready {
			break
		}
		select {
		case <-patience.Done():
			t.Fatal("the first server never serves the revision")
		case <-time.After(100 * time.Millisecond):
		}
	}
	acquire(t, first.at(t))
}
