package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// step is one scene: what happens, why, and the code that shows and checks it.
type step struct {
	title, why string
	show       func(context.Context, *stage) error
}

// story is the whole demonstration.
func story() []step {
	return []step{
		{"A database", "A real PostgreSQL on a free port, with throwaway data. Its administrator for Daypass is no superuser.", showDatabase},
		{"An issuer", "A separate process that signs identity tokens as GitHub Actions does. It knows nothing of Daypass.", showIssuer},
		{"The front desk", "One binary, an embedded store. No secret is handed to anybody: jobs bring the token that their platform gives them.", showServer},
		{"A job on the main branch", "The job has a token and nothing else. Daypass makes a login for it alone, while the command runs.", showRun},
		{"The same job, done", "The command ended, so the lease did. The database is asked, not believed.", showGone},
		{"A job on another branch", "No policy permits it. What is not permitted is denied, and nothing was made.", showDenied},
		{"The desk is killed", "kill -9 while a login lives. The lease was on the record before the login was made, so nothing is forgotten.", showCrash},
		{"The kill switch", "A lock ends every lease it matches, terminates their sessions, and refuses new ones.", showLock},
		{"The record", "Each step stands in a ledger. It verifies offline, and each job kept a receipt that the ledger must hold.", showLedger},
	}
}

