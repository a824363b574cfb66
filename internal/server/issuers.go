package server

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/source"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
)

// issuers are the verifiers in use. A verifier whose configuration stays the same stays the same over revisions,
// with the keys that it has: activating a revision asks no issuer anything.
type issuers struct {
	audience string // our own URL
	secrets  secrets
	store    *store.Store
	now      func() time.Time
	log      *slog.Logger
	figures  *figures

	mu      sync.Mutex                // guards the fields below
	active  map[string]*oidc.Verifier // of the deployed view, by fingerprint
	byName  map[string]*oidc.Verifier // the same, by the issuer's name
	changed chan struct{}             // has one value after a change
}

// build returns the verifiers of a configuration, new ones where no active one fits.
func (p *issuers) build(cfg *access.Config) (*verifiers, source.Errors) {
	out := &verifiers{figures: p.figures, byURL: map[string]*oidc.Verifier{}, nameOf: map[string]string{}, byName: map[string]*oidc.Verifier{}, byFingerprint: map[string]*oidc.Verifier{}}
	var wrong source.Errors
	for _, name := range slices.Sorted(maps.Keys(cfg.Issuers)) {
		issuer := cfg.Issuers[name]
		verifier, fingerprint, err := p.verifier(issuer)
		if err != nil {
			wrong = append(wrong, &source.Error{File: issuer.Place.File, Line: issuer.Place.Line, Column: issuer.Place.Column, Message: err.Error()})
			continue
		}
		out.byURL[issuer.OIDC.URL], out.byName[name], out.byFingerprint[fingerprint] = verifier, verifier, verifier
		out.nameOf[issuer.OIDC.URL] = name
	}
	return out, wrong
}

func (p *issuers) verifier(issuer access.Issuer) (*oidc.Verifier, string, error) {
	cfg := oidc.Config{
		Name:     issuer.Name,
		URL:      issuer.OIDC.URL,
		Audience: issuer.OIDC.Audience,
		Keys:     keyStore{p.store},
		Now:      p.now,
		Log:      p.log,
	}
	if cfg.Audience == "" {
		cfg.Audience = p.audience
	}
	if issuer.OIDC.CAFile != "" {
		var err error
		if cfg.CA, err = p.secrets.certificates(issuer.OIDC.CAFile); err != nil {
			return nil, "", fmt.Errorf("ca_file of issuer %q: %w", issuer.Name, err)
		}
	}
	fingerprint := fmt.Sprintf("%q %q %q %q", cfg.Name, cfg.URL, cfg.Audience, cfg.CA)
	p.mu.Lock()
	known := p.active[fingerprint]
	p.mu.Unlock()
	if known != nil {
		return known, fingerprint, nil
	}
	verifier, err := oidc.New(cfg)
	return verifier, fingerprint, err
}

// deploy makes the verifiers of a view those whose keys are kept fresh.
func (p *issuers) deploy(v *verifiers) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active, p.byName = v.byFingerprint, v.byName
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// current returns the active verifiers by the names of their issuers.
func (p *issuers) current() map[string]*oidc.Verifier {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.byName)
}

// run keeps the keys of the active verifiers fresh until ctx ends.
func (p *issuers) run(ctx context.Context) error {
	running := map[*oidc.Verifier]context.CancelFunc{} // owned by this goroutine
	var all sync.WaitGroup
	defer all.Wait()
	for {
		wanted := map[*oidc.Verifier]bool{}
		for _, v := range p.current() {
			wanted[v] = true
			if running[v] != nil {
				continue
			}
			own, stop := context.WithCancel(ctx)
			running[v] = stop
			all.Go(func() { _ = v.Run(own) }) // it ends with its context and returns nothing
		}
		for v, stop := range running {
			if !wanted[v] {
				stop()
				delete(running, v)
			}
		}
		select {
		case <-ctx.Done():
			for _, stop := range running {
				stop()
			}
			return nil
		case <-p.changed:
		}
	}
}

// verifiers are the verifiers of one view. It sends each token to the issuer that it names.
type verifiers struct {
	figures       *figures
	byURL         map[string]*oidc.Verifier
	nameOf        map[string]string // by URL
	byName        map[string]*oidc.Verifier
	byFingerprint map[string]*oidc.Verifier
}

var _ identity.Verifier = (*verifiers)(nil)

// Verify implements [identity.Verifier]. What the token says of its issuer is believed for nothing but the choice
// of the verifier, which then checks it against its own.
func (v *verifiers) Verify(ctx context.Context, evidence secret.Text) (p identity.Principal, err error) {
	begun, url := time.Now(), ""
	defer func() { v.figures.verified(v.nameOf[url], err, time.Since(begun)) }()
	if url, err = claimedIssuer(evidence.Reveal()); err != nil {
		return identity.Principal{}, err
	}
	verifier, ok := v.byURL[url]
	if !ok {
		return identity.Principal{}, fmt.Errorf("the token names the issuer %.100q, which is not configured: %w", url, identity.ErrRejected)
	}
	return verifier.Verify(ctx, evidence)
}

// claimedIssuer reads `iss` of a token that nobody has verified.
func claimedIssuer(token string) (string, error) {
	malformed := fmt.Errorf("the evidence is not a token: %w", identity.ErrRejected)
	if len(token) > api.MaxToken {
		return "", malformed
	}
	_, rest, ok := strings.Cut(token, ".")
	payload, _, more := strings.Cut(rest, ".")
	if !ok || !more {
		return "", malformed
	}
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return "", malformed
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return "", malformed // without the cause, which may quote the token
	}
	return claims.Issuer, nil
}

// keyStore keeps issuers' keys in the store.
type keyStore struct{ store *store.Store }

var _ oidc.KeyStore = keyStore{}

// Keys implements [oidc.KeyStore].
func (k keyStore) Keys(ctx context.Context, url string) (jwks []byte, fetchedAt time.Time, err error) {
	err = k.store.View(ctx, func(tx *store.Tx) (err error) {
		jwks, fetchedAt, err = tx.IssuerKeys(url)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return nil, time.Time{}, nil
	}
	return jwks, fetchedAt, err
}

// PutKeys implements [oidc.KeyStore].
func (k keyStore) PutKeys(ctx context.Context, url string, jwks []byte, fetchedAt time.Time) error {
	return k.store.Update(ctx, func(tx *store.Tx) error { return tx.PutIssuerKeys(url, jwks, fetchedAt) })
}
