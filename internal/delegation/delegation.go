// Package delegation reads and grows chains of actors: who acts for a principal, as its claim `act` says (RFC 8693 §4.1).
//
// It promises one reading of that claim to all who ask, so that nobody acts who is not seen: what makes tokens, what
// records leases and what ends them. It imports the standard library only.
package delegation

import (
	"errors"
	"maps"
)

// The claims of delegation: RFC 8693 §4.1 and §4.4.
const (
	actClaim    = "act"
	mayActClaim = "may_act"
)

// Bounds of a chain. Evidence that passes them is refused.
const (
	Most        = 4   // actors
	mostIssuer  = 512 // bytes of an issuer's URL, as in access files
	mostSubject = 255 // bytes of a subject, as of any principal
)

// Actor is one that acts for a principal.
type Actor struct {
	IssuerURL string
	Subject   string // empty where the claim names an issuer alone
}

// Why an actor does not act for a subject.
var (
	ErrMayNot  = errors.New("the subject token does not name the actor in may_act (RFC 8693 §4.4)")
	ErrTooMany = errors.New("the chain of actors is too long (RFC 8693 §4.1)")
	ErrTooLong = errors.New("the name of an actor is too long (RFC 8693 §4.1)")
	ErrNobody  = errors.New("the claim act names nobody who could be locked (RFC 8693 §4.1)")
)

// Chain returns who acts for a principal with these claims, the one that does so now first. An actor whose claim names
// no issuer is of the principal's own, which signed that.
func Chain(claims map[string]any, issuerURL string) (chain []Actor) {
	act, _ := claims[actClaim].(map[string]any)
	for act != nil {
		issuer, _ := act["iss"].(string)
		subject, _ := act["sub"].(string)
		if issuer == "" {
			issuer = issuerURL
		}
		chain = append(chain, Actor{issuer, subject})
		act, _ = act[actClaim].(map[string]any)
	}
	return chain
}

// Check refuses claims with more actors than there may be, with names that are longer, and with an actor that [Chain]
// would not see as it is written.
func Check(claims map[string]any) error {
	chain := Chain(claims, "")
	if len(chain) > Most {
		return ErrTooMany
	}
	for _, actor := range chain {
		if len(actor.IssuerURL) > mostIssuer || len(actor.Subject) > mostSubject {
			return ErrTooLong
		}
	}
	if !named(claims[actClaim]) {
		return ErrNobody
	}
	return nil
}

// named reports whether a claim act is none, or says in texts who acts, and who did before.
func named(act any) bool {
	if act == nil {
		return true
	}
	actor, _ := act.(map[string]any)
	says := 0
	for _, name := range []string{"iss", "sub"} {
		value, there := actor[name]
		if text, _ := value.(string); there && text == "" {
			return false
		} else if there {
			says++
		}
	}
	return says > 0 && named(actor[actClaim])
}

// Grow returns a subject's claims with the actor who acts for it, on top of those who did before. Only an actor whom the
// subject's token names may: else whoever gets hold of a token could have a third party use it.
func Grow(claims map[string]any, actor Actor) (map[string]any, error) {
	may, _ := claims[mayActClaim].(map[string]any)
	if may["iss"] != actor.IssuerURL || may["sub"] != actor.Subject || actor.Subject == "" {
		return nil, ErrMayNot
	}
	act := map[string]any{"iss": actor.IssuerURL, "sub": actor.Subject}
	if before, ok := claims[actClaim]; ok {
		act[actClaim] = before
	}
	grown := maps.Clone(claims)
	grown[actClaim] = act
	return grown, Check(grown)
}
