package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/source"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/watch"
	"github.com/daypass/daypass/secret"
)

// issuerKind is a kind of issuer: how access files write it, and how its evidence is checked.
type issuerKind struct {
	access.IssuerKind
	// open makes what checks the issuer's evidence. It asks nobody anything.
	open func(order issuerOrder) (openIssuer, error)
	// files are the references of its settings to files below secrets_dir; nil where there are none.
	files func(access.Issuer) ([]reference, error)
	// prefix begins the tokens of this kind that no JSON Web Token is; empty where there are none.
	prefix string
	// claimed reads which issuer such a token names, where there can be several of the kind; nil where there is one.
	claimed func(secret.Text) (url string, err error)
}

// issuerOrder is what an issuer's verifier is made from.
type issuerOrder struct {
	config   access.Issuer
	audience string // our own URL
	keys     oidc.KeyStore
	store    *store.Store
	secrets  secrets
	observer oidc.Observer
	egress   egress.Dialer
	now      func() time.Time
	log      *slog.Logger
}

// openIssuer is what checks the evidence of one issuer.
type openIssuer struct {
	tokens       identity.Verifier            // nil: the issuer has none
	certificates identity.CertificateVerifier // nil: the issuer has none
	run          func(context.Context) error  // keeps its keys fresh until the context ends; nil where that is nothing to do
	status       func() oidc.Status           // of its keys; nil where it has none of its own
	relied       time.Duration                // how long its word counts that it can take back; zero: it cannot
}

// issuerKinds are the kinds of issuers beside oidc. This is the one place that names them.
func issuerKinds() map[string]issuerKind {
	return map[string]issuerKind{"aws": awsIssuers(), access.KindDevices: deviceIssuers(), "kubernetes": kubernetesIssuers(), "mtls": mtlsIssuers(), "spiffe": spiffeIssuers()}
}

// openOIDC makes the verifier of an issuer of OpenID Connect tokens.
func openOIDC(order issuerOrder) (openIssuer, error) {
	issuer := order.config
	cfg := oidc.Config{
		Name:     issuer.Name,
		URL:      issuer.URL,
		Audience: cmp.Or(issuer.OIDC.Audience, order.audience),
		Keys:     order.keys,
		Egress:   order.egress,
		Observer: order.observer,
		Now:      order.now,
		Log:      order.log,
	}
	preset, _ := access.PresetOf(issuer.Preset)
	cfg.Flatten, cfg.MaxAge = preset.Flatten, preset.MaxAge
	cfg.Algorithms, cfg.Types = preset.Habits(issuer.URL)
	if issuer.OIDC.CAFile != "" {
		var err error
		if cfg.CA, err = order.secrets.certificates(issuer.OIDC.CAFile); err != nil {
			return openIssuer{}, fmt.Errorf("ca_file of issuer %q: %w", issuer.Name, err)
		}
	}
	v, err := oidc.New(cfg)
	if err != nil {
		return openIssuer{}, err
	}
	return openIssuer{tokens: v, run: v.Run, status: v.Status}, nil
}

func oidcFiles(issuer access.Issuer) ([]reference, error) {
	if issuer.OIDC.CAFile == "" {
		return nil, nil
	}
	return []reference{{issuer.OIDC.CAFile, true}}, nil
}

// issuers are the verifiers in use. A verifier whose configuration stays the same stays the same over revisions,
// with the keys that it has: activating a revision asks no issuer anything.
type issuers struct {
	kinds    map[string]issuerKind
	audience string // our own URL
	secrets  secrets
	store    *store.Store
	now      func() time.Time
	log      *slog.Logger
	figures  *figures
	watch    *watch.Watcher
	egress   egress.Dialer

	mu      sync.Mutex             // guards the fields below
	active  map[string]*usedIssuer // of the deployed view, by name
	changed chan struct{}          // has one value after a change
}

// usedIssuer is an open issuer, and what it was made from.
type usedIssuer struct {
	openIssuer
	name, url   string
	prefix      string
	claimed     func(secret.Text) (string, error)
	fingerprint string
}

// build returns the verifiers of a configuration, new ones where no active one fits.
func (p *issuers) build(cfg *access.Config) (*verifiers, source.Errors) {
	out := &verifiers{figures: p.figures, watch: p.watch, byURL: map[string]*usedIssuer{}, byName: map[string]*usedIssuer{}}
	var wrong source.Errors
	for _, name := range slices.Sorted(maps.Keys(cfg.Issuers)) {
		issuer := cfg.Issuers[name]
		used, err := p.open(issuer)
		if err != nil {
			wrong = append(wrong, &source.Error{File: issuer.Place.File, Line: issuer.Place.Line, Column: issuer.Place.Column, Message: err.Error()})
			continue
		}
		out.byURL[issuer.URL], out.byName[name] = used, used
		if used.certificates != nil {
			out.certified = append(out.certified, used)
		}
	}
	return out, wrong
}

// open returns the issuer in use that was made from the same, or a new one.
func (p *issuers) open(issuer access.Issuer) (*usedIssuer, error) {
	k := issuerKind{open: openOIDC, files: oidcFiles}
	if issuer.Kind != access.KindOIDC {
		k = p.kinds[issuer.Kind]
	}
	print, err := issuerFingerprint(issuer, k, p.secrets)
	if err != nil {
		return nil, fmt.Errorf("issuer %q: %w", issuer.Name, err)
	}
	p.mu.Lock()
	known := p.active[issuer.Name]
	p.mu.Unlock()
	if known != nil && known.fingerprint == print {
		return known, nil
	}
	opened, err := k.open(issuerOrder{config: issuer, audience: p.audience, keys: keyStore{p.store}, store: p.store, secrets: p.secrets, observer: p.watch, egress: p.egress, now: p.now, log: p.log})
	return &usedIssuer{opened, issuer.Name, issuer.URL, k.prefix, k.claimed, print}, err
}

