package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

// StoreDatabase is the name of the database that holds the store of a [Fleet].
const StoreDatabase = "daypass"

// FleetOptions say what to run.
type FleetOptions struct {
	Replicas  int
	Version   int                                    // of PostgreSQL at the target
	Road      func(upstream string) int              // gives the port of a proxy to the target
	StoreRoad func(replica int, upstream string) int // the same to one of the store's two servers, for each replica
}

// Fleet is an installation of several `daypass serve` that share a store in PostgreSQL, a primary with a standby.
type Fleet struct {
	Dir      string
	Audience string // of tokens
	Target   *testbed.Postgres
	Store    *testbed.Pair
	Issuer   *testissuer.Issuer
	Replicas []*Replica

	base *Rig
}

// StartFleet runs everything and returns when every replica can hand out leases.
func StartFleet(ctx context.Context, opt FleetOptions) (f *Fleet, err error) {
	dir, err := os.MkdirTemp("", "daypass-fleet-")
	if err != nil {
		return nil, err
	}
	f = &Fleet{Dir: dir, base: &Rig{Dir: dir, binary: filepath.Join(dir, "daypass")}}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	one := Options{Version: opt.Version}
	for _, step := range []func(context.Context, Options) error{f.base.build, f.base.startPostgres, f.base.startIssuer} {
		if err := step(ctx, one); err != nil {
			return f, err
		}
	}
	f.Target, f.Issuer = f.base.Postgres, f.base.Issuer
	if err := f.startStore(ctx); err != nil {
		return f, err
	}
	if err := f.configure(opt); err != nil {
		return f, err
	}
	if out, err := f.base.Command(ctx, "init", "--config", f.Replicas[0].config).CombinedOutput(); err != nil {
		return f, fmt.Errorf("daypass init: %w\n%s", err, out)
	}
	for _, r := range f.Replicas {
		if err := r.start(); err != nil {
			return f, err
		}
	}
	return f, f.Ready(ctx)
}

func (f *Fleet) startStore(ctx context.Context) (err error) {
	f.Store, err = testbed.StartPair(ctx, testbed.PostgresOptions{Settings: map[string]string{"wal_keep_size": "512MB"}})
	if err != nil {
		return err
	}
	return f.Store.Primary().Exec(ctx, "postgres", "create role daypass login password '"+password+"'",
		"create database "+StoreDatabase+" owner daypass encoding 'UTF8' template template0")
}

