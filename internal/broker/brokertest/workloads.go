package brokertest

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/secret"
)

// Workloads verify tokens that are names: alice and bob of payments, mallory, who visits, and operator. Their methods may
// be called concurrently.
type Workloads struct {
	mu     sync.Mutex // guards what follows
	known  map[string]identity.Principal
	relied map[string]time.Duration
	err    error
}

var _ admission.Verifier = (*Workloads)(nil)

func newWorkloads() *Workloads {
	w := &Workloads{known: map[string]identity.Principal{}, relied: map[string]time.Duration{}}
	for name, team := range map[string]string{"alice": "payments", "bob": "payments", "mallory": "visitors"} {
		w.Know(name, Workload("ci", name, map[string]any{"team": team}))
	}
	w.Know("operator", Workload("ops", "operator", map[string]any{"team": "platform"}))
	return w
}

// Workload is a principal of an issuer.
func Workload(issuer, subject string, claims map[string]any) identity.Principal {
	return identity.Principal{Issuer: issuer, IssuerURL: "https://" + issuer + ".example.com", Subject: subject, Claims: claims}
}

// Know has a token stand for a principal.
func (w *Workloads) Know(token string, p identity.Principal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known[token] = p
}

// Forget has a token stand for nobody any more.
func (w *Workloads) Forget(token string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.known, token)
}

// Principal is whom a token stands for.
func (w *Workloads) Principal(token string) identity.Principal {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.known[token]
	p.Claims = maps.Clone(p.Claims)
	return p
}

// Fail has nobody be verified any more: the issuers give no keys.
func (w *Workloads) Fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

// Rely says for how long the word of an issuer counts that can take it back.
func (w *Workloads) Rely(issuerURL string, on time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.relied[issuerURL] = on
}

// Relied implements [admission.Verifier].
func (w *Workloads) Relied(issuerURL string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.relied[issuerURL]
}

// VerifyCertificate implements [identity.CertificateVerifier]. Nobody has one.
func (w *Workloads) VerifyCertificate(context.Context, []*x509.Certificate) (identity.Principal, error) {
	return identity.Principal{}, identity.ErrRejected
}

// Verify implements [identity.Verifier].
func (w *Workloads) Verify(_ context.Context, evidence secret.Text) (identity.Principal, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return identity.Principal{}, w.err
	}
	p, ok := w.known[evidence.Reveal()]
	if !ok {
		return identity.Principal{}, fmt.Errorf("unknown workload: %w", identity.ErrRejected)
	}
	p.Claims = maps.Clone(p.Claims)
	return p, nil
}

// Places are the countries of addresses. Their methods may be called concurrently.
type Places struct {
	mu    sync.Mutex // guards known
	known map[netip.Addr]string
}

// Put has an address be in a country; the empty one is nowhere.
func (p *Places) Put(address netip.Addr, country string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[netip.Addr]string{}
	}
	p.known[address] = country
}

func (p *Places) of(address netip.Addr) (country, subdivision string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[address], ""
}

// Shown is a token as evidence.
func Shown(token secret.Text) admission.Evidence { return admission.Evidence{Token: token} }

// Origin is where callers come from.
func Origin() admission.Origin {
	return admission.Origin{Request: "r", SourceIP: netip.MustParseAddr("192.0.2.7")}
}

// Local is a caller of the administration socket.
func Local() admission.Caller { return admission.Caller{Local: true, UID: 0} }

// As is a caller with a token.
func As(token string) admission.Caller { return Holding(secret.New(token)) }

// Holding is a caller with a token that was handed out.
func Holding(token secret.Text) admission.Caller {
	return admission.Caller{Evidence: Shown(token), Origin: Origin()}
}

// Ask is a request for a role.
func Ask(token, role string) broker.AcquireRequest {
	return broker.AcquireRequest{Evidence: Shown(secret.New(token)), Role: role, Origin: Origin()}
}
