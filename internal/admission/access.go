package admission

import (
	"context"
	"errors"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
)

// Possess returns the key that a caller proves to hold, with what using the proof uses up. The proof goes with a text.
func (g *Guard) Possess(op string, evidence Evidence, with secret.Text) (accesstoken.Possession, []Due, error) {
	held, err := g.tokens.Possess(evidence.showing(), with)
	if err != nil {
		return held, nil, g.Unproven(op, err)
	}
	return held, dueOf(held), nil
}

// readAccess takes an access token of ours, from who holds its key.
func (g *Guard) readAccess(ctx context.Context, view *View, evidence Evidence) (p identity.Principal, dues []Due, err error) {
	const op = "verify an access token"
	token, err := g.tokens.Read(ctx, evidence.Token)
	if err != nil {
		return p, nil, g.Unproven(op, err)
	}
	held, err := g.tokens.Hold(token, evidence.Token, evidence.showing())
	if err != nil {
		return p, nil, g.Unproven(op, err)
	}
	p, err = g.known(view, token)
	return p, append(dueOf(held), Revocation(token)), err
}

// known is the principal of an access token, by the name that its issuer has now: what had the name when the token was
// made may have left, and another issuer may have it.
func (g *Guard) known(view *View, token accesstoken.Token) (identity.Principal, error) {
	p, trusted := view.Recognise(token.Principal)
	if !trusted {
		g.reject("issuer")
		return p, ErrIssuerLeft
	}
	return p, nil
}

// dueOf is what using a proof uses up.
func dueOf(held accesstoken.Possession) []Due {
	if held.Proof.ID == "" {
		return nil
	}
	return []Due{{kind: spentProof, id: held.Proof.Thumbprint + " " + held.Proof.ID, until: held.Proof.Until,
		refusal: Unauthenticated("verify a proof", accesstoken.ErrReplayed())}}
}

// Revocation is that a token must not have been revoked.
func Revocation(token accesstoken.Token) Due {
	return Due{of: token.Principal, kind: spentAccess, id: token.ID, until: token.ExpiresAt, looked: true,
		refusal: Unauthenticated("verify an access token", &accesstoken.Refusal{Code: accesstoken.InvalidToken, Text: "the access token was revoked (RFC 7009)"})}
}

// Unproven counts and returns a refusal of a token or a proof; other errors stay what they are.
func (g *Guard) Unproven(op string, err error) error {
	refusal, ok := errors.AsType[*accesstoken.Refusal](err)
	if !ok {
		return err
	}
	g.reject(reasonOf(refusal))
	return Unauthenticated(op, err)
}

// Unauthenticated is the refusal of a token or a proof, with what its caller may know of it.
func Unauthenticated(op string, err error) error {
	public := ""
	if refusal, ok := errors.AsType[*accesstoken.Refusal](err); ok {
		public = refusal.Text
	}
	return fault.Wrap(fault.Unauthenticated, op, public, err)
}

// Revoke has an access token count no more.
func Revoke(tx *store.Tx, token accesstoken.Token, now time.Time) error {
	_, err := tx.Spend(spentAccess, token.ID, now, token.ExpiresAt.Add(ClockRoom))
	return err
}
