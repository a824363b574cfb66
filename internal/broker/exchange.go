package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
)

// Party says whose evidence an exchange could not accept.
type Party string

// The parties of an exchange.
const (
	TheSubject Party = "subject"
	TheActor   Party = "actor"
)

// PartyError is the refusal of one party's evidence.
type PartyError struct {
	Party Party
	Err   error
}

// Error tells the refusal.
func (e *PartyError) Error() string { return string(e.Party) + ": " + e.Err.Error() }

// Unwrap returns the refusal.
func (e *PartyError) Unwrap() error { return e.Err }

// ExchangeRequest asks for an access token, or for a credential of a role.
type ExchangeRequest struct {
	Subject Evidence    // whom the token stands for, and how the caller holds a key
	Actor   secret.Text // evidence of who acts for the subject; zero where nobody does
	Client  string      // the subject by its own name or with its issuer's, where the caller says it; else empty
	Prefix  string      // of the subject, where the kind of evidence says so
	Role    string      // empty: an access token
	TTL     time.Duration
	Reason  string
	Key     string // Idempotency-Key
	Origin  Origin
}

// Exchanged is what an exchange gives: an access token, or a lease.
type Exchanged struct {
	Principal identity.Principal
	Text      secret.Text // of the access token; zero where there is a lease
	Token     accesstoken.Token
	Acquired  *Acquired
}

// exchange is one request on its way.
type exchange struct {
	request   ExchangeRequest
	view      *View
	principal identity.Principal
	held      accesstoken.Possession
	until     time.Time // no token that it gives lives longer, since what it came with does not; zero: no such bound
	dues      []due
}

// Exchange gives a workload, for its evidence, an access token that is bound to a key which the caller holds; or,
// where a role is named, a lease of it, as [Broker.Acquire] does.
func (b *Broker) Exchange(ctx context.Context, request ExchangeRequest) (out Exchanged, err error) {
	x := &exchange{request: request, view: b.View()}
	if err := b.meetParties(ctx, x); err != nil {
		return out, err
	}
	out.Principal = x.principal
	if request.Role != "" {
		a := &acquisition{view: x.view, principal: x.principal, dues: x.dues, request: AcquireRequest{
			Role: request.Role, TTL: request.TTL, Reason: request.Reason, Key: request.Key, Origin: request.Origin}}
		acquired, err := b.acquireTraced(ctx, a, b.acquireAs)
		out.Acquired = &acquired
		return out, err
	}
	out.Text, out.Token, err = b.giveToken(ctx, x)
	return out, err
}

// meetParties finds out who the subject and the actor are, and which key the caller holds.
func (b *Broker) meetParties(ctx context.Context, x *exchange) (err error) {
	evidence := x.request.Subject
	if !b.tokens.Ours(evidence.Token) && !b.tokens.Ours(x.request.Actor) {
		// Else the proof is verified with the token that is bound to its key.
		if x.held, err = b.tokens.Possess(evidence.showing(), secret.Text{}); err != nil {
			return b.unproven("verify a proof", err)
		}
		x.dues = dueOf(x.held)
	}
	if x.principal, err = b.party(ctx, x, TheSubject, evidence); err != nil {
		return err
	}
	if p, r := x.principal, x.request; r.Client != "" && r.Client != p.Subject && r.Client != p.Name() || !strings.HasPrefix(p.Subject, r.Prefix) {
		b.figures.rejected.Inc()
		return &PartyError{TheSubject, fault.New(fault.Unauthenticated, "identify the client", "the subject is not the client that the request names (RFC 7521 §4.2)")}
	}
	if x.request.Actor.IsZero() {
		return nil
	}
	evidence.Token = x.request.Actor
	actor, err := b.party(ctx, x, TheActor, evidence)
	if err != nil {
		return err
	}
	if x.principal, err = accesstoken.Delegate(x.principal, actor); err != nil {
		b.figures.rejected.Inc()
		return &PartyError{TheActor, fault.New(fault.Unauthenticated, "delegate", err.Error())}
	}
	return nil
}

// party identifies one party. An access token of ours brings the key that it is bound to.
func (b *Broker) party(ctx context.Context, x *exchange, who Party, evidence Evidence) (identity.Principal, error) {
	if x.view != nil && b.tokens.Ours(evidence.Token) {
		return b.partyByAccess(ctx, x, who, evidence)
	}
	p, dues, err := b.identify(ctx, x.view, evidence)
	if err != nil {
		return p, &PartyError{who, err}
	}
	x.dues = append(x.dues, dues...)
	now := b.clock.Now()
	if !p.ExpiresAt.IsZero() {
		x.before(later(p.ExpiresAt, now.Add(shortest)))
	}
	if relied := x.view.Verifier.Relied(p.IssuerURL); relied != 0 {
		x.before(now.Add(relied))
	}
	return p, nil
}

// shortest is how long an access token lives for evidence that is about to expire, or has within what clocks may be off:
// enough for what the evidence itself would have been good for.
const shortest = 30 * time.Second

// before bounds the life of the access token that the exchange may give.
func (x *exchange) before(t time.Time) {
	if x.until.IsZero() || t.Before(x.until) {
		x.until = t
	}
}

func (b *Broker) partyByAccess(ctx context.Context, x *exchange, who Party, evidence Evidence) (p identity.Principal, err error) {
	const op = "verify an access token"
	token, err := b.tokens.Read(ctx, evidence.Token)
	if err != nil {
		return p, &PartyError{who, b.unproven(op, err)}
	}
	if x.held == (accesstoken.Possession{}) {
		if x.held, err = b.tokens.Hold(token, evidence.Token, evidence.showing()); err != nil {
			return p, b.unproven(op, err)
		}
		x.dues = append(x.dues, dueOf(x.held)...)
	}
	if x.held.Binding != token.Binding {
		return p, &PartyError{who, b.unproven(op, &accesstoken.Refusal{Code: accesstoken.InvalidToken, Text: "the access token is bound to another key"})}
	}
	x.before(token.ExpiresAt)
	x.dues = append(x.dues, revocation(token))
	if p, err = b.known(x.view, token); err != nil {
		return p, &PartyError{who, err}
	}
	return p, nil
}

