package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/internal/testbed"
)

// stage is what the story plays on: a database, an issuer, a server, and the directory with their files.
type stage struct {
	*printer
	bin, repository, dir string
	postgres             *testbed.Postgres
	cluster              *testbed.Kubernetes
	minio                *testbed.MinIO
	front                net.Listener // in front of the server
	issuer, server       *process
	url                  string // of the server
	tokens, bearer       string // where a job asks for its identity token, and with what
}

// example is the access directory that the demo applies, below the repository.
const example = "examples/orders"

func newStage(p *printer, bin string) (*stage, error) {
	repository, err := findRepository()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"daypass", "testissuer"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return nil, fmt.Errorf("%w (build it: make demo)", err)
		}
	}
	bin, err = filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "daypass-demo-")
	return &stage{printer: p, bin: bin, repository: repository, dir: dir}, err
}

// findRepository returns the directory with go.mod, at or above the working directory.
func findRepository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run the demo inside the repository: it uses " + example)
		}
		dir = filepath.Dir(dir)
	}
}

// close ends what runs and removes what is left.
func (s *stage) close() error {
	var all []error
	for _, p := range []*process{s.server, s.issuer} {
		if p != nil {
			all = append(all, p.stop(syscall.SIGTERM))
		}
	}
	if s.postgres != nil {
		all = append(all, s.postgres.Stop())
	}
	if s.cluster != nil {
		all = append(all, s.cluster.Stop())
	}
	if s.minio != nil {
		all = append(all, s.minio.Stop())
	}
	return errors.Join(append(all, os.RemoveAll(s.dir))...)
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// write makes a file that only we may read.
func (s *stage) write(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(s.path(name)), 0o700); err != nil {
		return err
	}
	return os.WriteFile(s.path(name), []byte(text), 0o600)
}

// startDatabase starts PostgreSQL with the example's table, and the administrator of our how-to.
func (s *stage) startDatabase(ctx context.Context) (err error) {
	if s.postgres, err = testbed.StartPostgres(ctx, testbed.PostgresOptions{}); err != nil {
		return err
	}
	if err := s.postgres.Exec(ctx, "postgres", "create database orders"); err != nil {
		return err
	}
	tables, err := os.ReadFile(filepath.Join(s.repository, example, "orders.sql"))
	if err != nil {
		return err
	}
	administrator, err := os.ReadFile(filepath.Join(s.repository, "docs/howto/postgres-administrator.sql"))
	if err != nil {
		return err
	}
	password := rand.Text()
	script, err := replace(string(administrator), "change-me", password)
	if err != nil {
		return err
	}
	if err := s.write("secrets/orders-db", password+"\n"); err != nil {
		return err
	}
	return s.postgres.Exec(ctx, "orders", string(tables), script)
}

// replace changes a text that must be there, so that an example and the demo cannot drift apart.
func replace(text, old, by string) (string, error) {
	if !strings.Contains(text, old) {
		return "", fmt.Errorf("the example does not hold %q any more", old)
	}
	return strings.ReplaceAll(text, old, by), nil
}

// startIssuer starts the issuer as a process of its own.
func (s *stage) startIssuer(ctx context.Context) (err error) {
	if s.issuer, err = start(filepath.Join(s.bin, "testissuer"), nil, s.environment()); err != nil {
		return err
	}
	for name, into := range map[string]*string{"ACTIONS_ID_TOKEN_REQUEST_URL": &s.tokens, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": &s.bearer} {
		value, err := s.issuer.line(ctx, "export "+name+"=")
		if err != nil {
			return err
		}
		*into = strings.Trim(value, "'")
	}
	return nil
}

