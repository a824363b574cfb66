package broker

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/secret"
)

// issuerRetry is when an issuer may be asked for keys again.
const issuerRetry = 10 * time.Second

// Evidence is what a caller shows. A token speaks before a certificate: who shows both is who the token says.
type Evidence struct {
	Token secret.Text         // a workload token, or a lease token
	Chain []*x509.Certificate // of the TLS client, leaf first: it holds the leaf's key, and nobody looked at the rest
}

// IsZero reports whether nothing is shown.
func (e Evidence) IsZero() bool { return e.Token.IsZero() && len(e.Chain) == 0 }

// identify turns evidence into a principal, by the issuers of a view.
func (b *Broker) identify(ctx context.Context, view *View, evidence Evidence) (p identity.Principal, err error) {
	const op = "verify evidence"
	if evidence.IsZero() {
		return p, fault.New(fault.Unauthenticated, op, "send a workload token as Authorization: Bearer")
	}
	if view == nil {
		return p, fault.New(fault.Unauthenticated, op, "no access configuration is active, so no issuer is known")
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
		return p, fault.Wrap(fault.Unauthenticated, op, "the "+what+" was not accepted; the server's log has the reason under this request ID", err)
	case err != nil:
		refusal := fault.Wrap(fault.IssuerUnavailable, op, "the "+what+"'s issuer gave no keys to judge it by", err)
		refusal.RetryAfter = issuerRetry
		return p, refusal
	}
	return p, nil
}
