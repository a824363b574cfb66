package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/daypass/daypass/api"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"daypass": main})
}

// TestScripts runs scripts in which the server is a stub: what they prove is about this side of the wire, such as
// exit codes, signals and texts. What the server does is proved by TestServedScripts.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Cmds:               scriptCommands(),
		Setup: func(e *testscript.Env) error {
			stub := &stub{log: filepath.Join(e.WorkDir, "server.log"), leases: map[string]*api.Lease{}}
			server := httptest.NewServer(stub.routes())
			e.Defer(server.Close)
			e.Setenv("DAYPASS_URL", server.URL)
			e.Setenv("DAYPASS_TOKEN_FILE", filepath.Join(e.WorkDir, "token"))
			e.Setenv("DAYPASS_SOCKET", "")
			return os.WriteFile(filepath.Join(e.WorkDir, "token"), []byte("evidence\n"), 0o600)
		},
	})
}

// stub answers at the level of HTTP: the role says how.
type stub struct {
	log    string
	mu     sync.Mutex
	leases map[string]*api.Lease
}

func (s *stub) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/leases", s.acquire)
	mux.HandleFunc("GET /v1/leases/{id}", s.answer(nil))
	mux.HandleFunc("POST /v1/leases/{id}/renew", s.answer(func(l *api.Lease) { l.ExpiresAt = api.At(l.ExpiresAt.Add(time.Hour)) }))
	mux.HandleFunc("DELETE /v1/leases/{id}", s.answer(func(l *api.Lease) {
		l.State, l.Reason = "revoked", "released"
		s.write("released %s\n", l.Role)
	}))
	mux.HandleFunc("POST /lock", func(http.ResponseWriter, *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, l := range s.leases {
			l.State, l.Reason = "revoking", "locked"
		}
	})
	return mux
}

// write adds to a file that scripts look into.
func (s *stub) write(format string, args ...any) {
	file, err := os.OpenFile(s.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	fmt.Fprintf(file, format, args...)
}

// answer answers with a lease after a change to it.
func (s *stub) answer(change func(*api.Lease)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		lease, ok := s.leases[r.PathValue("id")]
		if !ok {
			refuse(w, api.Problem{Status: 404, Code: "not_found", Detail: "no such lease"})
			return
		}
		if change != nil {
			change(lease)
		}
		json.NewEncoder(w).Encode(lease)
	}
}

func (s *stub) acquire(w http.ResponseWriter, r *http.Request) {
	var request api.AcquireRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		panic(err)
	}
	problems := map[string]api.Problem{
		"unproven": {Status: 401, Code: "unauthenticated", Detail: "the token is not accepted"},
		"denied":   {Status: 403, Code: "denied", Detail: "no policy permits it", DecisionID: "d7q2"},
		"absent":   {Status: 404, Code: "not_found", Detail: "no such role"},
		"crowded":  {Status: 429, Code: "too_many", Detail: "5 leases are live", RetryAfter: 60},
		"down":     {Status: 503, Code: "target_unavailable", Detail: `target "db" does not answer`},
		"broken":   {Status: 500, Code: "internal", Detail: "something went wrong", Instance: "r42"},
		"evil":     {Status: 403, Code: "denied", Detail: "\x1b]0;owned\x07 \u202etxt"},
	}
	if p, ok := problems[request.Role]; ok {
		refuse(w, p)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write("acquired %s by %s reason=%q ttl=%v\n", request.Role, r.Header.Get("Authorization"), request.Reason, request.TTL)
	now, life := time.Now(), time.Hour
	if request.Role == "brief" {
		life = time.Minute // looked at every second
	}
	lease := &api.Lease{ID: fmt.Sprintf("mzxw6ytboi2hk3dpo5z%c", 'a'+len(s.leases)), Role: request.Role, Target: "db", State: "active",
		CreatedAt: api.At(now), ExpiresAt: api.At(now.Add(life)), RenewableUntil: api.At(now.Add(8 * time.Hour)), Revocation: "instant"}
	s.leases[lease.ID] = lease
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(api.Acquired{Lease: *lease, LeaseToken: "lease-token", Receipt: "daypass/receipt/v1\n\n— daypass AAAA\n",
		Credential: api.Credential{Type: "postgres", Fields: map[string]any{"username": "dp_x", "password": "it's $ecret", "host": "db.example.com",
			"port": 5432, "database": "orders", "sslmode": "disable", "url": "postgres://dp_x:pw@db.example.com:5432/orders"}}})
}

func refuse(w http.ResponseWriter, p api.Problem) {
	w.Header().Set("Content-Type", api.MediaProblem)
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// scriptCommands are what scripts can do besides the usual.
//
//	exits CODE command…              runs it and compares its exit code
//	signalled SIGNALS CODE command…  the same, and sends it each signal once it wrote to the named pipe `ready`; - is none
//	locked CODE command…             the same with a lock in place of signals
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits": func(ts *testscript.TestScript, _ bool, args []string) {
			code := 0
			if err := ts.Exec(args[1], args[2:]...); err != nil {
				exit, ok := errors.AsType[*exec.ExitError](err)
				if !ok {
					ts.Fatalf("%v", err)
				}
				code = exit.ExitCode()
			}
			expect(ts, args[0], code)
		},
		"signalled": func(ts *testscript.TestScript, _ bool, args []string) {
			command := start(ts, args[2:])
			for name := range strings.SplitSeq(args[0], ",") {
				ts.ReadFile("ready") // blocks until it is written to
				if name == "-" {
					break
				}
				ts.Check(command.Process.Signal(unix.SignalNum("SIG" + name)))
			}
			command.Wait()
			expect(ts, args[1], command.ProcessState.ExitCode())
		},
		"locked": func(ts *testscript.TestScript, _ bool, args []string) {
			command := start(ts, args[1:])
			ts.ReadFile("ready")
			response, err := http.Post(ts.Getenv("DAYPASS_URL")+"/lock", "", nil)
			ts.Check(err)
			response.Body.Close()
			command.Wait()
			expect(ts, args[0], command.ProcessState.ExitCode())
		},
	}
}

// expect compares exit codes.
func expect(ts *testscript.TestScript, want string, got int) {
	if strconv.Itoa(got) != want {
		ts.Fatalf("exit code %d, want %s", got, want)
	}
}

// prepare makes a command with what it needs of the script's environment.
func prepare(ts *testscript.TestScript, args []string) *exec.Cmd {
	command := exec.Command("sh", append([]string{"-c", `exec "$0" "$@"`}, args...)...)
	command.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "WORK", "DAYPASS_URL", "DAYPASS_SOCKET", "DAYPASS_TOKEN_FILE",
		"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"} {
		command.Env = append(command.Env, name+"="+ts.Getenv(name))
	}
	return command
}

// start starts a command whose output the script sees.
func start(ts *testscript.TestScript, args []string) *exec.Cmd {
	command := prepare(ts, args)
	command.Stdout, command.Stderr = ts.Stdout(), ts.Stderr()
	command.WaitDelay = time.Second // a child that outlives it keeps its output open
	ts.Check(command.Start())
	return command
}
