package spiffe

import (
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/daypass/daypass/identity"
)

const (
	maxSubject = 255 // bytes; identity.Principal promises it
	maxDomain  = 200 // so that paths have room
)

// member returns the SPIFFE ID of a workload of our trust domain. The trust domain itself is no workload.
func (v *Verifier) member(text string) (spiffeid.ID, error) {
	id, err := spiffeid.FromString(text)
	switch {
	case err != nil || len(text) > maxSubject || id.String() != text:
		return id, fmt.Errorf("%s is not a SPIFFE ID, or has more than %d bytes", identity.Quote(text), maxSubject)
	case id.TrustDomain() != v.domain:
		return id, fmt.Errorf("%s is not of the trust domain %s", identity.Quote(text), v.domain.Name())
	case id.Path() == "":
		return id, fmt.Errorf("%s is a trust domain and no workload", identity.Quote(text))
	}
	return id, nil
}

// belongs says whether the claims of a JWT-SVID are of our trust domain. Its `iss`, if any, means nothing
// [JWT-SVID, 3].
func (v *Verifier) belongs(claims map[string]any) error {
	subject, ok := claims["sub"].(string)
	if !ok {
		return errors.New("it has no subject")
	}
	_, err := v.member(subject)
	return err
}

// claims are what policies may ask of every SPIFFE identity.
func (v *Verifier) claims(subject string) map[string]any {
	id, err := v.member(subject)
	if err != nil {
		return nil // it was looked at before
	}
	return map[string]any{"spiffe_id": id.String(), "trust_domain": id.TrustDomain().Name(), "path": id.Path()}
}
