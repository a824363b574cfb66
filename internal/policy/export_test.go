package policy

import "github.com/cedar-policy/cedar-go"

// Looks counts the policies that a decision looks at.
func (e *Engine) Looks(r Request) (n int) {
	issuer := e.issuers[r.Principal.Issuer]
	for range e.candidates(r, issuer, e.entities(r, issuer, cedar.Record{})).All() {
		n++
	}
	return n
}
