// Package broker is the front desk: it tells the story of an acquisition from evidence to credential.
//
//	verify    evidence → principal
//	decide    principal, role, context → allow or deny
//	record    lease `pending`, decision and ledger entry, one durable transaction
//	grant     the target makes the credential
//	activate  lease `active` and ledger entry, after a second look at locks and the access revision
//	answer    credential, lease token and receipt, once
//
// Data flows one way. A crash between two steps leaves a row that the revoker ends. Everything after the record
// is detached from the caller: a client that hangs up changes nothing but who reads the answer.
//
// The broker must not import the edge or concrete targets and issuers, and holds no SQL.
package broker

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/trace"
)

// Config is what a Broker needs.
type Config struct {
	Store   *store.Store
	Fleet   *revoker.Fleet
	Revoker *revoker.Revoker
	Clock   *revoker.Clock
	Builder Builder
	NewKey  NewKey
	Issuer  *issuer.Issuer      // nil: we are none
	Tokens  *accesstoken.Tokens // nil: there are no access tokens
	Limits  Limits
	Tracer  *trace.Tracer // nil: nothing is traced
	Admins  []string      // names of the issuers whose principals may administer, where policies permit
	// Locate says where an address is: codes of ISO 3166-1 and 3166-2, empty where it does not know. nil: nowhere.
	Locate     func(netip.Addr) (country, subdivision string)
	Conditions string // [ConditionsOff] unless given
	// DeviceKey refuses public keys (JWK) that no device may have.
	DeviceKey func(jwk []byte) (thumbprint string, err error)
	Log       *slog.Logger
}

// Limits bound what one principal may do; roles may be narrower.
type Limits struct {
	LeasesPerPrincipal int     // live leases; 0: no limit
	AcquireRate        float64 // acquisitions, and renewals, per second, with a burst of as many; 0: no limit
}

// Builder turns an access configuration into what serves requests. It is where concrete targets and issuers are
// known.
type Builder interface {
	// Build validates files and compiles them. It connects to nothing.
	Build(ctx context.Context, revision string, files access.Files) (*View, error)
	// Deploy puts the targets of a view that became active into the fleet, and keeps the targets that it no
	// longer names for as long as leases of theirs live. It returns notes for the operator.
	Deploy(ctx context.Context, view *View) (notes []string, err error)
}

// View is an access revision ready to serve. It is immutable, and a request uses one from start to end.
type View struct {
	Revision string
	Access   *access.Config
	Policy   *policy.Engine
	Verifier Verifier // of all issuers of the revision

	left map[string]bool // the URLs of issuers that left, with this revision or before; set before it serves
}

// Verifier checks evidence of every kind.
type Verifier interface {
	identity.Verifier
	identity.CertificateVerifier
	// Relied tells for how long an issuer's word may be relied on after it was asked, where it can take it back before
	// its evidence expires; zero where it cannot. No access token lives longer.
	Relied(issuerURL string) time.Duration
}

// recognise returns the principal under the name that this view has for its issuer, and false when it has none: names
// move between issuers, URLs do not. An issuer that left takes those along who act for others; one that never was here
// is vouched for by the principal's own.
func (v *View) recognise(p identity.Principal) (identity.Principal, bool) {
	for _, actor := range accesstoken.Actors(p) {
		if v.left[actor.IssuerURL] {
			return p, false
		}
	}
	if issuer, ok := v.Access.Issuers[p.Issuer]; ok && issuer.URL == p.IssuerURL {
		return p, true
	}
	for _, issuer := range v.Access.Issuers {
		if issuer.URL == p.IssuerURL {
			p.Issuer = issuer.Name
			return p, true
		}
	}
	return p, false
}

// NameOf returns the name that an issuer with this URL has in the view, and the URL where it has none.
func (v *View) NameOf(url string) string {
	for _, issuer := range v.Access.Issuers {
		if issuer.URL == url {
			return issuer.Name
		}
	}
	return url
}

