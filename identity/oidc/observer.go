package oidc

import (
	"errors"
	"time"

	"github.com/daypass/daypass/identity"
)

// Observer hears what a verifier notices of its issuer. Requests wait meanwhile: its methods return at once. They may
// be called concurrently.
type Observer interface {
	// Fetched is called after each fetch of the keys.
	Fetched(Fetch)
	// Verified is called after each token.
	Verified(Verification)
}

// Discovery is what we use of an issuer's discovery document.
type Discovery struct {
	KeysAt     string   // its jwks_uri
	Algorithms []string // its id_token_signing_alg_values_supported, sorted
}

// ErrOtherIssuer says that a discovery document is about another issuer than the one it was asked of.
var ErrOtherIssuer = errors.New("is about another issuer")

// Fetch is what came of asking an issuer for its keys.
type Fetch struct {
	Issuer    string // its name
	Err       error  // nil: the keys are good
	Discovery Discovery
	// Before and Now count the keys in use before and after, and Kept those of before that are still there, under
	// whatever ID. Before is 0 where there were none to compare with.
	Before, Now, Kept int
}

// Verification is what came of looking at a token.
type Verification struct {
	Issuer string // the name of the one that looked
	// Why says why the token was rejected; empty where it was not.
	Why Why
	// Unavailable says that nobody could tell, UnknownKey for the reason that the key set, as we have it, lacks the key.
	Unavailable, UnknownKey bool
	// IssuedAt and NotBefore are what the token says, by the issuer's clock. They are zero unless the signature is good.
	IssuedAt, NotBefore time.Time
}

// observe tells the observer of a verification.
func (v *Verifier) observe(p identity.Principal, err error) {
	if v.cfg.Observer == nil {
		return
	}
	seen := Verification{Issuer: v.cfg.Name, IssuedAt: p.IssuedAt}
	if rejection, ok := errors.AsType[*Rejection](err); ok {
		seen.Why = rejection.Why
	} else if err != nil {
		seen.Unavailable, seen.UnknownKey = true, errors.Is(err, ErrUnknownKey)
	}
	if seen.Why == WhyEarly {
		seen.NotBefore, _ = numericDate(p.Claims["nbf"])
	}
	v.cfg.Observer.Verified(seen)
}

// observeFetch compares the keys of two fetches.
func observeFetch(issuer string, discovery Discovery, had, have map[string]*key, err error) Fetch {
	seen := Fetch{Issuer: issuer, Err: err, Discovery: discovery, Before: len(had), Now: len(have)}
	for _, old := range had {
		for _, k := range have {
			if public, ok := old.public.(comparableKey); ok && public.Equal(k.public) {
				seen.Kept++
				break
			}
		}
	}
	return seen
}