// giveToken makes an access token, once what its evidence depends on is settled.
func (b *Broker) giveToken(ctx context.Context, x *exchange) (text secret.Text, token accesstoken.Token, err error) {
	const op = "make an access token"
	if x.held.Binding == (accesstoken.Binding{}) {
		return text, token, unauthenticated(op, &accesstoken.Refusal{Code: accesstoken.InvalidProof,
			Text: "access tokens here are bound to a key: send a DPoP proof (RFC 9449 §5), or come with a client certificate (RFC 8705 §3)"})
	}
	var trusted bool
	if x.principal, trusted = x.view.recognise(x.principal); !trusted {
		return text, token, errIssuerLeft
	}
	if err := b.exchanges.take(x.principal.IssuerURL, x.principal.Subject, time.Now()); err != nil {
		return text, token, err
	}
	// A lock does not refuse the token: it is about leases, and who holds one may always release it.
	if err := b.settleNow(ctx, x.dues, false); err != nil {
		return text, token, err
	}
	text, token, err = b.tokens.Mint(ctx, x.principal, x.held.Binding, x.until)
	if refusal, ok := errors.AsType[*accesstoken.Refusal](err); ok {
		return text, token, &PartyError{TheSubject, b.unproven(op, refusal)}
	}
	return text, token, err
}

// withActors is a lease as held by its principal, and by each who acts for it.
func withActors(l store.Lease) ([]store.Lease, error) {
	holders := []store.Lease{l}
	if !bytes.Contains(l.Claims, []byte(`"act"`)) {
		return holders, nil
	}
	claims, err := identity.ParseClaims(l.Claims)
	if err != nil {
		return nil, err
	}
	for _, actor := range accesstoken.Actors(identity.Principal{Claims: claims}) {
		if actor.IssuerURL != "" && actor.Subject != "" {
			l.IssuerURL, l.Subject = actor.IssuerURL, actor.Subject
			holders = append(holders, l)
		}
	}
	return holders, nil
}

// Introspection is what is known of a token. Not more than Active is told to strangers.
type Introspection struct {
	Active bool
	Token  accesstoken.Token // of an access token
	Lease  store.Lease       // of a lease token
}

// Introspect tells a caller about an access token or a lease token that is their own, and administrators about any.
func (b *Broker) Introspect(ctx context.Context, c Caller, token secret.Text) (found Introspection, err error) {
	who, err := b.identifyCaller(ctx, c)
	if err != nil {
		return found, err
	}
	if isLeaseToken(token) {
		l, err := b.leaseOfToken(ctx, token)
		if fault.Is(err, fault.Unauthenticated) {
			return found, nil
		}
		if err == nil && l.State == lease.Active && (who.owns(l) || who.local || b.permits(who, policy.Read, onLease(l))) {
			found = Introspection{Active: b.clock.Now().Before(l.ExpiresAt), Lease: l}
		}
		return found, err
	}
	if who.view == nil || !b.tokens.Ours(token) {
		return found, nil
	}
	read, err := b.tokens.Read(ctx, token)
	if err != nil {
		return found, refusedIsNothing(err)
	}
	p := read.Principal
	owns := who.holds == "" && who.principal.IssuerURL == p.IssuerURL && who.principal.Subject == p.Subject
	_, trusted := who.view.recognise(p)
	if !trusted || !owns && !who.local && !b.permits(who, policy.Read, policy.OnSystem()) {
		return found, nil
	}
	err = b.store.View(ctx, func(tx *store.Tx) error { return b.settle(tx, []due{revocation(read)}) })
	if err != nil {
		return found, refusedIsNothing(err)
	}
	return Introspection{Active: true, Token: read}, nil
}

// refusedIsNothing is the error of what could not be told: that a token is not good is an answer.
func refusedIsNothing(err error) error {
	if isRefusal(err) {
		return nil
	}
	return err
}

// RevokeToken ends what a token stands for, if it is one of ours that lives: a lease token's lease, and an access
// token. Who has a token may end it, however they came by it.
func (b *Broker) RevokeToken(ctx context.Context, origin Origin, token secret.Text) error {
	if isLeaseToken(token) {
		l, err := b.leaseOfToken(ctx, token)
		if err != nil {
			return unknownIsNothing(err)
		}
		_, err = b.Release(ctx, Caller{Evidence: Evidence{Token: token}, Origin: origin}, l.ID, 0)
		return err
	}
	if !b.tokens.Ours(token) {
		return nil
	}
	read, err := b.tokens.Read(ctx, token)
	if err != nil {
		return refusedIsNothing(err)
	}
	err = b.store.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.Spend(spentAccess, read.ID, b.clock.Now(), read.ExpiresAt.Add(clockRoom))
		return err
	})
	if err != nil {
		return fmt.Errorf("revoke an access token of %s: %w", read.Principal.Name(), err)
	}
	b.logOf(origin).Info("an access token was revoked", "principal", read.Principal.Name())
	return nil
}

func unknownIsNothing(err error) error {
	if fault.Is(err, fault.Unauthenticated) {
		return nil
	}
	return err
}

// Nonce is for a caller's next proof, and empty where there are no access tokens.
func (b *Broker) Nonce() string {
	if b.tokens == nil {
		return ""
	}
	return b.tokens.Nonce()
}
