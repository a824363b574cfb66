package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
)

// ExchangeRequest asks for an access token, or for a credential of a role.
type ExchangeRequest struct {
	Parties admission.Parties
	Role    string // empty: an access token
	TTL     time.Duration
	Reason  string
	Key     string // Idempotency-Key
	Origin  admission.Origin
}

// Exchanged is what an exchange gives: an access token, or a lease.
type Exchanged struct {
	Principal identity.Principal
	Text      secret.Text // of the access token; zero where there is a lease
	Token     accesstoken.Token
	Acquired  *Acquired
}

// Exchange gives a workload, for its evidence, an access token that is bound to a key which the caller holds; or,
// where a role is named, a lease of it, as [Broker.Acquire] does.
func (b *Broker) Exchange(ctx context.Context, request ExchangeRequest) (out Exchanged, err error) {
	met, err := b.guard.MeetParties(ctx, request.Parties)
	if err != nil {
		return out, err
	}
	out.Principal = met.Principal
	if request.Role != "" {
		a := &acquisition{view: met.View, principal: met.Principal, dues: met.Dues, request: AcquireRequest{
			Role: request.Role, TTL: request.TTL, Reason: request.Reason, Key: request.Key, Origin: request.Origin}}
		acquired, err := b.acquireTraced(ctx, a, b.acquireAs)
		out.Acquired = &acquired
		return out, err
	}
	out.Text, out.Token, err = b.giveToken(ctx, met)
	return out, err
}

// giveToken makes an access token, once what its evidence depends on is settled.
func (b *Broker) giveToken(ctx context.Context, met admission.Met) (text secret.Text, token accesstoken.Token, err error) {
	const op = "make an access token"
	if met.Held.Binding == (accesstoken.Binding{}) {
		return text, token, admission.Unauthenticated(op, &accesstoken.Refusal{Code: accesstoken.InvalidProof,
			Text: "access tokens here are bound to a key: send a DPoP proof (RFC 9449 §5), or come with a client certificate (RFC 8705 §3)"})
	}
	var trusted bool
	if met.Principal, trusted = met.View.Recognise(met.Principal); !trusted {
		return text, token, admission.ErrIssuerLeft
	}
	if err := b.exchanges.Take(met.Principal.IssuerURL, met.Principal.Subject, time.Now()); err != nil {
		return text, token, err
	}
	// A lock does not refuse the token: it is about leases, and who holds one may always release it.
	if err := b.guard.SettleNow(ctx, met.Dues, false); err != nil {
		return text, token, err
	}
	text, token, err = b.tokens.Mint(ctx, met.Principal, met.Held.Binding, met.Until)
	if refusal, ok := errors.AsType[*accesstoken.Refusal](err); ok {
		return text, token, &admission.PartyError{Party: admission.TheSubject, Err: b.guard.Unproven(op, refusal)}
	}
	return text, token, err
}

// Introspection is what is known of a token. Not more than Active is told to strangers.
type Introspection struct {
	Active bool
	Token  accesstoken.Token // of an access token
	Lease  store.Lease       // of a lease token
}

// Introspect tells a caller about an access token or a lease token that is their own, and administrators about any.
func (b *Broker) Introspect(ctx context.Context, c admission.Caller, token secret.Text) (found Introspection, err error) {
	who, err := b.guard.Identify(ctx, c)
	if err != nil {
		return found, err
	}
	if admission.IsLeaseToken(token) {
		l, err := b.guard.LeaseOfToken(ctx, token)
		if fault.Is(err, fault.Unauthenticated) {
			return found, nil
		}
		if err == nil && l.State == lease.Active && (who.Owns(l) || who.Local || b.guard.Permits(who, policy.Read, onLease(l))) {
			found = Introspection{Active: b.clock.Now().Before(l.ExpiresAt), Lease: l}
		}
		return found, err
	}
	if who.View == nil || !b.tokens.Ours(token) {
		return found, nil
	}
	read, err := b.tokens.Read(ctx, token)
	if err != nil {
		return found, refusedIsNothing(err)
	}
	p := read.Principal
	owns := who.Holds == "" && who.Principal.IssuerURL == p.IssuerURL && who.Principal.Subject == p.Subject
	_, trusted := who.View.Recognise(p)
	if !trusted || !owns && !who.Local && !b.guard.Permits(who, policy.Read, policy.OnSystem()) {
		return found, nil
	}
	err = b.store.View(ctx, func(tx *store.Tx) error { return b.guard.Settle(tx, []admission.Due{admission.Revocation(read)}) })
	if err != nil {
		return found, refusedIsNothing(err)
	}
	return Introspection{Active: true, Token: read}, nil
}

// refusedIsNothing is the error of what could not be told: that a token is not good is an answer.
func refusedIsNothing(err error) error {
	if _, ok := errors.AsType[*accesstoken.Refusal](err); ok {
		return nil
	}
	return err
}

// RevokeToken ends what a token stands for, if it is one of ours that lives: a lease token's lease, and an access
// token. Who has a token may end it, however they came by it.
func (b *Broker) RevokeToken(ctx context.Context, origin admission.Origin, token secret.Text) error {
	if admission.IsLeaseToken(token) {
		l, err := b.guard.LeaseOfToken(ctx, token)
		if err != nil {
			return unknownIsNothing(err)
		}
		_, err = b.Release(ctx, admission.Caller{Evidence: admission.Evidence{Token: token}, Origin: origin}, l.ID, 0)
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
		return admission.Revoke(tx, read, b.clock.Now())
	})
	if err != nil {
		return fmt.Errorf("revoke an access token of %s: %w", read.Principal.Name(), err)
	}
	origin.Log(b.log).Info("an access token was revoked", "principal", read.Principal.Name())
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
