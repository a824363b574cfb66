package postgres_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/testbed"
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

func TestAServerThatWantsThePasswordInClearGetsNothing(t *testing.T) {
	server := testbed.OwnPostgres(t, testbed.PostgresOptions{Version: 15, HBA: []string{"host all postgres 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 password"}})
	r := newRig(t, server)
	p := r.open(t)
	if _, err := p.Now(t.Context()); err == nil {
		t.Error("the password was sent in clear")
	}
}
