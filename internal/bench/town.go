package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/rig"
	"github.com/daypass/daypass/internal/server"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// town is an installation with more than one of everything: beside the rig's target and issuer a second PostgreSQL
// (billing-db, roles `billing`), a target without a call (tokens, role `token`) and a second issuer (partner).
type town struct {
	*rig.Rig
	billing *testbed.Postgres
	partner *testissuer.Issuer
	others  []*client.Client
}

// foundTown starts it and waits until all of it works.
func foundTown(ctx context.Context, opt rig.Options) (t *town, err error) {
	t = &town{}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	if opt.Serve, err = serveCommand(); err != nil {
		return t, err
	}
	opt.Fsync = true
	if t.Rig, err = rig.Start(ctx, opt); err != nil {
		return t, err
	}
	if t.billing, err = rig.StartTarget(ctx, opt.Version, true); err != nil {
		return t, err
	}
	if t.partner, err = testissuer.Start(testissuer.Options{Now: time.Now}); err != nil {
		return t, err
	}
	files := maps.Clone(t.Access)
	files["tokens.yaml"], files["tokens.cedar"] = tokensFile, tokensPolicy
	files["town.yaml"], files["town.cedar"] = fmt.Sprintf(townFile, t.partner.URL(), t.billing.Port, rig.Database), townPolicy
	if _, err := t.Admin.ApplyAccess(ctx, files, ""); err != nil {
		return t, err
	}
	if t.others, err = principals(t.Site, t.URL, "billing", others); err != nil {
		return t, err
	}
	return t, t.warm(ctx)
}

// warm lets every other workload acquire once, for connections and groups to be there.
func (t *town) warm(ctx context.Context) error {
	first := load(ctx, others, time.Minute, 1, t.otherWork())
	return first.failure
}

func (t *town) otherWork() func(context.Context, int) error {
	return acquireAndRelease(t.others, "billing")
}

// beside runs the other workloads until the returned function is called.
func (t *town) beside(ctx context.Context) (stop func() sample) {
	return beside(ctx, others, othersEvery, t.otherWork())
}

// calm measures the other workloads while nothing else happens.
func (t *town) calm(ctx context.Context) sample {
	stop := t.beside(ctx)
	sleep(ctx, calmTime)
	return stop()
}

const calmTime = 12 * time.Second

func (t *town) close() error {
	var errs []error
	if t.Rig != nil {
		errs = append(errs, t.Rig.Close())
	}
	if t.partner != nil {
		errs = append(errs, t.partner.Close())
	}
	if t.billing != nil {
		errs = append(errs, t.billing.Stop())
	}
	return errors.Join(errs...)
}

const (
	townFile = `
kind: Issuer
name: partner
oidc: {url: %q}
claims: {team: string}
---
kind: Target
name: billing-db
postgres: {url: "postgres://daypass@127.0.0.1:%d/%s?sslmode=disable", password: {file: orders-db}}
---
kind: Role
name: billing
target: billing-db
ttl: {default: 5m, max: 1h}
postgres: {in_role: [orders_readers], scram_iterations: 1}
`
	townPolicy = `
permit (principal is GitHub::Workload, action == Action::"acquire", resource in Target::"billing-db")
when { principal.claims.repository_owner == "acme" };
permit (principal is Workload, action == Action::"acquire", resource in Target::"billing-db")
when { principal.claims has team && principal.claims.team == "billing" };
`
	tokensFile = `
kind: Target
name: tokens
instant: {}
---
kind: Role
name: token
target: tokens
ttl: {default: 30m, max: 1h}
instant: {}
`
	tokensPolicy = `
permit (principal is GitHub::Workload, action == Action::"acquire", resource in Target::"tokens")
when { principal.claims.repository_owner == "acme" };
`
)

// instant stands for a target that is not called: its credentials are made here and end by themselves. What is
// measured with it is the broker alone.
type instant struct{}

// Grant implements [target.Target].
func (instant) Grant(context.Context, target.Grant) (target.Credential, error) {
	return target.Credential{Type: "instant", Secrets: map[string]secret.Text{"token": secret.New("as good as any")}, Revocation: target.Bounded}, nil
}

// Revoke implements [target.Target].
func (instant) Revoke(context.Context, string) error { return nil }

// serveCommand is this program as `daypass serve`, with one kind of target more.
func serveCommand() ([]string, error) {
	self, err := os.Executable()
	return []string{self, serveWord}, err
}

// serveWord is the first argument of this program when it is to be a server.
const serveWord = "serve"

// serve is `daypass serve --config path` with the kind of target instant.
func serve(path string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	s, err := server.New(ctx, cfg, server.Options{Targets: map[string]target.Target{"instant": instant{}}})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}
