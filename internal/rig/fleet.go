package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	Options
	Replicas  int
	Alone     bool                                   // the store has no standby
	StoreRoad func(replica int, upstream string) int // gives the port of a proxy to one of the store's servers, for each replica; nil: none
}

// Fleet is an installation of one `daypass serve` or several that share a store in PostgreSQL, a primary with a standby.
type Fleet struct {
	*Site
	Store    *testbed.Pair // nil without a standby
	Replicas []*Replica

	single *testbed.Postgres // the store without a standby
}

// Primary is the server of the store that takes writes.
func (f *Fleet) Primary() *testbed.Postgres {
	if f.single != nil {
		return f.single
	}
	return f.Store.Primary()
}

// StartFleet runs everything and returns when every replica can hand out leases.
func StartFleet(ctx context.Context, opt FleetOptions) (f *Fleet, err error) {
	site, err := openSite(ctx, opt.Options)
	if err != nil {
		return nil, err
	}
	f = &Fleet{Site: site}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := f.startStore(ctx, opt); err != nil {
		return f, err
	}
	for i := range opt.Replicas {
		if err := f.add(i, opt.StoreRoad); err != nil {
			return f, err
		}
	}
	if err := site.configure(); err != nil {
		return f, err
	}
	if err := site.init(ctx, f.Replicas[0].config); err != nil {
		return f, err
	}
	for _, r := range f.Replicas {
		if err := r.start(); err != nil {
			return f, err
		}
	}
	return f, f.Ready(ctx)
}

func (f *Fleet) startStore(ctx context.Context, opt FleetOptions) (err error) {
	servers := testbed.PostgresOptions{Fsync: opt.Fsync, Settings: map[string]string{"wal_keep_size": "512MB"}}
	if opt.Alone {
		f.single, err = testbed.StartPostgres(ctx, servers)
	} else {
		f.Store, err = testbed.StartPair(ctx, servers)
	}
	if err != nil {
		return err
	}
	return f.Primary().Exec(ctx, "postgres", "create role daypass login password '"+password+"'",
		"create database "+StoreDatabase+" owner daypass encoding 'UTF8' template template0")
}

// add configures one more replica.
func (f *Fleet) add(i int, road func(int, string) int) error {
	listen, err := freeAddress()
	if err != nil {
		return err
	}
	ports := []int{f.Primary().Port}
	if f.Store != nil {
		ports = f.Store.Places[:]
	}
	var hosts []string
	for _, port := range ports {
		if road != nil {
			port = road(i, "127.0.0.1:"+strconv.Itoa(port))
		}
		hosts = append(hosts, "127.0.0.1:"+strconv.Itoa(port))
	}
	store := fmt.Sprintf("store: postgres://daypass@%s/%s?sslmode=disable\nstore_password: file://%s", strings.Join(hosts, ","), StoreDatabase, f.Path("store-password"))
	name := "replica-" + strconv.Itoa(i)
	r := &Replica{Name: name, URL: "http://" + listen, log: f.Path(name + ".log"), fleet: f}
	r.config, r.Admin, err = f.server(name, listen, store, "info")
	f.Replicas = append(f.Replicas, r)
	return err
}

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
		return f.Token(testissuer.Run{RunID: runID}), nil
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
	if f.single != nil {
		err = errors.Join(err, f.single.Stop())
	}
	return errors.Join(err, f.Site.close())
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
		cmd := r.fleet.serve(r.config, log)
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
func (r *Replica) Tail() string { return tail(r.log) }

// PID is the replica's process, 0 while none runs.
func (r *Replica) PID() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process == nil {
		return 0
	}
	return r.process.Pid
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
