//go:build unix

package agent_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/agent"
	"github.com/daypass/daypass/secret"
)

// desk answers the calls of a run at the level of HTTP and remembers which leases it gave and got back.
type desk struct {
	*httptest.Server
	mu       sync.Mutex
	given    int
	roles    map[string]string // by lease
	released []string
	ends     bool   // leases are locked as soon as they are looked at
	after    string // a named pipe that the command writes to when it may be so
	shares   bool   // roles say `share: run`
	refusal  int    // the status that looking at a lease gets; 0: it is shown
}

func newDesk(t *testing.T) *desk {
	d := &desk{roles: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/leases", d.acquire)
	mux.HandleFunc("GET /v1/leases/{id}", func(w http.ResponseWriter, r *http.Request) {
		if d.refusal != 0 {
			w.Header().Set("Content-Type", api.MediaProblem)
			w.WriteHeader(d.refusal)
			json.NewEncoder(w).Encode(api.Problem{Status: d.refusal, Code: "refused", Detail: "no"})
			return
		}
		d.mu.Lock()
		lease := d.newLease(r.PathValue("id"))
		d.mu.Unlock()
		if d.after != "" {
			os.ReadFile(d.after)
		}
		if d.ends {
			lease.State, lease.Reason = "revoking", "locked"
		}
		json.NewEncoder(w).Encode(lease)
	})
	mux.HandleFunc("DELETE /v1/leases/{id}", func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.released = append(d.released, r.PathValue("id"))
		json.NewEncoder(w).Encode(d.newLease(r.PathValue("id")))
	})
	d.Server = httptest.NewServer(mux)
	t.Cleanup(d.Close)
	return d
}

func (d *desk) newLease(id string) api.Lease { // under mu
	now := time.Now()
	share := ""
	if d.shares {
		share = api.ShareRun
	}
	return api.Lease{ID: id, Role: d.roles[id], State: "active", CreatedAt: api.At(now), ExpiresAt: api.At(now.Add(time.Hour)), RenewableUntil: api.At(now.Add(2 * time.Hour)), Share: share}
}

