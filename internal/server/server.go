// Package server composes Daypass: it makes every part from a configuration, and runs them until it is told to stop.
//
// It owns what the parts are given (server.go, signing.go, oauth.go, alerts.go, location.go), the listeners (listen.go), the
// housekeeping (house.go) and what the server tells of itself (status.go, figures.go). It promises that a server which
// starts has the key, the store and the ledger that belong together, and that stopping loses nothing: requests are
// answered, revocations under way are recorded, and the store is drained before it closes.
//
// Commands and test kits stand on it; it must not import them.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/daypass/daypass/identity/device"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/deployment"
	"github.com/daypass/daypass/internal/enrolment"
	"github.com/daypass/daypass/internal/feed"
	"github.com/daypass/daypass/internal/httpapi"
	"github.com/daypass/daypass/internal/installation"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/keyring"
	"github.com/daypass/daypass/internal/kind"
	"github.com/daypass/daypass/internal/location"
	"github.com/daypass/daypass/internal/posture"
	"github.com/daypass/daypass/internal/review"
	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/internal/secretdir"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/trace"
	"github.com/daypass/daypass/internal/verifier"
	"github.com/daypass/daypass/internal/watch"
	"github.com/daypass/daypass/target"
)

// Options are what a server needs beside its configuration. The zero value is usable.
type Options struct {
	Version string
	Log     *slog.Logger     // to standard error as the configuration says, unless given
	Reload  <-chan os.Signal // each value reads certificates, secrets and the access directory again
	// Targets are more kinds of target, for test kits: a Target of such a kind is this one, whatever its section
	// says, and roles say of it what they like.
	Targets map[string]target.Target
}

// Server is a whole Daypass. Make it with [New] and run it once.
type Server struct {
	cfg     config.Config
	options Options
	log     *slog.Logger
	started time.Time

	store      *store.Store
	key        *keyring.Key
	clock      *revoker.Clock
	fleet      *revoker.Fleet
	revoker    *revoker.Revoker
	verifiers  *verifier.Pool
	deployment *deployment.Deployment
	issuer     *issuer.Issuer
	guard      *admission.Guard
	broker     *broker.Broker
	devices    *enrolment.Register
	posture    *posture.Records
	reviews    *review.Reviews
	location   *location.File // nil: none is configured
	registry   *prometheus.Registry
	figures    *figures
	feed       *feed.Feed
	watch      *watch.Watcher
	ready      *probe
	tracer     *trace.Tracer // nil: nothing is traced

	url         string
	certificate *certificateFiles // nil without TLS
	tcp         net.Listener
	socket      net.Listener // nil without one
	handler     http.Handler
}

// New opens what a configuration names and listens; nothing is served before [Server.Run]. It makes no key and no
// store: that is what [installation.Init] is for.
func New(ctx context.Context, cfg config.Config, opt Options) (_ *Server, err error) {
	cfg.Fill()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, options: opt, log: opt.Log, started: time.Now(), clock: revoker.NewClock(), fleet: revoker.NewFleet(), registry: prometheus.NewRegistry()}
	if s.log == nil {
		s.log = config.NewLogger(cfg.Log, os.Stderr)
	}
	s.figures = newFigures(s)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := s.openStore(ctx); err != nil {
		return nil, err
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	s.tracer, err = trace.New(ctx, trace.Config{OTLP: cfg.Traces.OTLP, Version: opt.Version, Instance: s.store.Instance(), Log: s.log})
	if err != nil {
		return nil, err
	}
	return s, s.assemble()
}

// openStore opens the store with the ledger's key that is sealed in it.
func (s *Server) openStore(ctx context.Context) (err error) {
	s.store, s.key, err = installation.Open(ctx, s.cfg, store.Options{Log: s.log, Committed: s.figures.committed, Name: processName()})
	return err
}

