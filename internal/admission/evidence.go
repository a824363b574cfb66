package admission

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

// Due is what accepting evidence depends on. It has to be settled before anything is done for who showed it.
type Due struct {
	kind    string
	id      string
	until   time.Time
	looked  bool // it must not be used up, and is not used up by this
	durable bool // it is used up by reads too
	refusal error
	of      identity.Principal // the device, if it is one, that must count: see [Guard.enrolled]
}

// reason is why evidence is counted as rejected that the due does not let pass.
func (d Due) reason() string {
	if d.looked {
		return "revoked"
	}
	return "used"
}

// The kinds of IDs that are used up: words of the store, which must not change.
const (
	spentProof  = "dpop"
	spentAccess = "access-token" // those that were revoked
	spentToken  = "jti "         // and the issuer's URL
)

// ClockRoom is how long after its expiry a token may still be taken, by a clock that is late.
const ClockRoom = 5 * time.Minute

// Verify turns evidence into a principal, by the issuers of a view. What is due has to be settled before anything
// is done for the principal.
func (g *Guard) Verify(ctx context.Context, view *View, evidence Evidence) (p identity.Principal, dues []Due, err error) {
	const op = "verify evidence"
	if evidence.IsZero() {
		return p, nil, fault.New(fault.Unauthenticated, op, "send a workload token as Authorization: Bearer (RFC 6750 §3)")
	}
	if view == nil {
		return p, nil, fault.New(fault.Unauthenticated, op, "no access configuration is active, so no issuer is known")
	}
	if g.tokens != nil && g.tokens.Ours(evidence.Token) {
		return g.readAccess(ctx, view, evidence)
	}
	if evidence.Scheme == accesstoken.SchemeDPoP {
		return p, nil, g.Unproven(op, &accesstoken.Refusal{
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
		return p, nil, fault.Wrap(fault.Unauthenticated, op, g.notAccepted(what, err), err)
	case err != nil:
		refusal := fault.Wrap(fault.IssuerUnavailable, op, "the "+what+"'s issuer gave no keys to judge it by", err)
		refusal.RetryAfter = issuerRetry
		return p, nil, refusal
	}
	if err := delegation.Check(p.Claims); err != nil {
		g.reject("actor")
		return p, nil, fault.New(fault.Unauthenticated, op, err.Error())
	}
	if !evidence.Token.IsZero() { // a handshake proves a certificate's key, and cannot be used again
		dues, err = g.onceOnly(view, p)
	}
	return p, append(dues, membership(p)...), err
}

// onceOnly says that evidence of an issuer whose tokens are good once is used up.
func (g *Guard) onceOnly(view *View, p identity.Principal) ([]Due, error) {
	if !view.Access.Issuers[p.Issuer].SingleUse {
		return nil, nil
	}
	if p.TokenID == "" {
		g.reject("token-id")
		return nil, fault.New(fault.Unauthenticated, "verify evidence", "tokens of this issuer are good once (single_use), and this one has no ID (jti, RFC 7519 §4.1.7)")
	}
	return []Due{{kind: spentToken + p.IssuerURL, id: p.TokenID, until: later(p.ExpiresAt, g.now()).Add(ClockRoom), durable: true,
		refusal: fault.New(fault.Unauthenticated, "verify evidence", "the token was used before, and tokens of this issuer are good once (single_use)")}}, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Settle uses up what evidence depends on, in the transaction that does what the evidence is shown for.
func (g *Guard) Settle(tx *store.Tx, dues []Due) error {
	now := g.now()
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
			good, err = g.enrolled(tx, d.of)
		}
		if err != nil {
			return err
		}
		if !good {
			g.reject(d.reason())
			return d.refusal
		}
	}
	return nil
}

// SettleNow is [Guard.Settle] in a transaction of its own. What only reads is remembered in memory, which has happened
// already, unless the issuer says that its tokens are good once.
func (g *Guard) SettleNow(ctx context.Context, dues []Due, reads bool) error {
	writes := false
	var needed []Due
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
	fn := func(tx *store.Tx) error { return g.Settle(tx, needed) }
	if writes {
		return g.store.Update(ctx, fn)
	}
	return g.store.View(ctx, fn)
}