// configure writes the server's configuration and the example's access directory, with the addresses of the stage.
func (s *stage) configure(ctx context.Context) error {
	issuer, err := s.issuer.line(ctx, "export TESTISSUER_URL=")
	if err != nil {
		return err
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	s.url = "http://" + address
	type change struct{ old, by string }
	database := fmt.Sprintf("127.0.0.1:%d/orders?sslmode=disable", s.postgres.Port)
	files := map[string][]change{
		"access/github.yaml":  {{"https://token.actions.githubusercontent.com", strings.Trim(issuer, "'")}},
		"access/orders.yaml":  {{"db.example.com:5432/orders?sslmode=verify-full", database}},
		"access/orders.cedar": nil,
		"daypass.yaml": {
			{"127.0.0.1:8420", address}, {"/run/daypass/admin.sock", s.path("admin.sock")}, {"/var/lib/daypass/", s.dir + "/"},
			{"/etc/daypass/secrets", s.path("secrets")}, {"access: /etc/daypass/access\n", ""}, {"format: json", "format: text"},
		},
	}
	for name, changes := range files {
		text, err := os.ReadFile(filepath.Join(s.repository, example, name))
		if err != nil {
			return err
		}
		changed := string(text)
		for _, c := range changes {
			if changed, err = replace(changed, c.old, c.by); err != nil {
				return err
			}
		}
		if err := s.write(name, changed); err != nil {
			return err
		}
	}
	return nil
}

// freeAddress returns an address that nobody listens on, below the ports that the system gives to whoever asks for any:
// a server may go and come back there.
func freeAddress() (string, error) {
	const lowest, highest, tries = 10000, 32767, 20
	for range tries {
		offset, err := rand.Int(rand.Reader, big.NewInt(highest-lowest))
		if err != nil {
			return "", err
		}
		address := fmt.Sprintf("127.0.0.1:%d", lowest+offset.Int64())
		if listener, err := net.Listen("tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", errors.New("find a free port: all that were tried are taken")
}

// startServer starts daypass serve and waits until it answers.
func (s *stage) startServer(ctx context.Context) (err error) {
	s.server, err = start(filepath.Join(s.bin, "daypass"), []string{"serve", "--config", s.path("daypass.yaml")}, s.environment())
	if err != nil {
		return err
	}
	return s.until(ctx, "the server answers", func(ctx context.Context) (bool, error) {
		if isClosed(s.server.done) {
			return false, errors.New("the server ended at once")
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/healthz", nil)
		if err != nil {
			return false, err
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			return false, nil // not yet
		}
		return response.StatusCode == http.StatusOK, response.Body.Close()
	})
}

// serverLog is the end of what the server logged, for a demo that failed.
func (s *stage) serverLog() string {
	if s.server == nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(s.server.stderr()), "\n")
	return "\nthe server's log ends:\n" + strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// environment is that of an administrator: nothing of the developer's own leaks in.
func (s *stage) environment(more ...string) []string {
	return append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + s.dir, "TMPDIR=" + s.dir, "LC_ALL=C.UTF-8",
		"DAYPASS_SOCKET=" + s.path("admin.sock")}, more...)
}

// job is the environment of a job that GitHub Actions runs for a branch of acme/orders. The URL has a query already,
// as GitHub's has.
func (s *stage) job(branch string) []string {
	return s.environment("DAYPASS_URL="+s.url, "GITHUB_ACTIONS=true",
		"ACTIONS_ID_TOKEN_REQUEST_URL="+s.tokens+"&repository=acme/orders&ref=refs/heads/"+branch,
		"ACTIONS_ID_TOKEN_REQUEST_TOKEN="+s.bearer)
}

// until asks until the answer is yes.
func (s *stage) until(ctx context.Context, what string, yes func(context.Context) (bool, error)) error {
	const longest = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := yes(ctx)
		if ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited %s in vain until %s", longest, what)
		}
	}
}

// login is one of ours, as the database shows it.
type login struct {
	name     string
	until    time.Time
	sessions int
}

// logins asks the database itself, as its superuser, which logins of ours it has.
func (s *stage) logins(ctx context.Context) ([]login, error) {
	conn, err := pgx.Connect(ctx, s.postgres.Superuser("orders"))
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `select rolname, coalesce(rolvaliduntil, 'infinity'), (select count(*) from pg_stat_activity where usesysid = r.oid)
		from pg_roles r where rolname ~ '^dp_' and rolcanlogin order by 1`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (login, error) {
		var l login
		return l, row.Scan(&l.name, &l.until, &l.sessions)
	})
}

// showLogins shows the question and the answer.
func (s *stage) showLogins(all []login) {
	s.command(`psql -c "select rolname, rolvaliduntil from pg_roles where rolname ~ '^dp_' and rolcanlogin"`)
	var b strings.Builder
	for _, l := range all {
		fmt.Fprintf(&b, "%s | %s\n", l.name, l.until.UTC().Format(time.DateTime))
	}
	fmt.Fprintf(&b, "(%d row%s)", len(all), map[bool]string{true: "", false: "s"}[len(all) == 1])
	s.output(b.String())
}

// daypass runs one command of an administrator to its end, shows it, and returns what it printed.
func (s *stage) daypass(ctx context.Context, args ...string) (string, error) {
	out, code, err := s.try(ctx, args...)
	if err == nil && code != 0 {
		err = fmt.Errorf("daypass %s ended with %s:\n%s", args[0], strconv.Itoa(code), out)
	}
	return out, err
}

// try is daypass where a failure may be right.
func (s *stage) try(ctx context.Context, args ...string) (out string, code int, err error) {
	p, err := start(filepath.Join(s.bin, "daypass"), args, s.environment())
	if err != nil {
		return "", 0, err
	}
	if code, err = p.wait(ctx); err != nil {
		return "", 0, errors.Join(err, p.stop(syscall.SIGTERM))
	}
	if code != 0 {
		return p.stderr(), code, nil
	}
	return p.stdout(), 0, nil
}

// short writes a command line without the path of the temporary directory.
func (s *stage) short(args []string) string {
	return strings.ReplaceAll("daypass "+strings.Join(args, " "), s.dir+"/", "")
}
