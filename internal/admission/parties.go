package admission

import (
	"context"
	"strings"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/secret"
)

// Parties are what is shown of those whom an exchange is about.
type Parties struct {
	Subject Evidence    // whom the exchange is for, and how the caller holds a key
	Actor   secret.Text // evidence of who acts for the subject; zero where nobody does
	Client  string      // the subject by its own name or with its issuer's, where the caller says it; else empty
	Prefix  string      // of the subject, where the kind of evidence says so
}

// Met is who stands there, in the end, and by which key.
type Met struct {
	View      *View
	Principal identity.Principal // the subject, with those who act for it
	Held      accesstoken.Possession
	Until     time.Time // no token given for it lives longer, since what it came with does not; zero: no such bound
	Dues      []Due
}

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

// MeetParties finds out who the subject and the actor are, and which key the caller holds.
func (g *Guard) MeetParties(ctx context.Context, parties Parties) (x Met, err error) {
	x.View = g.View()
	evidence := parties.Subject
	if !g.tokens.Ours(evidence.Token) && !g.tokens.Ours(parties.Actor) {
		// Else the proof is verified with the token that is bound to its key.
		if x.Held, x.Dues, err = g.Possess("verify a proof", evidence, secret.Text{}); err != nil {
			return x, err
		}
	}
	if x.Principal, err = g.party(ctx, &x, TheSubject, evidence); err != nil {
		return x, err
	}
	if p, name := x.Principal, parties.Client; name != "" && name != p.Subject && name != p.Name() || !strings.HasPrefix(p.Subject, parties.Prefix) {
		g.reject("client")
		return x, &PartyError{TheSubject, fault.New(fault.Unauthenticated, "identify the client", "the subject is not the client that the request names (RFC 7521 §4.2)")}
	}
	if parties.Actor.IsZero() {
		return x, nil
	}
	evidence.Token = parties.Actor
	actor, err := g.party(ctx, &x, TheActor, evidence)
	if err != nil {
		return x, err
	}
	if x.Principal, err = accesstoken.Delegate(x.Principal, actor); err != nil {
		g.reject("actor")
		return x, &PartyError{TheActor, fault.New(fault.Unauthenticated, "delegate", err.Error())}
	}
	return x, nil
}

// party identifies one party. An access token of ours brings the key that it is bound to.
func (g *Guard) party(ctx context.Context, x *Met, who Party, evidence Evidence) (identity.Principal, error) {
	if x.View != nil && g.tokens.Ours(evidence.Token) {
		return g.partyByAccess(ctx, x, who, evidence)
	}
	p, dues, err := g.Verify(ctx, x.View, evidence)
	if err != nil {
		return p, &PartyError{who, err}
	}
	x.Dues = append(x.Dues, dues...)
	now := g.now()
	if !p.ExpiresAt.IsZero() {
		x.before(later(p.ExpiresAt, now.Add(shortest)))
	}
	if relied := x.View.Verifier.Relied(p.IssuerURL); relied != 0 {
		x.before(now.Add(relied))
	}
	return p, nil
}

// shortest is how long an access token lives for evidence that is about to expire, or has within what clocks may be off:
// enough for what the evidence itself would have been good for.
const shortest = 30 * time.Second

// before bounds the life of the access token that the exchange may give.
func (x *Met) before(t time.Time) {
	if x.Until.IsZero() || t.Before(x.Until) {
		x.Until = t
	}
}

func (g *Guard) partyByAccess(ctx context.Context, x *Met, who Party, evidence Evidence) (p identity.Principal, err error) {
	const op = "verify an access token"
	token, err := g.tokens.Read(ctx, evidence.Token)
	if err != nil {
		return p, &PartyError{who, g.Unproven(op, err)}
	}
	if x.Held == (accesstoken.Possession{}) {
		if x.Held, err = g.tokens.Hold(token, evidence.Token, evidence.showing()); err != nil {
			return p, g.Unproven(op, err)
		}
		x.Dues = append(x.Dues, dueOf(x.Held)...)
	}
	if x.Held.Binding != token.Binding {
		return p, &PartyError{who, g.Unproven(op, &accesstoken.Refusal{Code: accesstoken.InvalidToken, Text: "the access token is bound to another key"})}
	}
	x.before(token.ExpiresAt)
	x.Dues = append(x.Dues, Revocation(token))
	if p, err = g.known(x.View, token); err != nil {
		return p, &PartyError{who, err}
	}
	return p, nil
}
