package server_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/installation"
	"github.com/daypass/daypass/internal/server"
	"github.com/daypass/daypass/internal/testissuer"
)

// BenchmarkToken is an acquisition where no target is called, by 64 callers: a token in (RS256), verified, decided,
// recorded in a durable transaction, a token out (ES256) with its receipt; everything but the network.
func BenchmarkToken(b *testing.B) {
	s, tokens := tokenDesk(b)
	var n atomic.Int64
	besideFloor(b, func() bool {
		request := httptest.NewRequest("POST", "/v1/leases", strings.NewReader(`{"role":"deploy"}`))
		request.Header.Set("Authorization", "Bearer "+tokens[int(n.Add(1))%len(tokens)])
		request.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		s.Handler().ServeHTTP(recorder, request)
		if recorder.Code != 201 {
			b.Error(recorder.Body)
		}
		return recorder.Code == 201
	})
}

// besideFloor measures work by 64 callers in turns with its floor, what nobody can do without: one verification (RS256)
// and one signature (ES256). The two share whatever else the machine does, so that their ratio is what counts; that of
// their processor time does not even see the waiting for the disk.
func besideFloor(b *testing.B, work func() bool) {
	b.Helper()
	const turn = 1000
	crypto := floor(b)
	if !work() { // the first one makes keys
		return
	}
	var bound, spent effort
	runtime.GC()
	b.ResetTimer()
	for left := b.N; left > 0 && !b.Failed(); left -= turn {
		ops := min(turn, left)
		bound.add(func() { crowd(ops, func() bool { crypto(); return true }) })
		spent.add(func() { crowd(ops, work) })
	}
	b.StopTimer()
	b.ReportMetric(float64(spent.wall.Nanoseconds())/float64(b.N), "ns/op")
	b.ReportMetric(float64(spent.processor.Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(bound.processor.Microseconds())/float64(b.N), "floor-cpu-µs/op")
	b.ReportMetric(100*bound.wall.Seconds()/spent.wall.Seconds(), "%-of-bound")
	b.ReportMetric(100*bound.processor.Seconds()/spent.processor.Seconds(), "%-of-bound-by-cpu")
}

// crowd does something n times, by 64 callers.
func crowd(n int, work func() bool) {
	var callers sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(n))
	for range 64 {
		callers.Go(func() {
			for left.Add(-1) >= 0 && work() {
			}
		})
	}
	callers.Wait()
}

// effort is what something took, of the clock and of the processors.
type effort struct{ wall, processor time.Duration }

func (e *effort) add(work func()) {
	begun, used := time.Now(), processorTime()
	work()
	e.wall += time.Since(begun)
	e.processor += processorTime() - used
}

func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// floor returns the cryptography of one request.
func floor(b *testing.B) (work func()) {
	b.Helper()
	theirs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	ours, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("a token"))
	signature, err := rsa.SignPKCS1v15(nil, theirs, crypto.SHA256, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		if err := rsa.VerifyPKCS1v15(&theirs.PublicKey, crypto.SHA256, digest[:], signature); err != nil {
			b.Error(err)
		}
		if _, _, err := ecdsa.Sign(rand.Reader, ours, digest[:]); err != nil {
			b.Error(err)
		}
	}
}

// tokenDesk is a server with a role of the kind oidc-token, and tokens of 64 workloads that may have it.
func tokenDesk(b *testing.B) (*server.Server, []string) {
	b.Helper()
	theirs, err := testissuer.Start(testissuer.Options{Now: time.Now, Algorithm: "RS256"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { theirs.Close() })
	r := &rig{dir: b.TempDir()}
	r.write(b, "access/access.yaml", fmt.Sprintf(`{kind: Issuer, name: github, preset: github-actions, oidc: {url: %q}}
---
{kind: Target, name: services, oidc-token: {}}
---
{kind: Role, name: deploy, target: services, oidc-token: {audience: sts.example.com, algorithm: ES256}}
`, theirs.URL()))
	r.write(b, "access/policy.cedar", `permit (principal is GitHub::Workload, action == Action::"acquire", resource == Role::"deploy") when { principal.claims.ref == "refs/heads/main" };`)
	cfg := config.Config{
		Listen: "127.0.0.1:0", Socket: "none", SecretsDir: r.dir, Access: filepath.Join(r.dir, "access"),
		Store: "sqlite://" + filepath.Join(r.dir, "daypass.db"), MasterKey: "file://" + filepath.Join(r.dir, "master.key"),
		Limits: config.Limits{AcquireRate: 1e6, LeasesPerPrincipal: 1 << 30},
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	if _, err := installation.Init(ctx, cfg); err != nil {
		b.Fatal(err)
	}
	s, err := server.New(ctx, cfg, server.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	var tokens []string
	for n := range 64 {
		tokens = append(tokens, theirs.Token(theirs.GitHub(testissuer.Run{Audience: s.URL(), Repository: fmt.Sprintf("acme/orders-%d", n)})))
	}
	return s, tokens
}
