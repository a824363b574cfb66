package broker

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/delegation"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
)

// issuerRetry is when an issuer may be asked for keys again.
const issuerRetry = 10 * time.Second

// Evidence is what a caller shows. A token speaks before a certificate: who shows both is who the token says.
type Evidence struct {
	Token  secret.Text         // a workload token, an access token of ours, or a lease token
	Chain  []*x509.Certificate // of the TLS client, leaf first: it holds the leaf's key, and nobody looked at the rest
	Scheme string              // of the Authorization header that the token came in; empty where it came elsewhere
	Proof  string              // the DPoP header: that the caller holds the key that an access token is bound to
	Method string              // of the request: what the proof must be for
	URL    string              // of the request, by our own name for us
}

// IsZero reports whether nothing is shown.
func (e Evidence) IsZero() bool { return e.Token.IsZero() && len(e.Chain) == 0 }

// showing is how a token's key is shown to be held.
func (e Evidence) showing() accesstoken.Showing {
	return accesstoken.Showing{Scheme: e.Scheme, Proof: e.Proof, Method: e.Method, URL: e.URL, Chain: e.Chain}
}

// due is an ID that accepting evidence depends on.
type due struct {
	kind    string
	id      string
	until   time.Time
	looked  bool // it must not be used up, and is not used up by this
	durable bool // it is used up by reads too
	refusal error
	of      identity.Principal // the device, if it is one, that must count: see [Broker.enrolled]
}

// The kinds of IDs that are used up: words of the store, which must not change.
const (
	spentProof  = "dpop"
	spentAccess = "access-token" // those that were revoked
	spentToken  = "jti "         // and the issuer's URL
)

// clockRoom is how long after its expiry a token may still be taken, by a clock that is late.
const clockRoom = 5 * time.Minute

// identify turns evidence into a principal, by the issuers of a view. What is due has to be settled before anything
// is done for the principal.
func (b *Broker) identify(ctx context.Context, view *View, evidence Evidence) (p identity.Principal, dues []due, err error) {
	const op = "verify evidence"
	if evidence.IsZero() {
		return p, nil, fault.New(fault.Unauthenticated, op, "send a workload token as Authorization: Bearer")
	}
	if view == nil {
		return p, nil, fault.New(fault.Unauthenticated, op, "no access configuration is active, so no issuer is known")
	}
	if b.tokens != nil && b.tokens.Ours(evidence.Token) {
		return b.readAccess(ctx, view, evidence)
	}
	if evidence.Scheme == accesstoken.SchemeDPoP {
		return p, nil, b.unproven(op, &accesstoken.Refusal{
			Code: accesstoken.InvalidToken, Text: "the scheme DPoP is for access tokens of this server alone (RFC 9449 §7.1)"})
	}
	what := "token"
	if evidence.Token.IsZero() {
		what = "certificate"
		p, err = view.Verifier.VerifyCertificate(ctx, evidence.Chain)
	} else {
		p, err = view.Verifier.Verify(ctx, evidence.Token)
	}
	switch {
	case errors.Is(err, identity.ErrRejected):
		b.figures.rejected.Inc()
		return p, nil, fault.Wrap(fault.Unauthenticated, op, "the "+what+" was not accepted; the server's log has the reason under this request ID", err)
	case err != nil:
		refusal := fault.Wrap(fault.IssuerUnavailable, op, "the "+what+"'s issuer gave no keys to judge it by", err)
		refusal.RetryAfter = issuerRetry
		return p, nil, refusal
	}
	if err := delegation.Check(p.Claims); err != nil {
		b.figures.rejected.Inc()
		return p, nil, fault.New(fault.Unauthenticated, op, err.Error())
	}
	dues, err = b.onceOnly(view, p)
	return p, append(dues, membership(p)...), err
}

