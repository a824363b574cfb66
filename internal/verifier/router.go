package verifier

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/kind"
	"github.com/daypass/daypass/internal/watch"
	"github.com/daypass/daypass/secret"
)

// why evidence reaches no verifier: words that the verifiers of tokens have too.
type why string

const (
	whyMalformed why = "malformed"
	whyIssuer    why = "issuer"
	whyRevoked   why = "revoked"
)

// router is the verifiers of one view. It sends each piece of evidence to the issuer that it names.
type router struct {
	measure   func() func(issuer string, err error)
	watch     *watch.Watcher
	byURL     map[string]*used
	byName    map[string]*used
	certified []*used // those that take certificates, by name
}

var _ admission.Verifier = (*router)(nil)

// Verify implements [identity.Verifier]. What the token says of its issuer is believed for nothing but the choice
// of the verifier, which then checks it against its own.
func (r *router) Verify(ctx context.Context, evidence secret.Text) (p identity.Principal, err error) {
	name, done := "", r.measure()
	defer func() { done(name, err) }()
	u, err := r.choose(evidence)
	if err != nil {
		return identity.Principal{}, err
	}
	name = u.name
	p, err = u.Tokens.Verify(ctx, evidence)
	if errors.Is(err, identity.ErrRejected) {
		r.watch.Rejected(name, err)
	}
	return p, err
}

// choose returns the issuer whose tokens look like this one.
func (r *router) choose(token secret.Text) (*used, error) {
	urls, err := r.claimed(token)
	if err != nil {
		return nil, err
	}
	for _, url := range urls {
		if u := r.byURL[url]; u != nil && u.Tokens != nil {
			return u, nil
		}
	}
	r.watch.Knocked(urls[0])
	return nil, identity.Reject(whyIssuer, "the token names the issuer %.100q, which is not configured", urls[0])
}

// claimed returns who a token says it is from, one at least.
func (r *router) claimed(token secret.Text) ([]string, error) {
	text := token.Reveal()
	for _, u := range r.byName {
		if u.kind.Prefix != "" && strings.HasPrefix(text, u.kind.Prefix) {
			if u.kind.Claimed == nil {
				return []string{u.url}, nil
			}
			url, err := u.kind.Claimed(token)
			return []string{url}, err
		}
	}
	return claimedIssuers(text)
}

// Relied implements [admission.Verifier].
func (r *router) Relied(issuerURL string) time.Duration {
	if u := r.byURL[issuerURL]; u != nil {
		return u.Relied
	}
	return 0
}

// VerifyCertificate implements [identity.CertificateVerifier]. All issuers are asked: a chain leads to one of them as a
// rule, and those to whom it does not lead reject it. Where several share an authority, what is revoked at one is good at
// none, and where one of them cannot tell, nobody can; else the first that accepts it is its issuer.
func (r *router) VerifyCertificate(ctx context.Context, chain []*x509.Certificate) (p identity.Principal, err error) {
	name, done := "", r.measure()
	defer func() { done(name, err) }()
	refusals := []error{fmt.Errorf("no issuer accepts the client certificate: %w", identity.ErrRejected)}
	var accepted *identity.Principal
	for _, u := range r.certified {
		found, err := u.Certificates.VerifyCertificate(ctx, chain)
		reason, rejected := errors.AsType[reasoned](err)
		switch {
		case err == nil && accepted == nil:
			accepted, name = &found, u.name
		case err != nil && !errors.Is(err, identity.ErrRejected), rejected && reason.Reason() == string(whyRevoked):
			name = u.name
			return identity.Principal{}, err
		case err != nil:
			refusals = append(refusals, err)
		}
	}
	if accepted != nil {
		return *accepted, nil
	}
	return identity.Principal{}, errors.Join(refusals...)
}

// reasoned is a rejection of any verifier.
type reasoned interface {
	error
	Reason() string
}

// claimedIssuers reads who a token that nobody has verified says it is from: `iss`, and the trust domain of a SPIFFE ID
// in `sub`. JWT-SVIDs need no `iss`, and those that have one may have any.
func claimedIssuers(token string) ([]string, error) {
	malformed := identity.Reject(whyMalformed, "the evidence is not a token")
	if len(token) > api.MaxToken {
		return nil, malformed
	}
	_, rest, ok := strings.Cut(token, ".")
	payload, _, more := strings.Cut(rest, ".")
	if !ok || !more {
		return nil, malformed
	}
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return nil, malformed
	}
	var claims struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return nil, malformed // without the cause, which may quote the token
	}
	var urls []string
	if claims.Issuer != "" {
		urls = append(urls, claims.Issuer)
	}
	if path, ok := strings.CutPrefix(claims.Subject, kind.SPIFFEScheme); ok {
		domain, _, _ := strings.Cut(path, "/")
		urls = append(urls, kind.SPIFFEScheme+domain)
	}
	if urls == nil {
		return nil, identity.Reject(whyIssuer, "the token names no issuer")
	}
	return urls, nil
}
