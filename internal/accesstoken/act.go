package accesstoken

import (
	"errors"
	"maps"

	"github.com/daypass/daypass/identity"
)

// The claims of delegation: RFC 8693 §4.1 and §4.4.
const (
	actClaim    = "act"
	mayActClaim = "may_act"
)

// maxActors bounds a chain of actors.
const maxActors = 4

// Actor is one that acts for a principal.
type Actor struct{ IssuerURL, Subject string }

// errMayNot is why an actor does not act for a subject.
var (
	errMayNot  = errors.New("the subject token does not name the actor in may_act (RFC 8693 §4.4)")
	errTooMany = errors.New("the chain of actors is too long (RFC 8693 §4.1)")
)

// Delegate returns the subject with the actor who acts for it, on top of those who did before. Only an actor whom the
// subject's token names may: else whoever gets hold of a token could have a third party use it.
func Delegate(subject, actor identity.Principal) (identity.Principal, error) {
	may, _ := subject.Claims[mayActClaim].(map[string]any)
	if may["iss"] != actor.IssuerURL || may["sub"] != actor.Subject || actor.Subject == "" {
		return subject, errMayNot
	}
	act := map[string]any{"iss": actor.IssuerURL, "sub": actor.Subject}
	if before, ok := subject.Claims[actClaim]; ok {
		act[actClaim] = before
	}
	subject.Claims = maps.Clone(subject.Claims)
	subject.Claims[actClaim] = act
	if len(Actors(subject)) > maxActors {
		return subject, errTooMany
	}
	return subject, nil
}

// Actors returns who acts for a principal, the one that does so now first. Of a chain that goes on too long it
// returns one more than there may be.
func Actors(p identity.Principal) (chain []Actor) {
	act, _ := p.Claims[actClaim].(map[string]any)
	for act != nil && len(chain) <= maxActors {
		issuer, _ := act["iss"].(string)
		subject, _ := act["sub"].(string)
		chain = append(chain, Actor{issuer, subject})
		act, _ = act[actClaim].(map[string]any)
	}
	return chain
}
