package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// binaries builds what the demo shows.
func binaries(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+"/", "./cmd/daypass", "./internal/testissuer/cmd/testissuer")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// ownTemp gives the demo a directory for temporary files that PostgreSQL's account may pass through.
func ownTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "daypass-demo-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	return dir
}

// THREAT_MODEL promises 1, 2, 4 and 5: the demo checks each of its claims against the database itself, so it is a
// test of the whole.
func TestTheDemoHoldsWhatItClaims(t *testing.T) {
	bin, temp := binaries(t), ownTemp(t)
	var out bytes.Buffer
	err := run(t.Context(), &out, bin, false)
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "\x1b[") {
		t.Error("colours where there is no terminal")
	}
	nothingIsLeft(t, temp)
}

func TestAnInterruptedDemoLeavesNothingBehind(t *testing.T) {
	bin, temp := binaries(t), ownTemp(t)
	for _, moment := range []string{"The front desk", "A job on the main branch", "The kill switch"} {
		ctx, interrupt := context.WithCancel(t.Context())
		err := run(ctx, &interrupter{moment: moment, interrupt: interrupt}, bin, false)
		interrupt()
		if err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("interrupted at %q, the demo ended with: %v", moment, err)
		}
		nothingIsLeft(t, temp)
	}
}

// interrupter interrupts when a text is printed.
type interrupter struct {
	moment    string
	interrupt func()
}

func (i *interrupter) Write(b []byte) (int, error) {
	if strings.Contains(string(b), i.moment) {
		i.interrupt()
	}
	return len(b), nil
}

// nothingIsLeft checks for files and for children.
func nothingIsLeft(t *testing.T, temp string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(temp, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
	if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("a child is left: %d, %v", pid, err)
	}
}