// configure writes what the replicas share, and each one's own configuration.
func (f *Fleet) configure(opt FleetOptions) error {
	files := map[string]string{
		"secrets/orders-db":   password,
		"store-password":      password,
		"access/access.yaml":  fmt.Sprintf(fleetAccess, f.Issuer.URL(), opt.Road(f.Target.Address()), Database, f.Target.Port),
		"access/orders.cedar": policyFile,
	}
	for i := range opt.Replicas {
		listen, err := freeAddress()
		if err != nil {
			return err
		}
		if i == 0 {
			f.Audience = "http://" + listen
		}
		var hosts []string
		for _, port := range f.Store.Places {
			hosts = append(hosts, "127.0.0.1:"+strconv.Itoa(opt.StoreRoad(i, "127.0.0.1:"+strconv.Itoa(port))))
		}
		name := "replica-" + strconv.Itoa(i)
		r := &Replica{Name: name, URL: "http://" + listen, config: f.base.Path(name + ".yaml"), log: f.base.Path(name + ".log"), fleet: f}
		files[name+".yaml"] = fmt.Sprintf(fleetServer, listen, f.Audience, f.Dir, name, strings.Join(hosts, ","), StoreDatabase)
		if r.Admin, err = client.New(client.Options{URL: "unix://" + f.base.Path(name+".sock")}); err != nil {
			return err
		}
		f.Replicas = append(f.Replicas, r)
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(f.base.Path(name)), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(f.base.Path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

const (
	fleetServer = `
listen: %[1]s
url: %[2]s
socket: %[3]s/%[4]s.sock
store: postgres://daypass@%[5]s/%[6]s?sslmode=disable
store_password: file://%[3]s/store-password
master_key: file://%[3]s/master.key
secrets_dir: %[3]s/secrets
access: %[3]s/access
limits: {leases_per_principal: 1000000, acquire_rate: 100000/s}
log: {level: info, format: text}
`
	fleetAccess = `
kind: Issuer
name: github
preset: github-actions
oidc: {url: %q}
---
kind: Target
name: orders-db
postgres: {url: "postgres://daypass@127.0.0.1:%d/%s?sslmode=disable", password: {file: orders-db}}
client: {host: 127.0.0.1, port: %d, sslmode: disable}
---
kind: Role
name: reader
target: orders-db
ttl: {default: 1m, max: 10m}
postgres:
  scram_iterations: 1
  grants: [{privileges: [SELECT], on: tables, schema: public, future: true}]
---
kind: Role
name: member
target: orders-db
ttl: {default: 1m, max: 10m}
postgres: {in_role: [orders_readers], scram_iterations: 1}
`
)

// Ready waits until every replica can hand out leases.
func (f *Fleet) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for _, r := range f.Replicas {
		for {
			status, err := r.Admin.Status(ctx)
			if err == nil && status.Ready {
				break
			}
			select {
			case <-ctx.Done():
				r.dump()
				return fmt.Errorf("%s is not ready: %w\n%s", r.Name, errors.Join(err, ctx.Err()), r.Tail())
			case <-tick.C:
			}
		}
	}
	return nil
}

// Workload is a client of a run on the main branch, with a fresh token for each call.
func (f *Fleet) Workload(runID string, r *Replica) (*client.Client, error) {
	return client.New(client.Options{URL: r.URL, Token: client.TokenFunc(func(context.Context) (secret.Text, error) {
		return secret.New(f.Issuer.Token(f.Issuer.GitHub(testissuer.Run{Audience: f.Audience, RunID: runID}))), nil
	})})
}

// Close ends everything and removes the fleet's directory.
func (f *Fleet) Close() error {
	for _, r := range f.Replicas {
		r.close()
	}
	var err error
	if f.Store != nil {
		err = f.Store.Stop()
	}
	return errors.Join(err, f.base.Close())
}

// Replica is one `daypass serve` of a fleet. Whatever keeps services running starts it again when it ends.
type Replica struct {
	Name  string
	URL   string
	Admin *client.Client // over the administration socket

	config, log string
	fleet       *Fleet

	mu      sync.Mutex // guards what follows
	process *os.Process
	down    time.Duration // how long to stay down after the next end
	killed  bool          // the next end is our doing
	ended   int           // how often it has ended by itself
	closed  bool

	closing chan struct{} // closed by close; set before anything runs
	gone    chan struct{} // closed when nothing runs any more
}

const restartPause = 300 * time.Millisecond

func (r *Replica) start() error {
	r.closing, r.gone = make(chan struct{}), make(chan struct{})
	log, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	go func() {
		defer close(r.gone)
		defer log.Close()
		r.supervise(log)
	}()
	return nil
}

// supervise runs the process again and again.
func (r *Replica) supervise(log *os.File) {
	for {
		cmd := exec.Command(r.fleet.base.binary, "serve", "--config", r.config)
		cmd.Stdout, cmd.Stderr = log, log
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return
		}
		r.down, r.killed = restartPause, false
		err := cmd.Start()
		r.process = cmd.Process
		r.mu.Unlock()
		if err == nil {
			_ = cmd.Wait() // how it ended stands in its log
		}
		r.mu.Lock()
		r.process = nil
		if !r.killed {
			r.ended++
		}
		down := r.down
		r.mu.Unlock()
		select {
		case <-r.closing:
			return
		case <-time.After(down):
		}
	}
}

// Kill ends the process as a power cut does; it comes back after a while.
func (r *Replica) Kill(down time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process != nil {
		r.down, r.killed = down, true
		_ = r.process.Kill()
	}
}

// Freeze stops the process in the middle of whatever it does, and Thaw lets it go on.
func (r *Replica) Freeze() { r.signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on, and does nothing to another.
func (r *Replica) Thaw() { r.signal(syscall.SIGCONT) }

func (r *Replica) signal(s os.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process != nil {
		_ = r.process.Signal(s) // it may have ended
	}
}

// dump has the process write what all its goroutines do into its log, and end.
func (r *Replica) dump() {
	r.signal(syscall.SIGQUIT)
	<-time.After(time.Second) // nobody tells when it is done
}

// EndedAlone counts how often the process has ended by itself.
func (r *Replica) EndedAlone() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

// Log is what all processes of the replica have logged.
func (r *Replica) Log() string {
	text, err := os.ReadFile(r.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Tail is the end of the replica's log.
func (r *Replica) Tail() string {
	lines := strings.Split(r.Log(), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

func (r *Replica) close() {
	if r.closing == nil {
		return
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	close(r.closing)
	r.Kill(0)
	<-r.gone
}
