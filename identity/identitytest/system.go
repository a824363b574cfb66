package identitytest

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

// PEM returns certificates as files hold them.
func PEM(all ...*x509.Certificate) []byte {
	var text []byte
	for _, c := range all {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

// MainTrusting runs the tests of a process whose system trusts one authority, which it hands to tell, and no other: what an
// authority of the system signed must not count for a verifier that has its own. Call it in TestMain, since the library
// reads the system's authorities once, and exit with what it returns.
func MainTrusting(m *testing.M, tell func(Authority)) int {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	system := NewAuthority(beforeTests{}, "The system's", NewClock().Now())
	file := filepath.Join(dir, "roots.pem")
	if err := os.WriteFile(file, PEM(system.Certificate), 0o600); err != nil {
		panic(err)
	}
	for name, value := range map[string]string{"SSL_CERT_FILE": file, "SSL_CERT_DIR": dir} {
		if err := os.Setenv(name, value); err != nil { //nolint:forbidigo // the library reads it once for the process, and takes no value
			panic(err)
		}
	}
	tell(system)
	return m.Run()
}

// beforeTests lets helpers run before there is a test.
type beforeTests struct{ testing.TB }

func (beforeTests) Helper()            {}
func (beforeTests) Fatal(about ...any) { panic(about) }