func (d *desk) acquire(w http.ResponseWriter, r *http.Request) {
	var request api.AcquireRequest
	json.NewDecoder(r.Body).Decode(&request)
	if request.Role == "denied" {
		w.Header().Set("Content-Type", api.MediaProblem)
		w.WriteHeader(http.StatusForbidden)
		json.NewEncoder(w).Encode(api.Problem{Status: 403, Code: "denied", Detail: "no"})
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.given++
	d.roles[fmt.Sprintf("lease%d", d.given)] = request.Role
	fields := map[string]any{"username": "u", "password": "canary", "host": "db", "port": 5432, "database": "orders",
		"sslmode": "verify-full", "sslrootcert": "PEM", "url": "postgres://u:canary@db:5432/orders?sslmode=verify-full"}
	kind := "postgres"
	if request.Role == "alien" {
		kind = "alien"
	}
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(api.Acquired{Lease: d.newLease(fmt.Sprintf("lease%d", d.given)), LeaseToken: "t", Credential: api.Credential{Type: kind, Fields: fields}})
}

// run runs a command line under roles and returns what it printed and what was told.
func (d *desk) run(t *testing.T, roles []string, change func(*agent.Run), command ...string) (code int, out string, told string, err error) {
	t.Helper()
	c, err := client.New(client.Options{URL: d.URL, Token: client.StaticToken(secret.New("evidence"))})
	if err != nil {
		t.Fatal(err)
	}
	refs, err := agent.ParseRoles(roles)
	if err != nil {
		t.Fatal(err)
	}
	var stdout bytes.Buffer
	var mu sync.Mutex
	r := agent.Run{Client: c, Roles: refs, Command: command, Env: os.Environ(), Stdout: &stdout, Stderr: &stdout, Dir: t.TempDir(),
		Tell: func(line string) { mu.Lock(); defer mu.Unlock(); told += line + "\n" }}
	if change != nil {
		change(&r)
	}
	code, err = r.Do(t.Context())
	if left, _ := os.ReadDir(r.Dir); len(left) > 0 {
		t.Errorf("%v is left in the runtime directory", left)
	}
	if strings.Contains(told, "canary") || err != nil && strings.Contains(err.Error(), "canary") {
		t.Errorf("a secret is told: %s %v", told, err)
	}
	return code, stdout.String(), told, err
}

func TestTheCommandGetsTheCredentialAndGivesItsExitCode(t *testing.T) {
	d := newDesk(t)
	script := `echo $PGHOST $PGPORT $PGUSER $PGPASSWORD $PGDATABASE $PGSSLMODE $DATABASE_URL; echo [$PGHOSTADDR$PGSERVICE]
		cat $PGSSLROOTCERT; echo; stat -c %a $PGSSLROOTCERT $(dirname $PGSSLROOTCERT); exit 7`
	code, out, told, err := d.run(t, []string{"orders"}, func(r *agent.Run) {
		r.Env = append(r.Env, "PGHOST=elsewhere", "PGHOSTADDR=10.6.6.6", "PGSERVICE=evil", "PGPASSWORD=old")
	}, "sh", "-c", script)
	if err != nil || code != 7 {
		t.Fatalf("got %d, %v", code, err)
	}
	if !strings.HasPrefix(out, "db 5432 u canary orders verify-full postgres://u:canary@db:5432/orders?sslmode=verify-full&sslrootcert=") {
		t.Errorf("got %s", out)
	}
	for _, want := range []string{"\n[]\n", "\nPEM\n", "\n600\n700\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
	if len(d.released) != 1 || !strings.Contains(told, "lease1 released") {
		t.Errorf("released %v, told %s", d.released, told)
	}
}

func TestSecondRolesOfAKindTakeAPrefix(t *testing.T) {
	d := newDesk(t)
	code, out, _, err := d.run(t, []string{"orders", "REPORTS=reports"}, nil, "sh", "-c", "echo $PGUSER $REPORTS_PGUSER $REPORTS_DATABASE_URL")
	if code != 0 || err != nil || !strings.HasPrefix(out, "u u postgres://") || len(d.released) != 2 {
		t.Errorf("got %d, %q, %v; released %v", code, out, err, d.released)
	}
	code, _, _, err = d.run(t, []string{"orders", "reports"}, nil, "true")
	clash, ok := errors.AsType[*agent.ClashError](err)
	if code != agent.ExitOwn || !ok || clash.Variable != "PGHOST" || len(d.released) != 4 {
		t.Errorf("got %d, %v; released %v", code, err, d.released)
	}
}

func TestRoleReferencesAreCheckedBeforeAnythingIsAsked(t *testing.T) {
	for _, bad := range [][]string{{"Orders"}, {"orders", "orders"}, {"A=x", "A=y"}, {"a=x"}, {"=x"}, {"A="}, {""}, {"A-B=x"}, {"x/y"}} {
		if roles, err := agent.ParseRoles(bad); err == nil {
			t.Errorf("%q is accepted as %v", bad, roles)
		}
	}
	if roles, err := agent.ParseRoles([]string{"orders", "R=orders"}); err != nil || roles[1].String() != "R=orders" || roles[1].Prefix != "R_" {
		t.Errorf("got %v, %v", roles, err)
	}
}

func TestWhatCannotStartIsFoundOutBeforeALeaseWhereThatIsPossible(t *testing.T) {
	d := newDesk(t)
	dir := t.TempDir()
	plain, script := filepath.Join(dir, "plain"), filepath.Join(dir, "script")
	os.WriteFile(plain, []byte("x"), 0o600)
	os.WriteFile(script, []byte("#!/nonexistent/interpreter\n"), 0o700)
	for command, want := range map[string]int{"no-such-command": 127, "/no/such/file": 127, plain: 126, dir: 126, script: 127} {
		code, _, _, err := d.run(t, []string{"orders"}, nil, command)
		if code != want || err == nil {
			t.Errorf("%s: got %d, %v, want %d", command, code, err, want)
		}
	}
	if d.given != 1 || len(d.released) != 1 { // for the script alone
		t.Errorf("%d leases were given and %v came back", d.given, d.released)
	}
}

func TestAFailedAcquisitionGivesBackTheEarlierOnes(t *testing.T) {
	d := newDesk(t)
	code, _, _, err := d.run(t, []string{"orders", "D=denied"}, nil, "true")
	if problem, ok := errors.AsType[*api.Problem](err); code != agent.ExitOwn || !ok || problem.Code != "denied" || len(d.released) != 1 {
		t.Errorf("got %d, %v; released %v", code, err, d.released)
	}
	code, _, _, err = d.run(t, []string{"alien"}, nil, "true")
	if code != agent.ExitOwn || err == nil || len(d.released) != 2 {
		t.Errorf("got %d, %v; released %v", code, err, d.released)
	}
}

func TestACommandKilledByASignalGives128AndItsNumber(t *testing.T) {
	d := newDesk(t)
	if code, _, _, err := d.run(t, []string{"orders"}, nil, "sh", "-c", "kill -9 $$"); code != 137 || err != nil || len(d.released) != 1 {
		t.Errorf("got %d, %v; released %v", code, err, d.released)
	}
}

func TestALostLeaseEndsTheCommand(t *testing.T) {
	d := newDesk(t)
	d.ends = true
	code, _, told, _ := d.run(t, []string{"orders"}, nil, "sleep", "60")
	if code != 143 || !strings.Contains(told, "locked") {
		t.Errorf("got %d, told %s", code, told)
	}

	d.after = filepath.Join(t.TempDir(), "ready")
	if err := syscall.Mkfifo(d.after, 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, told, _ = d.run(t, []string{"orders"}, func(r *agent.Run) { r.Grace = time.Millisecond }, "sh", "-c",
		`trap "" TERM; echo > `+d.after+`; while :; do sleep 0.05; done`)
	if code != 137 || !strings.Contains(told, "killed") {
		t.Errorf("got %d, told %s", code, told)
	}

	d.after = ""
	release := filepath.Join(t.TempDir(), "go")
	code, _, told, _ = d.run(t, []string{"orders"}, func(r *agent.Run) {
		r.OnLoss = agent.Warn
		tell := r.Tell
		r.Tell = func(line string) {
			tell(line)
			if strings.Contains(line, "locked") {
				os.WriteFile(release, nil, 0o600)
			}
		}
	}, "sh", "-c", "until test -e "+release+"; do sleep 0.05; done")
	if code != 0 || !strings.Contains(told, "locked") {
		t.Errorf("got %d, told %s", code, told)
	}
}
