package server_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/installation"
	"github.com/daypass/daypass/internal/keyring"
	"github.com/daypass/daypass/internal/server"
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

// What is told to one server holds at all of them: acquisitions from the answer on, and what needs no acquisition
// within a second, which is the middle one of five tries here, since the machine may be busy with something else.
func TestWhatOneServerIsToldHoldsAtAllWithinASecond(t *testing.T) {
	first := newRig(t).share(t).start(t)
	second := first.another(t)
	revoked, dead, followed := &delay{}, &delay{}, &delay{}
	for range 5 {
		lease := acquire(t, first.at(t))
		login := "dp_" + first.instance(t) + "_" + lease.ID()
		lock, err := second.administrator(t).Lock(t.Context(), api.LockRequest{Match: api.Match{Role: "orders-readonly"}, Reason: "a test"})
		if err != nil {
			t.Fatal(err)
		}
		told := time.Now()
		if _, err := first.at(t).Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"}); err == nil {
			t.Error("the first server gives a lease that a lock forbids")
		}
		revoked.await(t, told, func() bool {
			info, err := lease.Read(t.Context())
			return err == nil && info.State != "active"
		})
		dead.await(t, told, func() bool { return !first.hasLogin(t, login) })
		if _, err := second.administrator(t).Unlock(t.Context(), lock.ID); err != nil {
			t.Fatal(err)
		}

		// A comment makes another revision.
		files := map[string]string{"access.yaml": first.accessFile() + "# " + lease.ID() + "\n", "policy.cedar": allowMain}
		applied, err := second.administrator(t).ApplyAccess(t.Context(), files, "")
		if err != nil {
			t.Fatal(err)
		}
		told = time.Now()
		followed.await(t, told, func() bool {
			status, err := first.administrator(t).Status(t.Context())
			return err == nil && status.Revision == applied.ID
		})
		rotated, err := second.administrator(t).RotateKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		verifier, err := ledger.NewVerifier(rotated.Key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verifier.Receipt(acquire(t, first.at(t)).Receipt); err != nil {
			t.Errorf("a receipt of the first server after a rotation at the second: %v", err)
		}
	}
	revoked.within(t, time.Second, "a lock ends live leases")
	dead.within(t, time.Second, "a lock ends logins")
	followed.within(t, time.Second, "a revision is served")
}

// delay is how long something took, each time.
type delay struct{ all []time.Duration }

// await waits until it is so, for half a minute at most.
func (d *delay) await(t *testing.T, from time.Time, so func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		if time.Since(from) > 30*time.Second {
			t.Fatal("it does not happen")
		}
		<-tick.C
	}
	d.all = append(d.all, time.Since(from))
}

func (d *delay) within(t *testing.T, limit time.Duration, what string) {
	t.Helper()
	slices.Sort(d.all)
	t.Logf("%s after %v", what, d.all)
	if middle := d.all[len(d.all)/2]; middle > limit {
		t.Errorf("%s after %v; want %v at the most", what, middle, limit)
	}
}

func (r *rig) instance(t *testing.T) string {
	t.Helper()
	status, err := r.administrator(t).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.Instance
}

// hasLogin reports whether somebody can log in under a name.
func (r *rig) hasLogin(t *testing.T, name string) (found bool) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.postgres.Superuser(r.database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	err = conn.QueryRow(t.Context(), "select exists (select from pg_roles where rolname = $1 and rolcanlogin)", name).Scan(&found)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Two installations that name one database by mistake: the second is told so, and harms nothing.
func TestASecondInstallationIsKeptOutOfTheDatabase(t *testing.T) {
	first := newRig(t).share(t).start(t)
	lease := acquire(t, first.at(t))
	second := newRig(t)
	second.cfg.Store = first.cfg.Store
	second.cfg.StorePassword = first.cfg.StorePassword
	_, err := installation.Init(t.Context(), second.cfg) // it has no master key yet
	hinted(t, err, "a database or ?schema= of its own")
	key, err := keyring.Create(filepath.Join(second.dir, "master.key"))
	if err != nil || key == nil {
		t.Fatal(err)
	}
	_, err = installation.Init(t.Context(), second.cfg)
	hinted(t, err, "a database or ?schema= of its own")
	_, err = server.New(t.Context(), second.cfg, server.Options{Log: slog.New(slog.DiscardHandler)})
	hinted(t, err, "a database or ?schema= of its own")
	if info, err := lease.Read(t.Context()); err != nil || info.State != "active" {
		t.Errorf("the lease of the first is %+v, %v", info, err)
	}
}

// hinted expects an error whose hint says something.
func hinted(t *testing.T, err error, says string) {
	t.Helper()
	with, ok := errors.AsType[interface {
		error
		Hint() string
	}](err)
	if !ok || !strings.Contains(with.Hint(), says) {
		t.Errorf("got %v; want a hint that says %q", err, says)
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
