package testbed

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresOptions says which server to start. The zero value is a PostgreSQL 15 that does not sync.
type PostgresOptions struct {
	Version  int               // 15 (default), 18, or 14
	Fsync    bool              // true costs time and is for benchmarks and power-loss tests
	Settings map[string]string // more server settings, such as max_connections
	HBA      []string          // lines put before ours in pg_hba.conf
	Files    map[string]string // files written into the data directory, such as server.crt and server.key
}

// Postgres is one running server. Its methods are for one goroutine at a time.
type Postgres struct {
	Version int
	Host    string // always the loopback address
	Port    int
	Dir     string // holds data/ and log

	bin      string
	password string
	flags    []string
	owner    owner

	mu   sync.Mutex // guards what follows
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// owner is the account that a server runs as.
type owner struct {
	uid, gid uint32
	change   bool // it is not the account we run as
}

// serverOwner is the postgres account when we are root, whom PostgreSQL refuses, and ourselves otherwise.
func serverOwner() (owner, error) {
	if os.Geteuid() != 0 {
		return owner{}, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return owner{}, fmt.Errorf("run as root, PostgreSQL needs the account postgres: %w (install: apt-get install postgresql-15)", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return owner{}, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	return owner{uint32(uid), uint32(gid), true}, err
}

// postgresBin finds the directory with the binaries of version.
func postgresBin(version int) (string, error) {
	dir, install := fmt.Sprintf("/usr/lib/postgresql/%d/bin", version), "apt-get install postgresql-15"
	switch version {
	case 15:
	case 14, 18:
		install = fmt.Sprint("scripts/install-postgres ", version)
		cache := os.Getenv("DAYPASS_CACHE")
		if cache == "" {
			base, err := root()
			if err != nil {
				return "", err
			}
			cache = filepath.Join(base, ".cache")
		}
		dir = filepath.Join(cache, fmt.Sprint("postgres-", version), "native", "bin")
	default:
		return "", fmt.Errorf("postgresql %d: the testbed knows 14, 15 and 18", version)
	}
	if _, err := os.Stat(filepath.Join(dir, "postgres")); err != nil {
		return "", fmt.Errorf("postgresql %d is not in %s; install it: %s", version, dir, install)
	}
	return dir, nil
}

// StartPostgres makes an empty server and waits until it answers. Stop it with [Postgres.Stop].
func StartPostgres(ctx context.Context, opt PostgresOptions) (*Postgres, error) {
	if opt.Version == 0 {
		opt.Version = 15
	}
	bin, err := postgresBin(opt.Version)
	if err != nil {
		return nil, err
	}
	account, err := serverOwner()
	if err != nil {
		return nil, err
	}
	dir, err := scratch()
	if err != nil {
		return nil, err
	}
	p := &Postgres{Version: opt.Version, Host: "127.0.0.1", Dir: dir, bin: bin, owner: account, password: rand.Text()}
	if err := p.initialize(ctx, opt); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	for range 5 { // another process may take the port between our look and the server's
		if p.Port, err = freePort(); err != nil {
			break
		}
		if err = p.start(ctx); err == nil {
			return p, nil
		}
	}
	os.RemoveAll(dir)
	return nil, err
}

// initialize makes the data directory.
func (p *Postgres) initialize(ctx context.Context, opt PostgresOptions) error {
	if p.owner.change {
		if err := os.Chown(p.Dir, int(p.owner.uid), int(p.owner.gid)); err != nil {
			return err
		}
	}
	if err := p.write("password", p.password+"\n"); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "initdb"), "-D", p.data(), "-A", "scram-sha-256", "-U", "postgres",
		"--pwfile", filepath.Join(p.Dir, "password"), "--no-sync", "-E", "UTF8", "--locale=C")
	cmd.SysProcAttr = attributes(p.owner.uid, p.owner.gid, p.owner.change)
	cmd.Dir, cmd.Env = p.Dir, p.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	for name, text := range opt.Files {
		if err := p.write(filepath.Join("data", name), text); err != nil {
			return err
		}
	}
	hba := append(append([]string{}, opt.HBA...), "host all all 127.0.0.1/32 scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256")
	if err := p.write("data/pg_hba.conf", strings.Join(hba, "\n")+"\n"); err != nil {
		return err
	}
	settings := map[string]string{
		"listen_addresses": p.Host, "unix_socket_directories": p.Dir, "fsync": "off", "max_connections": "200",
		"timezone": "UTC", "log_min_messages": "warning", "shared_buffers": "64MB", "password_encryption": "scram-sha-256",
	}
	if opt.Fsync {
		settings["fsync"] = "on"
	}
	for name, value := range opt.Settings {
		settings[name] = value
	}
	for name, value := range settings {
		p.flags = append(p.flags, "-c", name+"="+value)
	}
	return nil
}

// write makes a file that only the server's account may read.
func (p *Postgres) write(name, text string) error {
	path := filepath.Join(p.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	if !p.owner.change {
		return nil
	}
	return os.Chown(path, int(p.owner.uid), int(p.owner.gid))
}

func (p *Postgres) data() string { return filepath.Join(p.Dir, "data") }

// environment is small on purpose: PG* variables of the developer would change what the server does.
func (p *Postgres) environment() []string {
	return []string{"PATH=/usr/bin:/bin", "HOME=" + p.Dir, "LC_ALL=C", "TZ=UTC"}
}

// start runs the server on p.Port and waits until it answers.
func (p *Postgres) start(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(p.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(p.bin, "postgres"), append([]string{"-D", p.data(), "-p", strconv.Itoa(p.Port)}, p.flags...)...)
	cmd.SysProcAttr = attributes(p.owner.uid, p.owner.gid, p.owner.change)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.Dir, p.environment(), log, log

	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		// The parent-death signal follows the thread that forked, so that thread stays until the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(done)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start postgresql %d: %w", p.Version, err)
	}
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	return p.await(ctx, done)
}

// await returns when the server takes connections, or has ended.
func (p *Postgres) await(ctx context.Context, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, p.Superuser("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-done:
			return fmt.Errorf("postgresql %d ended at once:\n%s", p.Version, p.lastLog())
		case <-ctx.Done():
			return fmt.Errorf("postgresql %d does not answer: %w\n%s", p.Version, err, p.lastLog())
		case <-tick.C:
		}
	}
}

