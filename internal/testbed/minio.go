package testbed

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// MinIOVersion is the version that the tests run, as tools/minio pins it.
const MinIOVersion = "20260212201848"

// MinIO is one S3 server with an STS that verifies tokens of an OpenID Connect issuer.
type MinIO struct {
	URL      string
	User     string // the administrator's access key
	Password string // and its secret
	RoleARN  string // of the one role that tokens can take

	dir    string
	server *process
}

// MinIOOptions say whom it trusts.
type MinIOOptions struct {
	Issuer   string // URL; it must answer before MinIO starts, and may be http on the loopback
	Audience string
	Policy   string // what the role gives: readwrite, readonly, …
}

// cached finds a directory below .cache, or says how to fill it.
func cached(name, file, install string) (string, error) {
	cache := os.Getenv("DAYPASS_CACHE")
	if cache == "" {
		base, err := root()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(base, ".cache")
	}
	dir := filepath.Join(cache, name)
	if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
		return "", fmt.Errorf("%s is not in %s; install it: %s", filepath.Base(file), dir, install)
	}
	return dir, nil
}

// StartMinIO starts a server, and returns when it knows whom it trusts.
func StartMinIO(ctx context.Context, opt MinIOOptions) (*MinIO, error) {
	bin, err := cached("minio-"+MinIOVersion, "minio", "scripts/install-minio")
	if err != nil {
		return nil, err
	}
	base, err := scratch()
	if err != nil {
		return nil, err
	}
	hash := sha1.Sum([]byte(opt.Audience)) // which is how MinIO calls the one role of an issuer
	m := &MinIO{User: "root", Password: rand.Text(), RoleARN: "arn:minio:iam:::role/" + base64.RawURLEncoding.EncodeToString(hash[:]), dir: base}
	for range 5 { // another process may take a port between our look and the server's
		if err = m.start(ctx, filepath.Join(bin, "minio"), opt); err == nil {
			return m, nil
		}
		m.server.kill()
	}
	os.RemoveAll(base)
	return nil, err
}

// Stop ends the server and removes its data.
func (m *MinIO) Stop() error {
	m.server.kill()
	return os.RemoveAll(m.dir)
}

// OwnMinIO starts a server for one test, and stops it with the test.
func OwnMinIO(t testing.TB, opt MinIOOptions) *MinIO {
	t.Helper()
	m, err := StartMinIO(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m *MinIO) start(ctx context.Context, program string, opt MinIOOptions) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	m.URL = fmt.Sprintf("http://127.0.0.1:%d", port)
	settings := []string{
		"MINIO_ROOT_USER=" + m.User, "MINIO_ROOT_PASSWORD=" + m.Password, "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off", "MINIO_BROWSER=off",
		"MINIO_IDENTITY_OPENID_CONFIG_URL=" + opt.Issuer + "/.well-known/openid-configuration",
		"MINIO_IDENTITY_OPENID_CLIENT_ID=" + opt.Audience, "MINIO_IDENTITY_OPENID_ROLE_POLICY=" + opt.Policy, program,
	}
	args := append(settings, "server", "--quiet", "--address", fmt.Sprintf("127.0.0.1:%d", port), filepath.Join(m.dir, "data"))
	if m.server, err = startProcess(m.dir, "minio", "/usr/bin/env", args...); err != nil {
		return err
	}
	err = m.server.await(ctx, time.Minute, m.knowsRole)
	if err != nil {
		text, _ := os.ReadFile(filepath.Join(m.dir, "minio.log"))
		return fmt.Errorf("minio: %w\n%s", err, text[max(0, len(text)-2000):])
	}
	return nil
}

// knowsRole asks for a session with a token that is none. MinIO answers before it has read whom it trusts.
func (m *MinIO) knowsRole(ctx context.Context) error {
	form := url.Values{"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {m.RoleARN}, "WebIdentityToken": {"none"}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 2000))
	if err == nil && (answer.StatusCode != http.StatusBadRequest || strings.Contains(string(text), "is not defined")) {
		err = fmt.Errorf("its STS answers %d: %s", answer.StatusCode, text)
	}
	return err
}