func showDatabase(ctx context.Context, s *stage) error {
	if err := s.startDatabase(ctx); err != nil {
		return err
	}
	s.output(fmt.Sprintf("PostgreSQL %d at %s, database orders", s.postgres.Version, s.postgres.Address()))
	conn, err := pgx.Connect(ctx, s.postgres.Superuser("orders"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var super bool
	if err := conn.QueryRow(ctx, "select rolsuper from pg_roles where rolname = 'daypass'").Scan(&super); err != nil {
		return err
	}
	if super {
		return errors.New("the administrator is a superuser")
	}
	s.claim("the administrator daypass is no superuser")
	return s.expectLogins(ctx, 0, "there is no login of ours yet")
}

// expectLogins checks how many logins of ours the database has.
func (s *stage) expectLogins(ctx context.Context, want int, claim string) error {
	all, err := s.logins(ctx)
	if err != nil {
		return err
	}
	if len(all) != want {
		return fmt.Errorf("the database has %d logins of ours, want %d: %v", len(all), want, all)
	}
	s.claim("%s", claim)
	return nil
}

func showIssuer(ctx context.Context, s *stage) error {
	if err := s.startIssuer(ctx); err != nil {
		return err
	}
	issuer, err := s.issuer.line(ctx, "export TESTISSUER_URL=")
	if err != nil {
		return err
	}
	s.output(fmt.Sprintf("process %d at %s", s.issuer.cmd.Process.Pid, strings.Trim(issuer, "'")))
	return nil
}

func showServer(ctx context.Context, s *stage) error {
	if err := s.configure(ctx); err != nil {
		return err
	}
	for _, args := range [][]string{{"init", "--config", s.path("daypass.yaml")}, nil, {"apply", s.path("access")}} {
		if args == nil {
			s.command("daypass serve --config daypass.yaml &")
			if err := s.startServer(ctx); err != nil {
				return err
			}
			continue
		}
		s.command(s.short(args))
		out, err := s.daypass(ctx, args...)
		if err != nil {
			return err
		}
		s.output(strings.ReplaceAll(out, s.dir+"/", ""))
	}
	policy, err := os.ReadFile(s.path("access/orders.cedar"))
	if err != nil {
		return err
	}
	s.command("cat access/orders.cedar")
	s.output(string(policy))
	return nil
}

// read is the workload: it reads the table, says who it is, and goes on until its input ends.
const read = `psql -XAtqc "select 'I am ' || current_user" -c "select 'I see ' || count(*) || ' orders' from orders" && cat >/dev/null`

// run starts daypass run around a shell command, as a job of a branch.
func (s *stage) run(branch, command string) (*process, error) {
	args := []string{"run", "orders-readonly", "--receipts", s.path("receipts.txt"), "--", "sh", "-c", command}
	return start(filepath.Join(s.bin, "daypass"), args, s.job(branch))
}

// working starts a job and waits until it has used its login. The login is returned.
func (s *stage) working(ctx context.Context, command string) (*process, login, error) {
	job, err := s.run("main", command)
	if err != nil {
		return nil, login{}, err
	}
	name, err := job.line(ctx, "I am ")
	if err != nil {
		return nil, login{}, errors.Join(err, job.stop(syscall.SIGTERM))
	}
	all, err := s.logins(ctx)
	if err == nil && (len(all) != 1 || all[0].name != name) {
		err = fmt.Errorf("the job is %s, and the database has the logins %v", name, all)
	}
	if err != nil {
		return nil, login{}, errors.Join(err, job.stop(syscall.SIGTERM))
	}
	return job, all[0], nil
}

func showRun(ctx context.Context, s *stage) error {
	s.command("daypass run orders-readonly -- ./report")
	job, l, err := s.working(ctx, read)
	if err != nil {
		return err
	}
	defer job.end()
	if _, err := job.line(ctx, "I see 3 orders"); err != nil {
		return err
	}
	s.output(job.stdout())
	all, err := s.logins(ctx)
	if err != nil {
		return err
	}
	s.showLogins(all)
	s.claim("while it runs, the database has exactly this login")
	if left := time.Until(l.until); left <= 0 || left > 2*time.Hour {
		return fmt.Errorf("the login %s expires at %s", l.name, l.until)
	}
	s.claim("it would expire by itself at %s, without Daypass", l.until.UTC().Format(time.TimeOnly))
	if err := job.stdin.Close(); err != nil {
		return err
	}
	if code, err := job.wait(ctx); err != nil || code != 0 {
		return fmt.Errorf("the job ended with %d: %w\n%s", code, err, job.stderr())
	}
	return nil
}

func showGone(ctx context.Context, s *stage) error {
	begun := time.Now()
	if err := s.gone(ctx); err != nil {
		return err
	}
	took := time.Since(begun)
	s.showLogins(nil)
	s.claim("the login is gone, %s after the command ended", took.Round(time.Millisecond))
	return s.proved(ctx, "released")
}

// gone waits until the database has no login of ours.
func (s *stage) gone(ctx context.Context) error {
	return s.until(ctx, "the login is gone", func(ctx context.Context) (bool, error) {
		all, err := s.logins(ctx)
		return len(all) == 0, err
	})
}

// leases returns what daypass leases tells.
func (s *stage) leases(ctx context.Context) ([]shownLease, error) {
	out, err := s.daypass(ctx, "leases", "--output", "json")
	if err != nil {
		return nil, err
	}
	var page struct {
		Items []shownLease `json:"items"`
	}
	return page.Items, json.Unmarshal([]byte(out), &page)
}

// shownLease is what the demo looks at of a lease.
type shownLease struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Reason string `json:"reason"`
}

// proved waits until the newest lease is revoked for a reason, and says so.
func (s *stage) proved(ctx context.Context, reason string) error {
	var newest shownLease
	err := s.until(ctx, "the lease is revoked", func(ctx context.Context) (bool, error) {
		all, err := s.leases(ctx)
		if err != nil || len(all) == 0 {
			return false, errors.Join(err, ctx.Err())
		}
		newest = all[0]
		return newest.State == "revoked", nil
	})
	if err != nil {
		return err
	}
	if newest.Reason != reason {
		return fmt.Errorf("lease %s ended because it was %q, want %q", newest.ID, newest.Reason, reason)
	}
	s.claim("lease %s is revoked: the database confirmed it", newest.ID)
	return nil
}

var explainHint = regexp.MustCompile(`daypass explain (\S+)`)

func showDenied(ctx context.Context, s *stage) error {
	s.command("daypass run orders-readonly -- ./report      # branch: experiment")
	job, err := s.run("experiment", read)
	if err != nil {
		return err
	}
	defer job.end()
	code, err := job.wait(ctx)
	if err != nil {
		return err
	}
	s.output(job.stderr())
	if code == 0 || job.stdout() != "" || !strings.Contains(job.stderr(), "denied") {
		return fmt.Errorf("the job of another branch was not denied: exit code %d, %s", code, job.stdout())
	}
	s.claim("denied, before the command started")
	hint := explainHint.FindStringSubmatch(job.stderr())
	if hint == nil {
		return errors.New("the denial names no decision to explain")
	}
	s.command("daypass explain " + hint[1])
	out, err := s.daypass(ctx, "explain", hint[1])
	if err != nil {
		return err
	}
	s.output(firstLines(out, 10))
	return s.expectLogins(ctx, 0, "no login was made")
}

// cut keeps the first characters of each line.
func cut(text string, width int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		b.WriteString(line[:min(len(line), width)] + "\n")
	}
	return b.String()
}

func firstLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > n {
		lines = append(lines[:n], "…")
	}
	return strings.Join(lines, "\n")
}