// issuerFingerprint is a hash of all that a verifier is made from, its files included.
func issuerFingerprint(issuer access.Issuer, k issuerKind, s secrets) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %q %q", issuer.Name, issuer.Kind, issuer.URL, issuer.Preset, issuer.OIDC, issuer.Settings)
	if k.files == nil {
		return string(h.Sum(nil)), nil
	}
	files, err := k.files(issuer)
	if err != nil {
		return "", err
	}
	for _, file := range files {
		data, err := file.read(s)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, " %q %x", file.name, sha256.Sum256(data))
	}
	return string(h.Sum(nil)), nil
}

// deploy makes the verifiers of a view those whose keys are kept fresh.
func (p *issuers) deploy(v *verifiers) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active = v.byName
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// current returns the active issuers by name.
func (p *issuers) current() map[string]*usedIssuer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.active)
}

// wantCertificates reports whether some active issuer has clients show certificates.
func (p *issuers) wantCertificates() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, used := range p.active {
		if used.certificates != nil {
			return true
		}
	}
	return false
}

// run keeps the keys of the active issuers fresh until ctx ends.
func (p *issuers) run(ctx context.Context) error {
	running := map[*usedIssuer]context.CancelFunc{} // owned by this goroutine
	var all sync.WaitGroup
	defer all.Wait()
	for {
		wanted := map[*usedIssuer]bool{}
		for _, used := range p.current() {
			wanted[used] = true
			if running[used] != nil || used.run == nil {
				continue
			}
			own, stop := context.WithCancel(ctx)
			running[used] = stop
			all.Go(func() { _ = used.run(own) }) // it ends with its context and returns nothing
		}
		for used, stop := range running {
			if !wanted[used] {
				stop()
				delete(running, used)
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

// verifiers are the verifiers of one view. It sends each piece of evidence to the issuer that it names.
type verifiers struct {
	figures   *figures
	watch     *watch.Watcher
	byURL     map[string]*usedIssuer
	byName    map[string]*usedIssuer
	certified []*usedIssuer // those that take certificates, by name
}

var _ broker.Verifier = (*verifiers)(nil)

// Verify implements [identity.Verifier]. What the token says of its issuer is believed for nothing but the choice
// of the verifier, which then checks it against its own.
func (v *verifiers) Verify(ctx context.Context, evidence secret.Text) (p identity.Principal, err error) {
	begun, name := time.Now(), ""
	defer func() { v.figures.verified(name, err, time.Since(begun)) }()
	used, err := v.choose(evidence)
	if err != nil {
		return identity.Principal{}, err
	}
	name = used.name
	p, err = used.tokens.Verify(ctx, evidence)
	if errors.Is(err, identity.ErrRejected) {
		v.watch.Rejected(name, err)
	}
	return p, err
}

// choose returns the issuer whose tokens look like this one.
func (v *verifiers) choose(token secret.Text) (*usedIssuer, error) {
	urls, err := v.claimed(token)
	if err != nil {
		return nil, err
	}
	for _, url := range urls {
		if used := v.byURL[url]; used != nil && used.tokens != nil {
			return used, nil
		}
	}
	v.watch.Knocked(urls[0])
	return nil, fmt.Errorf("the token names the issuer %.100q, which is not configured: %w", urls[0], identity.ErrRejected)
}

// claimed returns who a token says it is from, one at least.
func (v *verifiers) claimed(token secret.Text) ([]string, error) {
	text := token.Reveal()
	for _, used := range v.byName {
		if used.prefix != "" && strings.HasPrefix(text, used.prefix) {
			if used.claimed == nil {
				return []string{used.url}, nil
			}
			url, err := used.claimed(token)
			return []string{url}, err
		}
	}
	return claimedIssuers(text)
}

// Relied implements [broker.Verifier].
func (v *verifiers) Relied(issuerURL string) time.Duration {
	if used := v.byURL[issuerURL]; used != nil {
		return used.relied
	}
	return 0
}

// VerifyCertificate implements [identity.CertificateVerifier]. The issuers are asked one after the other: a chain
// leads to one of them, and those to whom it does not lead reject it.
func (v *verifiers) VerifyCertificate(ctx context.Context, chain []*x509.Certificate) (p identity.Principal, err error) {
	begun, name := time.Now(), ""
	defer func() { v.figures.verified(name, err, time.Since(begun)) }()
	refusals := []error{fmt.Errorf("no issuer accepts the client certificate: %w", identity.ErrRejected)}
	for _, used := range v.certified {
		p, err = used.certificates.VerifyCertificate(ctx, chain)
		if !errors.Is(err, identity.ErrRejected) {
			name = used.name
			return p, err
		}
		refusals = append(refusals, err)
	}
	return identity.Principal{}, errors.Join(refusals...)
}

// claimedIssuers reads who a token that nobody has verified says it is from: `iss`, and the trust domain of a SPIFFE ID
// in `sub`. JWT-SVIDs need no `iss`, and those that have one may have any.
func claimedIssuers(token string) ([]string, error) {
	malformed := fmt.Errorf("the evidence is not a token: %w", identity.ErrRejected)
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
	if path, ok := strings.CutPrefix(claims.Subject, spiffeScheme); ok {
		domain, _, _ := strings.Cut(path, "/")
		urls = append(urls, spiffeScheme+domain)
	}
	if urls == nil {
		return nil, fmt.Errorf("the token names no issuer: %w", identity.ErrRejected)
	}
	return urls, nil
}

// spiffeScheme begins SPIFFE IDs and the URLs of trust domains.
const spiffeScheme = "spiffe://"

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
