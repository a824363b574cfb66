// Package rig runs a whole installation for the crash loop, the chaos run and the benchmarks: the daypass binary as
// one process or several, a real PostgreSQL with the administrator of our how-to, and an OpenID Connect issuer.
//
// A [Rig] is one server with its store in a file, a [Fleet] several with theirs in PostgreSQL; both stand on a [Site].
// They own what they start, and Close leaves nothing behind. They know the public contracts only: configuration files,
// commands, the API through the client.
package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/testissuer"
)

// Rig is a running installation of one server. Its methods are for one goroutine at a time.
type Rig struct {
	*Site
	URL   string
	Admin *client.Client // over the administration socket

	config string
	broker *exec.Cmd
	log    *os.File
}

// Start runs everything and returns when leases can be acquired.
func Start(ctx context.Context, opt Options) (r *Rig, err error) {
	site, err := openSite(ctx, opt)
	if err != nil {
		return nil, err
	}
	r = &Rig{Site: site}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	listen, err := freeAddress()
	if err != nil {
		return r, err
	}
	if r.config, r.Admin, err = site.server("daypass", listen, "store: sqlite://"+site.Path("daypass.db"), "warn"); err != nil {
		return r, err
	}
	r.URL = r.Audience
	if err := site.configure(); err != nil {
		return r, err
	}
	if err := site.init(ctx, r.config); err != nil {
		return r, err
	}
	if err := r.StartBroker(); err != nil {
		return r, err
	}
	return r, r.Ready(ctx)
}

// StartBroker starts `daypass serve`.
func (r *Rig) StartBroker() (err error) {
	if r.log == nil {
		if r.log, err = os.Create(r.Path("daypass.log")); err != nil {
			return err
		}
	}
	r.broker = r.serve(r.config, r.log)
	return r.broker.Start()
}

// KillBroker ends the broker as a power cut does.
func (r *Rig) KillBroker() {
	if r.broker == nil {
		return
	}
	_ = r.broker.Process.Kill() // it may have ended by itself
	_ = r.broker.Wait()
	r.broker = nil
}

// BrokerPID is the broker's process.
func (r *Rig) BrokerPID() int { return r.broker.Process.Pid }

// Ready waits until leases can be acquired.
func (r *Rig) Ready(ctx context.Context) error {
	return r.Await(ctx, "the broker to be ready", func(ctx context.Context) bool {
		status, err := r.Admin.Status(ctx)
		return err == nil && status.Ready
	})
}

// patience is longer than most things take here, also on a busy machine.
const patience = 90 * time.Second

// Await asks until something is so, for a while. Its error has the end of the broker's log.
func (r *Rig) Await(ctx context.Context, what string, so func(context.Context) bool) error {
	return r.AwaitFor(ctx, patience, what, so)
}

// AwaitFor is [Rig.Await] with a patience of its own.
func (r *Rig) AwaitFor(ctx context.Context, patience time.Duration, what string, so func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so(ctx) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s\n%s", what, tail(r.Path("daypass.log")))
		case <-tick.C:
		}
	}
	return nil
}

// Workload is a client of a run on the main branch, with one token.
func (r *Rig) Workload(runID string) (*client.Client, error) {
	return client.New(client.Options{URL: r.URL, Token: client.StaticToken(r.Token(testissuer.Run{RunID: runID}))})
}

// Close ends everything and removes the rig's directory.
func (r *Rig) Close() error {
	r.KillBroker()
	var err error
	if r.log != nil {
		err = r.log.Close()
	}
	return errors.Join(err, r.Site.close())
}
