package kubernetes_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

// road passes requests to the cluster, and keeps one of them: it arrives when it is let go, whoever sent it is gone.
type road struct {
	*httptest.Server
	rig *rig

	mu    sync.Mutex
	until int // requests that change something and pass before the one that is kept
	held  chan string
	goOn  chan struct{}
	late  chan int // what the cluster answered to the kept one
}

func newRoad(t *testing.T, r *rig, keep int) *road {
	w := &road{rig: r, until: keep, held: make(chan string, 1), goOn: make(chan struct{}), late: make(chan int, 1)}
	w.Server = httptest.NewTLSServer(http.HandlerFunc(w.pass))
	t.Cleanup(w.Close)
	return w
}

// ca is the road's own certificate.
func (w *road) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw}))
}

func (w *road) pass(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	kept := false
	if r.Method == http.MethodPost {
		w.mu.Lock()
		kept = w.until == 0
		w.until--
		w.mu.Unlock()
	}
	if kept {
		w.held <- r.URL.Path
		<-w.goOn
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	code, answer, err := w.rig.Do(context.WithoutCancel(r.Context()), token, r.Method, r.URL.RequestURI(), string(body))
	if err != nil {
		code = http.StatusBadGateway
	}
	if kept {
		w.late <- code
	}
	rw.WriteHeader(code)
	io.Copy(rw, bytes.NewReader(answer))
}

// TestAGrantThatArrivesLateOpensNothing keeps each request of a grant on the road, one after the other, until the lease is
// revoked.
func TestAGrantThatArrivesLateOpensNothing(t *testing.T) {
	for variant, steps := range map[string][]string{
		"an account per lease":              {"the record", "the anchor", "the account", "the binding", "the token"},
		"a token of an account that exists": {"the record", "the anchor", "the token"},
	} {
		for n, step := range steps {
			t.Run(variant+": "+step, func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				rights := r.perLease("reader")
				if len(steps) == 3 {
					rights = r.account()
				}
				arriveLate(t, r, rights, n, step)
			})
		}
	}
}

func arriveLate(t *testing.T, r *rig, rights json.RawMessage, n int, step string) {
	successor := r.open(t, r.Address())
	if err := successor.Meet(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := newRoad(t, r, n)
	cfg := r.config(w.Listener.Addr().String())
	cfg.CA = w.ca()
	doomed := openConfig(t, cfg)
	lease := targettest.Lease()
	ctx, giveUp := context.WithCancel(t.Context())
	granted := make(chan error, 1)
	go func() {
		_, err := doomed.Grant(ctx, target.Grant{Lease: lease, Role: "r", Rights: rights, TTL: time.Hour})
		granted <- err
	}()
	select {
	case path := <-w.held:
		t.Logf("kept: %s", path)
	case err := <-granted:
		t.Fatalf("the grant went through: %v", err)
	}
	giveUp()
	if err := <-granted; err == nil {
		t.Fatal("a grant without an answer was called done")
	}
	if err := successor.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	close(w.goOn)
	code := <-w.late
	refused := code == http.StatusConflict || code == http.StatusNotFound
	if inert := step == "the account" || step == "the binding"; refused == inert {
		t.Errorf("%s arrived late and got %d", step, code)
	}
	for left, err := range successor.Leases(t.Context()) {
		t.Errorf("lease %s is still listed (%v)", left, err)
	}
	// What arrived opens nothing, since no token names it, and is taken away in time.
	successor.KeepTombs(-time.Minute)
	if residue, err := successor.Clean(t.Context()); err != nil || residue != (target.Residue{}) {
		t.Errorf("clean: %+v, %v", residue, err)
	}
	r.nothingIsLeft(t, lease)
}

// nothingIsLeft looks for all that a lease may leave.
func (r *rig) nothingIsLeft(t *testing.T, lease string) {
	t.Helper()
	name := "dp-" + r.instance + "-" + lease
	for _, path := range []string{
		"/apis/coordination.k8s.io/v1/namespaces/" + r.space + "/leases/" + name,
		"/api/v1/namespaces/" + r.work + "/secrets/" + name + "-1",
		"/api/v1/namespaces/" + r.work + "/serviceaccounts/" + name,
		"/apis/rbac.authorization.k8s.io/v1/namespaces/" + r.work + "/rolebindings/" + name + "-0",
	} {
		if found, err := r.known(t.Context(), path); err != nil || found != nil {
			t.Errorf("left: %s (%v)", path, err)
		}
	}
}

// TestHowLongATokenOutlivesItsEnd measures what Revoke waits for. Its figures are in docs/howto/kubernetes.md.
func TestHowLongATokenOutlivesItsEnd(t *testing.T) {
	for variant, path := range map[string]string{"rights of a lease's own account": "configmaps", "a token": "token"} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			k := r.open(t, r.Address())
			lease := targettest.Lease()
			rights := r.perLease("reader")
			if path == "token" {
				rights = r.account()
			}
			c, err := k.Grant(t.Context(), target.Grant{Lease: lease, Role: "r", Rights: rights, TTL: time.Hour})
			if err == nil {
				err = r.try(t.Context(), c, r.configmaps())
			}
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			revoked := make(chan error, 1)
			go func() { revoked <- k.Revoke(t.Context(), lease) }()
			last := begun
			for r.try(t.Context(), c, r.configmaps()) == nil {
				last = time.Now()
				<-time.After(20 * time.Millisecond)
			}
			if err := <-revoked; err != nil {
				t.Fatal(err)
			}
			worked, took := last.Sub(begun), time.Since(begun)
			t.Logf("it worked for %v, and Revoke took %v", worked.Round(time.Millisecond), took.Round(time.Millisecond))
			if most := map[string]time.Duration{"configmaps": time.Second, "token": 11 * time.Second}[path]; worked > most {
				t.Errorf("it worked for %v, want at most %v", worked, most)
			}
			if err := r.try(t.Context(), c, r.configmaps()); err == nil || !strings.HasPrefix(err.Error(), fmt.Sprint(http.StatusUnauthorized)) {
				t.Errorf("after the proof: %v", err)
			}
		})
	}
}
