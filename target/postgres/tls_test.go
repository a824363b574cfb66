package postgres_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/postgres"
)

// certificate makes a certificate for the loopback address that is its own authority.
func certificate(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, bytes []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}))
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", sealed)
}

func TestTheServerIsVerified(t *testing.T) {
	public, private := certificate(t, "server")
	stranger, _ := certificate(t, "stranger")
	server := testbed.OwnPostgres(t, testbed.PostgresOptions{Version: 15, Files: map[string]string{"server.crt": public, "server.key": private}, Settings: map[string]string{"ssl": "on"}})
	r := newRig(t, server)
	for mode, want := range map[string]bool{"verify-full": true, "verify-ca": true, "require": true} {
		config := r.config(server.Address())
		config.Settings.URL = strings.Replace(config.Settings.URL, "sslmode=disable", "sslmode="+mode, 1)
		config.CA, config.ClientCA = public, public
		p := r.openConfig(t, config)
		_, err := p.Now(t.Context())
		if (err == nil) != want {
			t.Errorf("%s with the right authority: %v", mode, err)
		}
		if mode == "verify-full" {
			_, credential := r.grant(t, p, readers)
			if credential.Attributes["sslrootcert"] != public || credential.Attributes["sslmode"] != mode {
				t.Errorf("workloads are told %v", credential.Attributes)
			}
		}
		p.Close()
		config.CA = stranger
		p = r.openConfig(t, config)
		if _, err := p.Now(t.Context()); (err == nil) != (mode == "require") {
			t.Errorf("%s with another authority: %v", mode, err)
		}
		p.Close()
	}
}

// Whoever writes access files names the server that the administrator's credential is shown to.
func TestAServerLearnsThePasswordByNoOtherWayThanScram(t *testing.T) {
	for _, way := range []pgproto3.BackendMessage{&pgproto3.AuthenticationCleartextPassword{}, &pgproto3.AuthenticationMD5Password{}, &pgproto3.AuthenticationOk{}} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		said := make(chan string, 1)
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			backend := pgproto3.NewBackend(conn, conn)
			if _, err := backend.ReceiveStartupMessage(); err != nil {
				return
			}
			backend.Send(way)
			if backend.Flush() != nil {
				return
			}
			rest, _ := io.ReadAll(conn)
			said <- string(rest)
		}()
		config := postgres.Config{Instance: "abc234", Password: secret.New(adminPassword), Mark: target.Mark{Target: "x", Boot: 1},
			Settings: postgres.Settings{URL: "postgres://daypass@" + listener.Addr().String() + "/orders?sslmode=disable"}}
		p, err := postgres.New(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Now(t.Context()); err == nil {
			t.Errorf("%T was taken", way)
		}
		p.Close()
		if text := <-said; len(text) > 5 { // no more than a farewell
			t.Errorf("%T was answered by %q", way, text)
		}
	}
	for _, method := range []string{"password", "trust"} {
		server := testbed.OwnPostgres(t, testbed.PostgresOptions{Version: 15, HBA: []string{"host all postgres 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 " + method}})
		p := newRig(t, server).open(t)
		if _, err := p.Now(t.Context()); err == nil {
			t.Errorf("a server that asks for %s was taken", method)
		}
	}
}

func TestCheckNamesWeakSettings(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		config := r.config(r.server.Address())
		config.Settings.URL += "&channel_binding=disable"
		config.Client.Host = "db.example.com"
		text := findings(t, r.openConfig(t, config))
		for _, want := range []string{"warning: workloads are told sslmode=disable for db.example.com", "warning: channel_binding=disable"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in:\n%s", want, text)
			}
		}
	})
}