// Broker serves workloads and administrators. Its methods may be called concurrently.
type Broker struct {
	store      *store.Store
	fleet      *revoker.Fleet
	revoker    *revoker.Revoker
	clock      *revoker.Clock
	builder    Builder
	newKey     NewKey
	issuer     *issuer.Issuer
	tokens     *accesstoken.Tokens
	limits     Limits
	admins     map[string]bool
	tracer     *trace.Tracer
	log        *slog.Logger
	rates      *rates // of acquisitions
	renews     *rates // of renewals, by a rate as high
	exchanges  *rates // of exchanges for access tokens, by a rate as high
	renewing   busy
	denials    *denials
	locate     func(netip.Addr) (country, subdivision string)
	conditions string
	deviceKey  func(jwk []byte) (thumbprint string, err error)
	strangers  *rates        // failed attempts to enrol or renew a device, by address
	reports    *rates        // of posture
	changed    chan struct{} // wakes the reviews of posture; buffered, so that a wake is never lost
	activated  chan struct{} // wakes those of policies
	figures    *figures

	view     atomic.Pointer[View] // the active revision; replaced whole
	changing chan struct{}        // holds one value while a goroutine changes view
	stopped  chan struct{}        // closed when Run has returned
}

// New returns a Broker without an access revision: it denies everything until [Broker.Load] or [Broker.Apply].
func New(cfg Config) *Broker {
	b := &Broker{
		store:      cfg.Store,
		fleet:      cfg.Fleet,
		revoker:    cfg.Revoker,
		clock:      cfg.Clock,
		builder:    cfg.Builder,
		newKey:     cfg.NewKey,
		issuer:     cfg.Issuer,
		tokens:     cfg.Tokens,
		limits:     cfg.Limits,
		admins:     map[string]bool{},
		tracer:     cfg.Tracer,
		log:        cfg.Log,
		rates:      newRates(cfg.Limits.AcquireRate),
		renews:     newRates(cfg.Limits.AcquireRate),
		exchanges:  newRates(cfg.Limits.AcquireRate),
		figures:    newFigures(),
		changing:   make(chan struct{}, 1),
		locate:     cfg.Locate,
		conditions: cfg.Conditions,
		deviceKey:  cfg.DeviceKey,
		strangers:  newRates(strangerRate),
		reports:    newRates(reportsPerAcquire * cfg.Limits.AcquireRate),
		changed:    make(chan struct{}, 1),
		activated:  make(chan struct{}, 1),
		stopped:    make(chan struct{}),
	}
	for _, name := range cfg.Admins {
		b.admins[name] = true
	}
	b.denials = newDenials(b)
	return b
}

// logOf is the log of what a request asked for: its lines carry the request's ID. What nobody asked for has none.
func (b *Broker) logOf(o Origin) *slog.Logger {
	if o.Request == "" {
		return b.log
	}
	return b.log.With("request", o.Request)
}

// View returns the active access revision, or nil when there is none.
func (b *Broker) View() *View { return b.view.Load() }

// followEvery is how often to look for a revision that another server of the store has activated. Acquisitions find
// out by themselves: they check the revision with their record.
const followEvery = 500 * time.Millisecond

// follow serves the active revision where another server has activated one, also the first of a new installation. It
// returns how long to wait before the next look: what cannot be served or read now is not told twice a second.
func (b *Broker) follow(ctx context.Context) time.Duration {
	_, err := b.refresh(ctx)
	if err == nil || fault.Is(err, fault.NotFound) || ctx.Err() != nil {
		return followEvery
	}
	b.log.Error("follow the active access revision", "err", err)
	return 10 * followEvery
}

// Run keeps the broker's own house until ctx ends: it counts denials into the store, prunes what retention lets
// go, and forgets idle principals' rates.
func (b *Broker) Run(ctx context.Context) error {
	defer close(b.stopped)
	var reviewing sync.WaitGroup
	defer reviewing.Wait()
	reviewing.Go(func() { b.runReviews(ctx) })
	const every = 30 * time.Second
	ticker, follow := time.NewTicker(every), time.NewTimer(followEvery)
	defer ticker.Stop()
	defer follow.Stop()
	for {
		select {
		case <-ctx.Done():
			return b.denials.flush(context.WithoutCancel(ctx))
		case <-follow.C:
			if b.store.Shared() {
				follow.Reset(b.follow(ctx))
			}
			continue
		case <-ticker.C:
		}
		if err := b.denials.flush(ctx); err != nil {
			b.log.Error("record the denials", "err", err)
		}
		b.rates.forget(time.Now())
		b.renews.forget(time.Now())
		b.exchanges.forget(time.Now())
		b.reports.forget(time.Now())
		b.strangers.forget(time.Now())
	}
}
