package accesstoken

import (
	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/delegation"
)

// Delegate returns the subject with the actor who acts for it; see [delegation.Grow].
func Delegate(subject, actor identity.Principal) (identity.Principal, error) {
	claims, err := delegation.Grow(subject.Claims, delegation.Actor{IssuerURL: actor.IssuerURL, Subject: actor.Subject})
	if err == nil {
		subject.Claims = claims
	}
	return subject, err
}

// Actors returns who acts for a principal, the one that does so now first.
func Actors(p identity.Principal) []delegation.Actor { return delegation.Chain(p.Claims, p.IssuerURL) }
