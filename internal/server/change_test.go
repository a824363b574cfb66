package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/installation"
	"github.com/daypass/daypass/internal/server"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/internal/testissuer"
)

// withoutTarget is an access file that keeps the issuer alone.
func (r *rig) withoutTarget() map[string]string {
	issuer, _, _ := strings.Cut(r.accessFile(), "---")
	return map[string]string{"access.yaml": issuer}
}

func TestATargetThatLeftEndsItsLeasesAlsoAfterARestart(t *testing.T) {
	r := newRig(t).start(t)
	lease := acquire(t, r.workload(t, testissuer.Run{}))
	applied, err := r.administrator(t).ApplyAccess(t.Context(), r.withoutTarget(), "")
	if err != nil || !strings.Contains(fmt.Sprint(applied.Notes), "drains") {
		t.Fatalf("apply: %+v, %v", applied, err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	status, err := r.administrator(t).Status(t.Context())
	if err != nil || len(status.Targets) != 1 || !status.Targets[0].Draining {
		t.Fatalf("status: %+v, %v", status, err)
	}
	released, err := r.administrator(t).Handle(lease.ID(), lease.Token()).Release(t.Context(), 20*time.Second)
	if err != nil || released.State != "revoked" {
		t.Errorf("released: %+v, %v", released, err)
	}
	if conn, err := pgx.Connect(t.Context(), lease.Credential.Secret("url").Reveal()); err == nil {
		conn.Close(t.Context())
		t.Error("the login still works")
	}
}

func TestAnotherServerInTheTargetsPlaceProvesNothing(t *testing.T) {
	r := newRig(t).start(t)
	lease := acquire(t, r.workload(t, testissuer.Run{}))
	// The same administrator at another database, where the mark is not.
	other := r.postgres.Database(t)
	moved := strings.Replace(r.accessFile(), "/"+r.database+"?", "/"+other+"?", 1)
	if _, err := r.administrator(t).ApplyAccess(t.Context(), map[string]string{"access.yaml": moved, "policy.cedar": allowMain}, ""); err != nil {
		t.Fatal(err)
	}
	released, err := r.administrator(t).Handle(lease.ID(), lease.Token()).Release(t.Context(), 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), lease.Credential.Secret("url").Reveal())
	if err == nil {
		conn.Close(t.Context())
	}
	if works := err == nil; works && released.State == "revoked" {
		t.Error("the lease is called revoked and its login works")
	}
	// Back to where it was: the lease is revoked for real.
	back := map[string]string{"access.yaml": r.accessFile(), "policy.cedar": allowMain}
	if _, err := r.administrator(t).ApplyAccess(t.Context(), back, ""); err != nil {
		t.Fatal(err)
	}
	if released, err = r.administrator(t).Handle(lease.ID(), lease.Token()).Release(t.Context(), 30*time.Second); err != nil || released.State != "revoked" {
		t.Errorf("released: %+v, %v", released, err)
	}
}

// THREAT_MODEL P9: at activation, without another grant and whether or not the target answers just then.
func TestARoleThatIsNarrowedReachesItsLiveLeasesAtActivation(t *testing.T) {
	r := newRig(t)
	r.must(t, "create table public.items (id int)", fmt.Sprintf("grant select on public.items to %s with grant option", r.admin))
	road := testbed.StartProxy(t, r.postgres.Address())
	file := strings.Replace(r.accessFile(), r.postgres.Address(), road.Address(), 1)
	file = strings.Replace(file, "orders-db}}", fmt.Sprintf("orders-db}}\nclient: {host: %s, port: %d}", r.postgres.Host, r.postgres.Port), 1)
	r.write(t, "access/access.yaml", file)
	r.start(t)
	lease := acquire(t, r.workload(t, testissuer.Run{}))
	conn, err := pgx.Connect(t.Context(), lease.Credential.Secret("url").Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	may := func(table string) bool {
		_, err := conn.Exec(t.Context(), "select * from public."+table)
		return err == nil
	}
	apply := func(names string) {
		t.Helper()
		files := map[string]string{"policy.cedar": allowMain, "access.yaml": strings.Replace(file, "schema: public}", "schema: public, names: ["+names+"]}", 1)}
		if _, err := r.administrator(t).ApplyAccess(t.Context(), files, ""); err != nil {
			t.Fatal(err)
		}
	}
	lost := func(table string) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); may(table); <-time.After(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the live lease reads %s, which its role has lost", table)
			}
		}
	}
	if !may("items") || !may("orders") {
		t.Fatal("the lease does not read")
	}
	apply("items, orders")
	apply("orders")
	lost("items")
	if !may("orders") {
		t.Error("the lease lost what its role holds")
	}
	road.Set(testbed.Hold)
	begun := time.Now()
	apply("items")
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the activation waited %v for its target", took)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if !may("orders") {
		t.Fatal("the target was reached over a road that holds everything")
	}
	road.Heal()
	r.start(t)
	lost("orders")
}

