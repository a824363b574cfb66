// Package verifier holds the verifiers of the issuers in use, and sends each piece of evidence to the one that it is for.
//
// It owns which issuer a token or certificate is tried at (router.go), what is taken over from one access revision to the
// next (pool.go), and where issuers' keys are kept (keys.go). It promises that what evidence says of its issuer is believed
// for nothing but that choice; that a verifier whose configuration stays the same stays the same over revisions, with the
// keys that it has, so that activating a revision asks no issuer anything; and that of those whom it does not know it tells
// the watcher alone. It knows kinds of issuers, and none by name; it must not import what deploys or serves.
package verifier

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/kind"
	"github.com/daypass/daypass/internal/secretdir"
	"github.com/daypass/daypass/internal/source"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/watch"
)

// Config is everything that a [Pool] needs.
type Config struct {
	Kinds    map[string]kind.Issuer
	Audience string // our own URL
	Secrets  secretdir.Dir
	Store    *store.Store // keeps issuers' keys, and knows devices
	Egress   egress.Dialer
	Watch    *watch.Watcher
	// Measure is called as a verification begins, and what it returns as it ends: with the issuer's name, empty where no
	// issuer was chosen, and what came of it.
	Measure func() func(issuer string, err error)
	Now     func() time.Time
	Log     *slog.Logger
}

// Pool is the verifiers of the issuers in use. Make it with [New].
type Pool struct {
	cfg     Config
	changed chan struct{} // has one value after a change

	mu     sync.Mutex       // guards the field below
	active map[string]*used // of the deployed view, by name
}

// used is an open issuer, and what it was made from.
type used struct {
	kind.OpenIssuer
	kind        kind.Issuer
	name, url   string
	fingerprint string
}

// New returns a pool in which nothing is in use.
func New(cfg Config) *Pool { return &Pool{cfg: cfg, changed: make(chan struct{}, 1)} }

// Build returns the verifiers of a configuration, new ones where no active one fits, and which cannot be made.
func (p *Pool) Build(cfg *access.Config) (admission.Verifier, source.Errors) {
	out := &router{measure: p.cfg.Measure, watch: p.cfg.Watch, byURL: map[string]*used{}, byName: map[string]*used{}}
	var wrong source.Errors
	for _, name := range slices.Sorted(maps.Keys(cfg.Issuers)) {
		issuer := cfg.Issuers[name]
		opened, err := p.open(issuer)
		if err != nil {
			wrong = append(wrong, &source.Error{File: issuer.Place.File, Line: issuer.Place.Line, Column: issuer.Place.Column, Message: err.Error()})
			continue
		}
		out.byURL[issuer.URL], out.byName[name] = opened, opened
		if opened.Certificates != nil {
			out.certified = append(out.certified, opened)
		}
	}
	return out, wrong
}

// open returns the issuer in use that was made from the same, or a new one.
func (p *Pool) open(issuer access.Issuer) (*used, error) {
	k := p.cfg.Kinds[issuer.Kind]
	print, err := k.Fingerprint(issuer, p.cfg.Secrets)
	if err != nil {
		return nil, fmt.Errorf("issuer %q: %w", issuer.Name, err)
	}
	p.mu.Lock()
	known := p.active[issuer.Name]
	p.mu.Unlock()
	if known != nil && known.fingerprint == print {
		return known, nil
	}
	opened, err := k.Open(kind.IssuerOrder{
		Config: issuer, Audience: p.cfg.Audience, Keys: keyStore{p.cfg.Store}, Store: p.cfg.Store, Secrets: p.cfg.Secrets,
		Observer: p.cfg.Watch, Egress: p.cfg.Egress, Now: p.cfg.Now, Log: p.cfg.Log,
	})
	return &used{OpenIssuer: opened, kind: k, name: issuer.Name, url: issuer.URL, fingerprint: print}, err
}

// Deploy makes verifiers that [Pool.Build] returned those in use, whose keys are kept fresh.
func (p *Pool) Deploy(v admission.Verifier) {
	r, ok := v.(*router)
	if !ok {
		return // made by somebody else
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active = r.byName
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// current returns the issuers in use by name.
func (p *Pool) current() map[string]*used {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.active)
}

// Keys tells how it stands with the keys of the issuers in use, by their names; nil for one that has none of its own.
func (p *Pool) Keys() map[string]*oidc.Status {
	all := map[string]*oidc.Status{}
	for name, u := range p.current() {
		all[name] = nil
		if u.Status != nil {
			status := u.Status()
			all[name] = &status
		}
	}
	return all
}

// WantsCertificates reports whether some issuer in use has clients show certificates.
func (p *Pool) WantsCertificates() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.active {
		if u.Certificates != nil {
			return true
		}
	}
	return false
}

// Run keeps the keys of the issuers in use fresh until ctx ends.
func (p *Pool) Run(ctx context.Context) error {
	running := map[*used]context.CancelFunc{} // owned by this goroutine
	var all sync.WaitGroup
	defer all.Wait()
	for {
		wanted := map[*used]bool{}
		for _, u := range p.current() {
			wanted[u] = true
			if running[u] != nil || u.Run == nil {
				continue
			}
			own, stop := context.WithCancel(ctx)
			running[u] = stop
			all.Go(func() { _ = u.Run(own) }) // it ends with its context and returns nothing
		}
		for u, stop := range running {
			if !wanted[u] {
				stop()
				delete(running, u)
			}
		}
		select {
		case <-ctx.Done():
			for _, stop := range running {
				stop()
			}
			return nil
		case <-p.changed:
		}
	}
}
