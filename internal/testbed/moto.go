package testbed

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// AWSTools is the directory, below the cache, of the AWS CLI and moto that the tests run.
const AWSTools = "aws-1.45.11-moto-5.2.1"

// motoServer is the program that runs moto.
//
//go:embed moto.py
var motoServer string

// Moto is an emulator of AWS. It verifies signatures and enforces the policies of IAM once [Moto.Enforce] was called. It
// is no evidence of anything about tokens, session policies or the life of sessions: it looks at none of them.
type Moto struct {
	URL     string
	Account string

	server *process
}

// AWSToolsPath finds the directory of [AWSTools], whose bin holds aws.
func AWSToolsPath() (string, error) { return cached(AWSTools, "complete", "scripts/install-aws") }

// OwnMoto starts an empty account for one test, and stops it with the test.
func OwnMoto(t testing.TB) *Moto {
	t.Helper()
	tools, err := AWSToolsPath()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := scratch()
	if err != nil {
		t.Fatal(err)
	}
	m := &Moto{Account: "123456789012"}
	t.Cleanup(func() {
		m.server.kill()
		os.RemoveAll(dir)
	})
	if err := os.WriteFile(filepath.Join(dir, "serve.py"), []byte(motoServer), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 5 { // another process may take a port between our look and the server's
		if err = m.start(t.Context(), dir, filepath.Join(tools, "bin", "python3")); err == nil {
			return m
		}
		m.server.kill()
	}
	t.Fatal(err)
	return nil
}

func (m *Moto) start(ctx context.Context, dir, python string) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	m.URL = fmt.Sprintf("http://127.0.0.1:%d", port)
	if m.server, err = startProcess(dir, "moto", python, "serve.py", "-H", "127.0.0.1", "-p", fmt.Sprint(port)); err != nil {
		return err
	}
	if err := m.server.await(ctx, time.Minute, func(ctx context.Context) error { return m.do(ctx, http.MethodGet, "/moto-api/data.json", "") }); err != nil {
		text, _ := os.ReadFile(filepath.Join(dir, "moto.log"))
		return fmt.Errorf("moto: %w\n%s", err, text[max(0, len(text)-2000):])
	}
	return nil
}

// Address returns host:port.
func (m *Moto) Address() string { return strings.TrimPrefix(m.URL, "http://") }

// Enforce makes it verify signatures and policies from now on, or no longer.
func (m *Moto) Enforce(t testing.TB, on bool) {
	t.Helper()
	free := "inf"
	if on {
		free = "0"
	}
	if err := m.do(t.Context(), http.MethodPost, "/moto-api/reset-auth", free); err != nil {
		t.Fatal(err)
	}
}

func (m *Moto) do(ctx context.Context, method, path, body string) error {
	request, err := http.NewRequestWithContext(ctx, method, m.URL+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "text/plain")
	answer, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 500))
		return fmt.Errorf("%s answers %d: %s", path, answer.StatusCode, text)
	}
	return nil
}

// AWS runs the official AWS CLI with these variables and nothing else of ours, and returns what it printed.
func AWS(ctx context.Context, t testing.TB, environment []string, args ...string) (string, error) {
	t.Helper()
	tools, err := AWSToolsPath()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(tools, "bin", "aws"), args...)
	home := t.TempDir()
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + home, "AWS_EC2_METADATA_DISABLED=true", "LC_ALL=C.UTF-8"}, environment...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
