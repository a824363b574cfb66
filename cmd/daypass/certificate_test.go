package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/internal/testspiffe"
)

// TestCertificateScripts runs scripts from the chair of a workload that is known by a certificate: the binary's own server
// with TLS, an authority of the workloads, and a real PostgreSQL.
func TestCertificateScripts(t *testing.T) {
	postgres := testbed.SharedPostgres(t, 15)
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/certificates",
		RequireUniqueNames: true,
		Cmds:               withCertificates(t, servedCommands()),
		Setup: func(e *testscript.Env) error {
			return errors.Join(furnish(t, e, postgres), furnishTLS(t, e))
		},
	})
}

// withCertificates adds to the other commands:
//
//	certify NAME ID [LIFE]   writes NAME.crt and NAME.key of a client that has an ID, a DNS name or a SPIFFE ID
//	agent                    starts an agent of the SPIFFE trust domain mesh.example, and writes its bundle to secrets/mesh.json
//	knows [ID…]              says what the agent knows of the workload; again the same: it replaces the certificates
//	asked AUDIENCE           compares the audiences of the tokens that the agent was asked for
//	await FILE               waits until it is there
func withCertificates(t *testing.T, commands map[string]func(*testscript.TestScript, bool, []string)) map[string]func(*testscript.TestScript, bool, []string) {
	commands["certify"] = func(ts *testscript.TestScript, _ bool, args []string) {
		life := time.Hour
		if len(args) > 2 {
			var err error
			life, err = time.ParseDuration(args[2])
			ts.Check(err)
		}
		template := &x509.Certificate{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if id, err := url.Parse(args[1]); err == nil && id.Scheme == "spiffe" {
			template.URIs = []*url.URL{id}
		} else {
			template.DNSNames, template.Subject = []string{args[1]}, pkix.Name{CommonName: args[1]}
		}
		ts.Check(certify(t, ts.Value(authority{}).(identitytest.Authority), template, ts.MkAbs(args[0])))
	}
	commands["agent"] = func(ts *testscript.TestScript, _ bool, _ []string) {
		dir, err := os.MkdirTemp("", "daypass") // short: a socket's path has at most 107 bytes
		ts.Check(err)
		ts.Defer(func() { os.RemoveAll(dir) })
		domain, err := testspiffe.Start(testspiffe.Options{Domain: "mesh.example", Socket: filepath.Join(dir, "agent.sock"), Now: time.Now})
		ts.Check(err)
		ts.Defer(domain.Close)
		bundle, err := domain.Bundle()
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs("secrets/mesh.json"), bundle, 0o600))
		ts.Setenv("SPIFFE_ENDPOINT_SOCKET", domain.Endpoint())
		*ts.Value(mesh{}).(**testspiffe.Domain) = domain
	}
	commands["knows"] = func(ts *testscript.TestScript, _ bool, ids []string) {
		(*ts.Value(mesh{}).(**testspiffe.Domain)).Know(ids...)
	}
	commands["asked"] = func(ts *testscript.TestScript, _ bool, args []string) {
		all := (*ts.Value(mesh{}).(**testspiffe.Domain)).Asked()
		for _, audiences := range all {
			if !slices.Equal(audiences, args) {
				ts.Fatalf("the agent was asked for tokens for %q", all)
			}
		}
		if len(all) == 0 {
			ts.Fatalf("the agent was asked for no token")
		}
	}
	commands["await"] = func(ts *testscript.TestScript, _ bool, args []string) {
		tick, late := time.NewTicker(20*time.Millisecond), time.After(60*time.Second)
		defer tick.Stop()
		for {
			if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
				return
			}
			select {
			case <-tick.C:
			case <-late:
				ts.Fatalf("%s is not there", args[0])
			}
		}
	}
	return commands
}

// mesh is where a script keeps its agent.
type mesh struct{}

// authority is where a script keeps the authority of its certificates.
type authority struct{}

// certify writes a certificate and its key.
func certify(t *testing.T, by identitytest.Authority, template *x509.Certificate, name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	leaf := by.Issue(t, template, key.Public())
	return errors.Join(
		os.WriteFile(name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}), 0o600),
		os.WriteFile(name+".serial", []byte(leaf.SerialNumber.Text(16)), 0o600),
		os.WriteFile(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}), 0o600))
}

// furnishTLS gives the installation of a script TLS, a role whose leases are short, and workloads without tokens.
func furnishTLS(t *testing.T, e *testscript.Env) error {
	ca := identitytest.NewAuthority(t, "example.org", time.Now())
	ca.Certificate = selfMade(t, ca)
	work, inside := e.WorkDir, e.Getenv("DAYPASS_URL")
	outside := strings.Replace(inside, "http:", "https:", 1)
	e.Values[authority{}], e.Values[mesh{}] = ca, new(*testspiffe.Domain)
	e.Setenv("DAYPASS_URL", outside)
	e.Setenv("DAYPASS_CA_FILE", filepath.Join(work, "secrets", "ca.pem"))
	e.Setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "")
	server := &x509.Certificate{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	config, err := os.ReadFile(filepath.Join(work, "daypass.yaml"))
	plant := spiffebundle.New(spiffeid.RequireTrustDomainFromString("example.org"))
	plant.AddX509Authority(ca.Certificate)
	bundle, err2 := plant.Marshal()
	return errors.Join(err, err2, certify(t, ca, server, filepath.Join(work, "server")),
		os.WriteFile(filepath.Join(work, "secrets", "plant.json"), bundle, 0o600),
		os.WriteFile(filepath.Join(work, "secrets", "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate.Raw}), 0o600),
		os.WriteFile(filepath.Join(work, "daypass.yaml"), []byte(strings.Replace(string(config), inside, outside, 1)+
			"tls: {certificate: "+work+"/server.crt, key: "+work+"/server.key}\n"), 0o600),
		os.WriteFile(filepath.Join(work, "access", "brief.yaml"), []byte(briefRole), 0o600))
}

// selfMade is the certificate of an authority with the name of a SPIFFE trust domain, too.
func selfMade(t *testing.T, ca identitytest.Authority) *x509.Certificate {
	template := *ca.Certificate
	template.URIs = []*url.URL{{Scheme: "spiffe", Host: "example.org"}}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, ca.Key.Public(), ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(fmt.Errorf("read the authority: %w", err))
	}
	return certificate
}

const briefRole = `kind: Role
name: brief
target: orders-db
ttl: {default: 4s, max: 1h}
postgres:
  grants: [{privileges: [SELECT], on: tables, schema: public}]
`