// onceOnly says that evidence of an issuer whose tokens are good once is used up.
func (b *Broker) onceOnly(view *View, p identity.Principal) ([]due, error) {
	if !view.Access.Issuers[p.Issuer].SingleUse {
		return nil, nil
	}
	if p.TokenID == "" {
		b.figures.rejected.Inc()
		return nil, fault.New(fault.Unauthenticated, "verify evidence", "tokens of this issuer are good once (single_use), and this one has no ID (jti, RFC 7519 §4.1.7)")
	}
	return []due{{kind: spentToken + p.IssuerURL, id: p.TokenID, until: later(p.ExpiresAt, b.clock.Now()).Add(clockRoom), durable: true,
		refusal: fault.New(fault.Unauthenticated, "verify evidence", "the token was used before, and tokens of this issuer are good once (single_use)")}}, nil
}

// readAccess takes an access token of ours, from who holds its key.
func (b *Broker) readAccess(ctx context.Context, view *View, evidence Evidence) (p identity.Principal, dues []due, err error) {
	const op = "verify an access token"
	token, err := b.tokens.Read(ctx, evidence.Token)
	if err != nil {
		return p, nil, b.unproven(op, err)
	}
	held, err := b.tokens.Hold(token, evidence.Token, evidence.showing())
	if err != nil {
		return p, nil, b.unproven(op, err)
	}
	p, err = b.known(view, token)
	return p, append(dueOf(held), revocation(token)), err
}

// known is the principal of an access token, by the name that its issuer has now: what had the name when the token was
// made may have left, and another issuer may have it.
func (b *Broker) known(view *View, token accesstoken.Token) (identity.Principal, error) {
	p, trusted := view.recognise(token.Principal)
	if !trusted {
		b.figures.rejected.Inc()
		return p, errIssuerLeft
	}
	return p, nil
}

// dueOf is what using a proof uses up.
func dueOf(held accesstoken.Possession) []due {
	if held.Proof.ID == "" {
		return nil
	}
	return []due{{kind: spentProof, id: held.Proof.Thumbprint + " " + held.Proof.ID, until: held.Proof.Until,
		refusal: unauthenticated("verify a proof", accesstoken.ErrReplayed())}}
}

// revocation is that a token must not have been revoked.
func revocation(token accesstoken.Token) due {
	return due{of: token.Principal, kind: spentAccess, id: token.ID, until: token.ExpiresAt, looked: true,
		refusal: unauthenticated("verify an access token", &accesstoken.Refusal{Code: accesstoken.InvalidToken, Text: "the access token was revoked (RFC 7009)"})}
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*accesstoken.Refusal](err)
	return ok
}

// unproven counts and returns a refusal of a token or a proof; other errors stay what they are.
func (b *Broker) unproven(op string, err error) error {
	if !isRefusal(err) {
		return err
	}
	b.figures.rejected.Inc()
	return unauthenticated(op, err)
}

func unauthenticated(op string, err error) error {
	public := ""
	if refusal, ok := errors.AsType[*accesstoken.Refusal](err); ok {
		public = refusal.Text
	}
	return fault.Wrap(fault.Unauthenticated, op, public, err)
}

// settle uses up what evidence depends on, in the transaction that does what the evidence is shown for.
func (b *Broker) settle(tx *store.Tx, dues []due) error {
	now := b.clock.Now()
	for _, d := range dues {
		var good bool
		var err error
		if d.looked {
			good, err = tx.Spent(d.kind, d.id, now)
			good = !good
		} else {
			good, err = tx.Spend(d.kind, d.id, now, d.until)
		}
		if err == nil && good {
			good, err = b.enrolled(tx, d.of)
		}
		if err != nil {
			return err
		}
		if !good {
			b.figures.rejected.Inc()
			return d.refusal
		}
	}
	return nil
}

// settleNow is settle in a transaction of its own. What only reads is remembered in memory, which has happened
// already, unless the issuer says that its tokens are good once.
func (b *Broker) settleNow(ctx context.Context, dues []due, reads bool) error {
	writes := false
	var needed []due
	for _, d := range dues {
		if reads && !d.looked && !d.durable {
			continue
		}
		needed = append(needed, d)
		writes = writes || !d.looked
	}
	if len(needed) == 0 {
		return nil
	}
	fn := func(tx *store.Tx) error { return b.settle(tx, needed) }
	if writes {
		return b.store.Update(ctx, fn)
	}
	return b.store.View(ctx, fn)
}