func TestARevisionThatWasRolledBackStaysRolledBack(t *testing.T) {
	r := newRig(t).start(t)
	admin := r.administrator(t)
	before, err := admin.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "access/policy.cedar", allowMain+"// changed\n")
	r.Reload(t.Context())
	after, err := admin.Status(t.Context())
	if err != nil || after.Revision == before.Revision {
		t.Fatalf("the change was not activated: %v", err)
	}
	if _, err := admin.ActivateAccess(t.Context(), before.Revision, ""); err != nil {
		t.Fatal(err)
	}
	r.Reload(t.Context())
	if now, err := admin.Status(t.Context()); err != nil || now.Revision != before.Revision {
		t.Errorf("the roll-back was undone: %v", err)
	}
	r.write(t, "access/policy.cedar", "permit (principal, action")
	r.Reload(t.Context())
	if now, err := admin.Status(t.Context()); err != nil || now.Revision != before.Revision {
		t.Errorf("a bad directory changed what is active: %v", err)
	}
}

func TestActivationDisturbsNothingThatStays(t *testing.T) {
	r := newRig(t).start(t)
	acquire(t, r.workload(t, testissuer.Run{}))
	fetched := r.issuer.Fetches()
	for i := range 3 {
		files := map[string]string{"access.yaml": r.accessFile(), "policy.cedar": fmt.Sprintf("%s// %d\n", allowMain, i)}
		if _, err := r.administrator(t).ApplyAccess(t.Context(), files, ""); err != nil {
			t.Fatal(err)
		}
		acquire(t, r.workload(t, testissuer.Run{}))
	}
	if now := r.issuer.Fetches(); now.Keys != fetched.Keys {
		t.Errorf("the issuer was asked %d times more", now.Keys-fetched.Keys)
	}
	if strings.Contains(r.log.String(), "a target is made anew") {
		t.Error("the target was made anew")
	}
}

func TestMistakesComeBackWithTheirPlaces(t *testing.T) {
	r := newRig(t).start(t)
	files := map[string]string{
		"access.yaml":  strings.Replace(r.accessFile(), "orders-db}}", "../../etc/passwd}}", 1),
		"policy.cedar": `permit (principal, action == Action::"acquire", resource == Role::"none");`,
	}
	check, err := r.administrator(t).CheckAccess(t.Context(), files)
	if err != nil || len(check.Errors) != 2 || check.Errors[0].Line == 0 || check.Errors[1].Line == 0 {
		t.Errorf("check: %+v, %v", check, err)
	}
	if _, err := r.administrator(t).ApplyAccess(t.Context(), files, ""); err == nil || !strings.Contains(err.Error(), "2 mistakes") {
		t.Errorf("apply: %v", err)
	}
}

// Whoever writes access files names the certificates that workloads get.
func TestAPasswordDoesNotPassForACertificate(t *testing.T) {
	r := newRig(t).start(t)
	files := map[string]string{"access.yaml": strings.Replace(r.accessFile(), "password: {file: orders-db}}",
		"password: {file: orders-db}}\nclient: {ca: {file: orders-db}}", 1), "policy.cedar": allowMain}
	_, err := r.administrator(t).ApplyAccess(t.Context(), files, "")
	if err == nil || !strings.Contains(err.Error(), "no certificate") || strings.Contains(err.Error(), adminPassword) {
		t.Errorf("apply: %v", err)
	}
}

func TestReadinessTellsWhy(t *testing.T) {
	r := newRig(t)
	if err := os.RemoveAll(filepath.Join(r.dir, "access")); err != nil {
		t.Fatal(err)
	}
	r.cfg.Access = ""
	r.start(t)
	response, err := http.Get(r.URL() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("ready without an access configuration: %d", response.StatusCode)
	}
	if _, err := r.administrator(t).ApplyAccess(t.Context(), map[string]string{"access.yaml": r.accessFile(), "policy.cedar": allowMain}, ""); err != nil {
		t.Fatal(err)
	}
	if response, err = http.Get(r.URL() + "/readyz"); err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("not ready: %v, %v", response.StatusCode, err)
	}
	response.Body.Close()
}