// processName tells this process from others of the same store.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unnamed"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// assemble makes the parts that need the store and our own address.
func (s *Server) assemble() error {
	locations, err := config.Zones(s.cfg.TimeZones)
	if err != nil {
		return err
	}
	s.revoker = revoker.New(revoker.Config{Store: s.store, Fleet: s.fleet, Clock: s.clock, Log: s.log})
	kinds, files := s.kinds(), secretdir.New(s.cfg.SecretsDir)
	s.issuer = s.newIssuer()
	tokens, err := s.accessTokens()
	if err != nil {
		return err
	}
	if s.watch, err = s.newWatcher(); err != nil {
		return err
	}
	s.verifiers = verifier.New(verifier.Config{
		Kinds:    kinds.Issuers,
		Audience: s.url,
		Secrets:  files,
		Store:    s.store,
		Egress:   s.cfg.Egress(),
		Watch:    s.watch,
		Measure:  s.figures.verifying,
		Now:      s.clock.Now,
		Log:      s.log,
	})
	s.deployment = deployment.New(deployment.Config{
		Kinds:     kinds,
		Zones:     locations,
		Secrets:   files,
		Verifiers: s.verifiers,
		Store:     s.store,
		Fleet:     s.fleet,
		Revoker:   s.revoker,
		Issuer:    s.issuer,
		Now:       s.clock.Now,
		Log:       s.log,
	})
	s.location = s.places()
	s.frontDesk(tokens)
	s.feed = feed.New(feed.Config{Guard: s.guard, Posture: s.posture, Store: s.store, Secrets: files, Egress: s.cfg.Egress(), Now: time.Now, Log: s.log})
	s.ready = newProbe(s.store, s.guard)
	for _, c := range []prometheus.Collector{s.figures, s.watch, s.guard, s.broker, s.devices, s.posture, s.reviews, s.revoker, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := s.registry.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	s.handler = httpapi.New(httpapi.Config{
		Guard:          s.guard,
		Broker:         s.broker,
		Devices:        s.devices,
		Posture:        s.posture,
		Fleet:          s.fleet,
		Store:          s.store,
		Metrics:        s.registry,
		Documents:      s.issuer.Documents,
		URL:            s.url,
		IssuerURL:      s.issuer.URL(),
		OAuth:          s.figures.oauthAnswered,
		Problem:        s.figures.refused,
		Refused:        s.watch.Refused,
		Status:         s.Status,
		Ready:          s.ready.reasons,
		TrustedProxies: s.cfg.TrustedProxies,
		Tracer:         s.tracer,
		Now:            time.Now,
		Log:            s.log,
	})
	return nil
}

// frontDesk makes the parts that answer requests.
func (s *Server) frontDesk(tokens *accesstoken.Tokens) {
	acquireRate := float64(s.cfg.Limits.AcquireRate)
	s.guard = admission.New(admission.Config{
		Store:      s.store,
		Ender:      s.revoker,
		Builder:    s.deployment,
		Tokens:     tokens,
		Admins:     s.cfg.Admins.Issuers,
		Locate:     s.locate,
		Conditions: s.cfg.Conditions,
		Now:        s.clock.Now,
		Log:        s.log,
	})
	s.broker = broker.New(broker.Config{
		Guard:   s.guard,
		Store:   s.store,
		Fleet:   s.fleet,
		Revoker: s.revoker,
		Clock:   s.clock,
		NewKey:  func(origin string) (store.Rotation, error) { return installation.NewLedgerKey(s.key, origin) },
		Issuer:  s.issuer,
		Tokens:  tokens,
		Limits:  broker.Limits{LeasesPerPrincipal: s.cfg.Limits.LeasesPerPrincipal, AcquireRate: acquireRate},
		Tracer:  s.tracer,
		Log:     s.log,
	})
	s.devices = enrolment.New(enrolment.Config{
		Guard:  s.guard,
		Signer: s.issuer,
		Store:  s.store,
		Ender:  s.revoker,
		Key:    device.CheckKey,
		Rate:   acquireRate,
		Now:    s.clock.Now,
		Log:    s.log,
	})
	s.posture = posture.New(posture.Config{Guard: s.guard, Store: s.store, Rate: posture.PerAcquisition * acquireRate, Now: s.clock.Now})
	s.reviews = review.New(review.Config{
		Guard:     s.guard,
		Store:     s.store,
		Activated: s.guard.Activated(),
		Posture:   s.posture.Changed(),
		Wake:      s.revoker.Wake,
		Now:       s.clock.Now,
		Log:       s.log,
	})
}

// kinds are what access files may speak of at this server.
func (s *Server) kinds() kind.Set {
	return kind.All(kind.Allowed{PostgresRoles: s.cfg.Postgres.AllowRoles}).With(s.options.Targets)
}

// URL is the server's own URL: the audience of tokens for it.
func (s *Server) URL() string { return s.url }

// Address is the address that the server listens on.
func (s *Server) Address() string { return s.tcp.Addr().String() }

// VerifierKey is the public key that signs the ledger now, as C2SP signed notes write it.
func (s *Server) VerifierKey() string { return s.store.Signer().VerifierKey() }

// Handler is what the listeners serve, for tests that need no connection.
func (s *Server) Handler() http.Handler { return s.handler }

// Run serves until ctx ends, and returns when everything has come to rest: first the listeners close and requests
// under way are answered, then the revoker records what it has under way, then the rest writes what it has
// counted, then the store is drained, and last what was traced is sent. The first part that fails stops all of them.
func (s *Server) Run(ctx context.Context) error {
	err := inOrder(ctx, s.serve, s.revoker.Run, s.keepHouse, s.feed.Run, s.watch.Run, s.verifiers.Run, s.issuer.Run, s.devices.Run, s.reviews.Run, s.guard.Run, s.store.Run, s.tracer.Run)
	return errors.Join(err, s.close())
}

// inOrder runs parts together and ends them one after the other: the first when ctx ends or a part fails, each
// next one when the one before it has returned.
func inOrder(ctx context.Context, parts ...func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range parts {
		current := ctx
		next, end := context.WithCancel(context.WithoutCancel(ctx))
		group.Go(func() error {
			defer end()
			return part(current)
		})
		ctx = next
	}
	return group.Wait()
}

// close gives up what New opened. It is called after everything has come to rest.
func (s *Server) close() error {
	var errs []error
	for _, l := range []net.Listener{s.tcp, s.socket} {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.deployment != nil {
		s.deployment.Close()
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}
