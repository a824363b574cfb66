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
	"log/slog"

	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/rate"
	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/trace"
)

// Config is what a Broker needs.
type Config struct {
	Guard   *admission.Guard
	Store   *store.Store
	Fleet   *revoker.Fleet
	Revoker *revoker.Revoker
	Clock   *revoker.Clock
	NewKey  NewKey
	Issuer  *issuer.Issuer      // nil: we are none
	Tokens  *accesstoken.Tokens // nil: there are no access tokens
	Limits  Limits
	Tracer  *trace.Tracer // nil: nothing is traced
	Log     *slog.Logger
}

// Limits bound what one principal may do; roles may be narrower.
type Limits struct {
	LeasesPerPrincipal int     // live leases; 0: no limit
	AcquireRate        float64 // acquisitions, and renewals, per second, with a burst of as many; 0: no limit
}

// Broker serves workloads and administrators. Its methods may be called concurrently.
type Broker struct {
	guard     *admission.Guard
	store     *store.Store
	fleet     *revoker.Fleet
	revoker   *revoker.Revoker
	clock     *revoker.Clock
	newKey    NewKey
	issuer    *issuer.Issuer
	tokens    *accesstoken.Tokens
	limits    Limits
	tracer    *trace.Tracer
	log       *slog.Logger
	rates     *rate.Limit // of acquisitions
	renews    *rate.Limit // of renewals, by a rate as high
	exchanges *rate.Limit // of exchanges for access tokens, by a rate as high
	renewing  busy
	figures   *figures
}

// New returns a Broker.
func New(cfg Config) *Broker {
	return &Broker{
		guard:     cfg.Guard,
		store:     cfg.Store,
		fleet:     cfg.Fleet,
		revoker:   cfg.Revoker,
		clock:     cfg.Clock,
		newKey:    cfg.NewKey,
		issuer:    cfg.Issuer,
		tokens:    cfg.Tokens,
		limits:    cfg.Limits,
		tracer:    cfg.Tracer,
		log:       cfg.Log,
		rates:     rate.New(cfg.Limits.AcquireRate),
		renews:    rate.New(cfg.Limits.AcquireRate),
		exchanges: rate.New(cfg.Limits.AcquireRate),
		figures:   newFigures(),
	}
}
