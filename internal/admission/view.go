package admission

import (
	"context"
	"errors"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
)

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

// Recognise returns the principal under the name that this view has for its issuer, and false when it has none: names
// move between issuers, URLs do not. An issuer that left takes those along who act for others; one that never was here
// is vouched for by the principal's own.
func (v *View) Recognise(p identity.Principal) (identity.Principal, bool) {
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

// ErrIssuerLeft is for evidence that was good until its issuer left the access configuration.
var ErrIssuerLeft = fault.New(fault.Unauthenticated, "acquire", "the token's issuer has just left the access configuration")

// ErrRevisionChanged is for what was decided by a view that is active no more. See [Guard.Refresh].
var ErrRevisionChanged = errors.New("the active access revision changed")

// Check returns [ErrRevisionChanged] where another revision is active than the view's.
func (v *View) Check(tx *store.Tx) error {
	active, err := tx.ActiveID()
	if err != nil {
		return err
	}
	if active != v.Revision {
		return ErrRevisionChanged
	}
	return nil
}