// writeCertificate writes a fresh certificate for loopback, and returns a pool that trusts it.
func (r *rig) writeCertificate(t *testing.T, serial int64) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "tls.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	r.write(t, "tls.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	pool := x509.NewCertPool()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(certificate)
	return pool
}

// over says what a connection that trusts pool looks like.
func (r *rig) over(t *testing.T, pool *x509.CertPool) (*tls.ConnectionState, error) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
	response, err := c.Get(r.URL() + "/healthz")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.ProtoMajor != 2 {
		t.Errorf("it speaks %s", response.Proto)
	}
	return response.TLS, nil
}

func TestACertificateIsReplacedWithoutARestart(t *testing.T) {
	r := newRig(t)
	first := r.writeCertificate(t, 1)
	r.cfg.TLS.Certificate, r.cfg.TLS.Key = filepath.Join(r.dir, "tls.crt"), filepath.Join(r.dir, "tls.key")
	r.start(t)
	if state, err := r.over(t, first); err != nil || state.Version < tls.VersionTLS12 {
		t.Fatalf("the first: %v", err)
	}
	second := r.writeCertificate(t, 2)
	r.Reload(t.Context())
	if _, err := r.over(t, second); err != nil {
		t.Errorf("the second: %v", err)
	}
	r.write(t, "tls.crt", "no certificate")
	r.Reload(t.Context())
	if _, err := r.over(t, second); err != nil {
		t.Errorf("a bad one took the place of a good one: %v", err)
	}
}

func TestStoppingAnswersWhatIsUnderWay(t *testing.T) {
	r := newRig(t).start(t)
	workload := r.workload(t, testissuer.Run{})
	acquire(t, workload)
	type outcome struct {
		lease *client.Lease
		err   error
	}
	const callers = 8
	outcomes := make(chan outcome, callers)
	for range callers {
		go func() {
			lease, err := workload.Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"})
			outcomes <- outcome{lease, err}
		}()
	}
	one := <-outcomes
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	answered := []outcome{one}
	for range callers - 1 {
		answered = append(answered, <-outcomes)
	}
	r.start(t)
	known := map[string]bool{}
	for lease, err := range r.administrator(t).Leases(t.Context(), client.Filter{State: "active"}) {
		if err != nil {
			t.Fatal(err)
		}
		known[lease.ID] = true
	}
	held := 1
	for _, o := range answered {
		if o.err == nil {
			held++
			if !known[o.lease.ID()] {
				t.Errorf("lease %s was answered and is not on the record", o.lease.ID())
			}
		}
	}
	if len(known) != held {
		t.Errorf("%d leases live, callers hold %d", len(known), held)
	}
}

func TestAServerThatCannotListenLetsGoOfItsStore(t *testing.T) {
	r := newRig(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := installation.Init(t.Context(), r.cfg); err != nil {
		t.Fatal(err)
	}
	busy := r.cfg
	busy.Listen = taken.Addr().String()
	if _, err := server.New(t.Context(), busy, server.Options{}); err == nil {
		t.Fatal("it listens on an address that is taken")
	}
	r.start(t)
}

func TestATargetWithoutItsSecretKeepsNobodyElseFromServing(t *testing.T) {
	r := newRig(t).start(t)
	acquire(t, r.workload(t, testissuer.Run{}))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(r.dir, "secrets/orders-db")
	if err := os.Rename(secret, secret+".gone"); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	if _, err := r.workload(t, testissuer.Run{}).Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"}); err == nil {
		t.Error("a target without its secret granted")
	}
	status, err := r.administrator(t).Status(t.Context())
	if err != nil || !strings.Contains(fmt.Sprint(status.Warnings), "not in service") || strings.Contains(fmt.Sprint(status), adminPassword) {
		t.Errorf("status: %+v, %v", status, err)
	}
	if err := os.Rename(secret+".gone", secret); err != nil {
		t.Fatal(err)
	}
	r.Reload(t.Context())
	acquire(t, r.workload(t, testissuer.Run{}))
}

// TestThePasswordOfTheAdministratorCanChange replaces it at the server and in the file, under live leases.
func TestThePasswordOfTheAdministratorCanChange(t *testing.T) {
	r := newRig(t).start(t)
	lease := acquire(t, r.workload(t, testissuer.Run{}))
	r.must(t, fmt.Sprintf("alter role %s password 'another-one'", r.admin))
	r.write(t, "secrets/orders-db", "another-one")
	r.Reload(t.Context())
	acquire(t, r.workload(t, testissuer.Run{}))
	released, err := lease.Release(t.Context(), 20*time.Second)
	if err != nil || released.State != "revoked" {
		t.Errorf("released: %+v, %v", released, err)
	}
}