func showCrash(ctx context.Context, s *stage) error {
	s.command("daypass run orders-readonly -- ./report &")
	job, l, err := s.working(ctx, read)
	if err != nil {
		return err
	}
	defer job.end()
	s.output("I am " + l.name)
	s.command("kill -9 $(pidof daypass serve)")
	if err := syscall.Kill(s.server.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		return err
	}
	<-s.server.done
	if err := s.expectLogins(ctx, 1, "the desk is dead and the login lives: only its own expiry would end it"); err != nil {
		return err
	}
	s.command("daypass serve --config daypass.yaml &")
	if err := s.startServer(ctx); err != nil {
		return err
	}
	if err := job.stdin.Close(); err != nil {
		return err
	}
	if code, err := job.wait(ctx); err != nil || code != 0 {
		return fmt.Errorf("the job ended with %d: %w\n%s", code, err, job.stderr())
	}
	if err := s.gone(ctx); err != nil {
		return err
	}
	s.claim("the desk is back, the job ended well, and its login is gone")
	return s.proved(ctx, "released")
}

// stay keeps a session open for as long as it lives.
const stay = `psql -XAtq -v ON_ERROR_STOP=1 -c "select 'I am ' || current_user" -c "select pg_sleep(600)"`

func showLock(ctx context.Context, s *stage) error {
	s.command("daypass run orders-readonly -- ./long-report &")
	job, l, err := s.working(ctx, stay)
	if err != nil {
		return err
	}
	defer job.end()
	s.output("I am " + l.name)
	args := []string{"lock", "--role", "orders-readonly", "--reason", "runner compromised"}
	s.command(`daypass lock --role orders-readonly --reason "runner compromised"`)
	begun := time.Now()
	out, err := s.daypass(ctx, args...)
	if err != nil {
		return err
	}
	if err := s.gone(ctx); err != nil {
		return err
	}
	took := time.Since(begun)
	s.output(out)
	s.claim("%s after the order its session is closed and the login gone", took.Round(time.Millisecond))
	code, err := job.wait(ctx)
	if err != nil {
		return err
	}
	if code == 0 {
		return errors.New("the job ended well although its session was closed")
	}
	s.claim("the job ended with exit code %d", code)
	if err := s.proved(ctx, "locked"); err != nil {
		return err
	}
	return s.refusedUnderLock(ctx)
}

// refusedUnderLock checks that a lock refuses the branch that policies permit.
func (s *stage) refusedUnderLock(ctx context.Context) error {
	again, err := s.run("main", read)
	if err != nil {
		return err
	}
	defer again.end()
	code, err := again.wait(ctx)
	if err != nil {
		return err
	}
	if code == 0 || !strings.Contains(again.stderr(), "lock") {
		return fmt.Errorf("a job was let in under a lock: exit code %d\n%s%s", code, again.stdout(), again.stderr())
	}
	return s.expectLogins(ctx, 0, "a new job of the main branch is refused while the lock is in force")
}

func showLedger(ctx context.Context, s *stage) error {
	out, err := s.daypass(ctx, "status", "--output", "json")
	if err != nil {
		return err
	}
	var status struct {
		Ledger struct {
			Key string `json:"key"`
		} `json:"ledger"`
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return err
	}
	if err := s.write("ledger.vkey", status.Ledger.Key+"\n"); err != nil {
		return err
	}
	if out, err = s.daypass(ctx, "ledger", "tail", "-n", "6"); err != nil {
		return err
	}
	const width = 100
	s.command(fmt.Sprintf("daypass ledger tail -n 6 | cut -c -%d", width))
	s.output(cut(out, width))
	for _, args := range [][]string{
		{"ledger", "export", s.path("ledger.jsonl")},
		{"ledger", "verify", s.path("ledger.jsonl"), "--key", s.path("ledger.vkey"), "--against", s.path("receipts.txt")},
	} {
		s.command(s.short(args))
		out, err := s.daypass(ctx, args...)
		if err != nil {
			return err
		}
		if out != "" {
			s.output(out)
		}
	}
	s.claim("the ledger verifies with its public key alone, and holds every receipt")
	return s.forgery(ctx)
}

// forgery changes one word of the export and checks that it is noticed.
func (s *stage) forgery(ctx context.Context) error {
	text, err := os.ReadFile(s.path("ledger.jsonl"))
	if err != nil {
		return err
	}
	forged, err := replace(string(text), "orders-readonly", "orders-ownerxxx")
	if err != nil {
		return err
	}
	if err := s.write("forged.jsonl", forged); err != nil {
		return err
	}
	args := []string{"ledger", "verify", s.path("forged.jsonl"), "--key", s.path("ledger.vkey")}
	s.command(s.short(args))
	out, code, err := s.try(ctx, args...)
	if err != nil {
		return err
	}
	if code == 0 {
		return errors.New("a forged ledger verifies")
	}
	s.output(strings.ReplaceAll(out, s.dir+"/", ""))
	s.claim("one changed word, and it does not verify")
	return nil
}
