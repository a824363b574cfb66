package server_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/ledger"
)

// TestAWorkloadGetsACredentialThatDiesWithItsLease follows one lease through everything that is real.
func TestAWorkloadGetsACredentialThatDiesWithItsLease(t *testing.T) {
	r := newRig(t).start(t)
	lease := acquire(t, r.workload(t, testissuer.Run{}))
	if got := lease.Info().State; got != "active" {
		t.Errorf("the lease is %s", got)
	}
	database := lease.Credential.Secret("url").Reveal()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	var note string
	if err := conn.QueryRow(t.Context(), "select note from public.orders").Scan(&note); err != nil || note != "first" {
		t.Errorf("read %q, %v", note, err)
	}
	released, err := lease.Release(t.Context(), 10*time.Second)
	if err != nil || released.State != "revoked" {
		t.Fatalf("released: %+v, %v", released, err)
	}
	if err := conn.QueryRow(t.Context(), "select 1").Scan(new(int)); err == nil {
		t.Error("the session lives on")
	}
	if conn, err := pgx.Connect(t.Context(), database); err == nil {
		conn.Close(t.Context())
		t.Error("the login still works")
	}
	r.verifyLedger(t, lease.Receipt)
}

func TestALockEndsLeasesAndRefusesNewOnes(t *testing.T) {
	r := newRig(t).start(t)
	workload := r.workload(t, testissuer.Run{})
	lease := acquire(t, workload)
	lock, err := r.administrator(t).Lock(t.Context(), api.LockRequest{Match: api.Match{Role: "orders-readonly"}, Reason: "a test"})
	if err != nil || lock.Hits != 1 {
		t.Fatalf("lock: %+v, %v", lock, err)
	}
	if _, err := workload.Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"}); err == nil {
		t.Error("a locked role was granted")
	}
	info, err := lease.Read(t.Context())
	for err == nil && info.State == "active" { // live leases end right after, not before the answer
		info, err = lease.Read(t.Context())
	}
	released, err := lease.Release(t.Context(), 10*time.Second) // which waits for the proof
	if err != nil || released.State != "revoked" || released.Reason != "locked" {
		t.Errorf("the lease is %s (%s), %v", released.State, released.Reason, err)
	}
	if _, err := r.administrator(t).Unlock(t.Context(), lock.ID); err != nil {
		t.Fatal(err)
	}
	acquire(t, workload)
	r.verifyLedger(t, lease.Receipt)
}

func TestLeasesOutliveARestart(t *testing.T) {
	r := newRig(t).start(t)
	lease := acquire(t, r.workload(t, testissuer.Run{}))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	again := r.administrator(t).Handle(lease.ID(), lease.Token())
	info, err := again.Read(t.Context())
	if err != nil || info.State != "active" {
		t.Fatalf("after the restart: %+v, %v", info, err)
	}
	released, err := again.Release(t.Context(), 10*time.Second)
	if err != nil || released.State != "revoked" || released.Reason != "released" {
		t.Errorf("released: %+v, %v", released, err)
	}
}

// Whoever writes access files asks for a role with power; who runs the server says whether they get it.
func TestTheServersConfigurationAllowsRolesWithPower(t *testing.T) {
	r := newRig(t)
	r.must(t, "create table public.others (id int)", "grant pg_read_all_data to "+r.admin+" with admin option")
	r.write(t, "access/access.yaml", strings.Replace(r.accessFile(), "grants: [{privileges: [SELECT], on: tables, schema: public}]", "in_role: [pg_read_all_data]", 1))
	r.start(t)
	if _, err := r.workload(t, testissuer.Run{}).Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"}); err == nil {
		t.Error("it was given to a server that does not allow it")
	}
	if !strings.Contains(r.log.String(), "write postgres: {allow_roles: [pg_read_all_data]} into daypass.yaml") {
		t.Error("the log does not say what to write where")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.cfg.Postgres.AllowRoles = []string{"pg_read_all_data"}
	r.start(t)
	lease := acquire(t, r.workload(t, testissuer.Run{}))
	conn, err := pgx.Connect(t.Context(), lease.Credential.Secret("url").Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "select * from public.others"); err != nil {
		t.Error(err)
	}
}

// verifyLedger exports the ledger and verifies it against receipts.
func (r *rig) verifyLedger(t *testing.T, receipts ...string) {
	t.Helper()
	var export bytes.Buffer
	if err := r.administrator(t).ExportLedger(t.Context(), &export); err != nil {
		t.Fatal(err)
	}
	report, err := ledger.VerifyExport(&export, []string{r.VerifierKey()}, receipts, time.Now())
	if err != nil || report.Held != len(receipts) {
		t.Errorf("the ledger does not verify: %+v, %v", report, err)
	}
}