// Log returns what the server has logged.
func (p *Postgres) Log() string {
	text, _ := os.ReadFile(filepath.Join(p.Dir, "log"))
	return string(text)
}

func (p *Postgres) lastLog() []byte {
	text := []byte(p.Log())
	return bytes.TrimSpace(text[max(0, len(text)-2000):])
}

// Superuser returns a connection URL of the superuser for database.
func (p *Postgres) Superuser(database string) string {
	return p.URL("postgres", p.password, database)
}

// URL returns a connection URL of any login.
func (p *Postgres) URL(login, password, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(login, password), Path: "/" + database,
		Host: net.JoinHostPort(p.Host, strconv.Itoa(p.Port)), RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Address returns host:port.
func (p *Postgres) Address() string { return net.JoinHostPort(p.Host, strconv.Itoa(p.Port)) }

// Exec runs statements as the superuser, each in a transaction of its own.
func (p *Postgres) Exec(ctx context.Context, database string, statements ...string) error {
	conn, err := pgx.Connect(ctx, p.Superuser(database))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%w in: %s", err, statement)
		}
	}
	return nil
}

// Restart stops the server in an orderly way, ending all sessions, and starts it on the same port and data.
func (p *Postgres) Restart(ctx context.Context) error {
	if err := p.Halt(ctx); err != nil {
		return err
	}
	return p.start(ctx)
}

// Start runs a server that was halted or killed again, on the same port and data.
func (p *Postgres) Start(ctx context.Context) error { return p.start(ctx) }

// Halt stops the server and keeps its data.
func (p *Postgres) Halt(ctx context.Context) error { return p.end(ctx, syscall.SIGINT) }

// Kill ends the server as a power cut does: no checkpoint, no farewell. Its data stays.
func (p *Postgres) Kill(ctx context.Context) error {
	// Immediate shutdown, then the postmaster itself: killing it first would leave its children behind.
	return p.end(ctx, syscall.SIGQUIT)
}

// Stop ends the server and removes its data.
func (p *Postgres) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return errors.Join(p.end(ctx, syscall.SIGQUIT), os.RemoveAll(p.Dir))
}

// end sends sig to the process that we started and waits for it.
func (p *Postgres) end(ctx context.Context, sig syscall.Signal) error {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.cmd = nil
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		cmd.Process.Kill()
		return fmt.Errorf("stop postgresql %d: %w", p.Version, ctx.Err())
	}
}
