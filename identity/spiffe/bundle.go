package spiffe

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/oidc"
)

// The profiles of bundle endpoints [SPIFFE Federation, 5].
const (
	Web    = "https_web"    // the endpoint shows a certificate of an authority of the web
	SPIFFE = "https_spiffe" // the endpoint shows an X509-SVID of the trust domain
)

// maxBundle is how many bytes a bundle may have.
const maxBundle = 512 << 10

// Bundle says where the trust domain's bundle comes from: a file, or an endpoint.
type Bundle struct {
	// File returns a bundle in the JWKS form of SPIFFE. Without Endpoint it is read every minute; with the profile
	// https_spiffe it holds the first authorities, by which the endpoint is known until it gave others.
	File func() ([]byte, error)

	Endpoint string // an https URL
	Profile  string // [Web] or [SPIFFE]
	ServerID string // of the profile https_spiffe: the SPIFFE ID of the endpoint, in the trust domain
	CA       []byte // of the profile https_web: authorities in PEM to trust instead of the system's

	Egress egress.Dialer // makes the connections to the endpoint
}

// source returns what fetches the bundle for v.
func (b Bundle) source(v *Verifier) (func(context.Context) (oidc.KeySet, error), error) {
	if b.Endpoint == "" {
		if b.File == nil || b.Profile != "" || b.ServerID != "" || b.CA != nil {
			return nil, errors.New("a bundle comes from a file, or from an endpoint with a profile")
		}
		return func(context.Context) (oidc.KeySet, error) { return readFile(b.File, v.domain) }, nil
	}
	u, err := url.Parse(b.Endpoint)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Contains(b.Endpoint, "#") {
		return nil, fmt.Errorf("%s is not an https URL of a bundle endpoint", identity.Quote(b.Endpoint))
	}
	e := &endpoint{verifier: v, url: b.Endpoint, file: b.File}
	switch b.Profile {
	case Web:
		err = e.web(b)
	case SPIFFE:
		err = e.spiffe(b)
	default:
		err = fmt.Errorf("the profile of a bundle endpoint is %s or %s", Web, SPIFFE)
	}
	return e.fetch, err
}

// readFile reads a bundle from a file. Its refresh hint is for those who ask an endpoint; a file that was replaced
// counts within a minute.
func readFile(read func() ([]byte, error), domain spiffeid.TrustDomain) (oidc.KeySet, error) {
	text, err := read()
	if err != nil {
		return oidc.KeySet{}, fmt.Errorf("read the bundle: %w", err)
	}
	_, err = parse(domain, text)
	return oidc.KeySet{JWKS: text, MaxAge: 0}, err
}

func parse(domain spiffeid.TrustDomain, text []byte) (*spiffebundle.Bundle, error) {
	if len(text) > maxBundle {
		return nil, fmt.Errorf("the bundle has more than %d bytes", maxBundle)
	}
	bundle, err := spiffebundle.Parse(domain, text)
	if err != nil {
		return nil, errors.New("the bundle is not a key set of SPIFFE")
	}
	return bundle, nil
}

// endpoint fetches a bundle.
type endpoint struct {
	verifier *Verifier
	url      string
	server   spiffeid.ID // zero with the profile https_web
	file     func() ([]byte, error)
	client   *http.Client

	mu       sync.Mutex           // guards the fields below
	latest   *spiffebundle.Bundle // that the endpoint gave; nil before the first
	latestAt time.Time
}

// web knows the endpoint by authorities of the web.
func (e *endpoint) web(b Bundle) error {
	if b.ServerID != "" || b.File != nil {
		return fmt.Errorf("a file and the endpoint's SPIFFE ID are for the profile %s", SPIFFE)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if b.CA != nil {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(b.CA) {
			return errors.New("the authorities hold no PEM certificate")
		}
	}
	e.client = newClient(config, b.Egress)
	return nil
}

// spiffe knows the endpoint by its X509-SVID. The trust domain vouches for itself: the bundle that the endpoint gave
// last says by whom the next one must come, and a file says it the first time.
func (e *endpoint) spiffe(b Bundle) error {
	var err error
	if e.server, err = e.verifier.member(b.ServerID); err != nil {
		return fmt.Errorf("the endpoint's SPIFFE ID: %w", err)
	}
	if b.File == nil || b.CA != nil {
		return fmt.Errorf("the profile %s needs a file with the first bundle, and no other authorities", SPIFFE)
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		// The name of the host means nothing here: VerifyConnection asks for the X509-SVID instead, also of a session
		// that is taken up again.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection:   e.authenticate,
	}
	e.client = newClient(config, b.Egress)
	return nil
}

// authenticate holds a connection to the endpoint's SPIFFE ID.
func (e *endpoint) authenticate(state tls.ConnectionState) error {
	bundle, err := e.authorities()
	if err != nil {
		return err
	}
	id, _, err := x509svid.Verify(state.PeerCertificates, bundle, x509svid.WithTime(e.verifier.cfg.Now()))
	if err != nil {
		return errors.New("the bundle endpoint shows no X509-SVID of the trust domain: " + explain(err).Error()) // text alone: no workload is rejected
	}
	if id != e.server {
		return fmt.Errorf("the bundle endpoint is %s, not %s", identity.Quote(id.String()), identity.Quote(e.server.String()))
	}
	return nil
}

// authorities returns the bundle that the endpoint must be vouched for by: the last one that it gave, in this run or
// in an earlier one, or that of the file. One that is too old to verify workloads is too old for this, too, so that
// an operator can begin again with a new file.
func (e *endpoint) authorities() (*spiffebundle.Bundle, error) {
	cfg := e.verifier.cfg
	life := cmp.Or(cfg.Keep, oidc.DefaultKeyLife)
	e.mu.Lock()
	latest, at := e.latest, e.latestAt
	e.mu.Unlock()
	if latest != nil && cfg.Now().Sub(at) < life {
		return latest, nil
	}
	if latest == nil && cfg.Keys != nil {
		ctx, cancel := context.WithTimeout(context.Background(), oidc.DefaultTimeout)
		defer cancel()
		text, at, err := cfg.Keys.Keys(ctx, e.verifier.domain.IDString())
		if err == nil && len(text) > 0 && cfg.Now().Sub(at) < life {
			return parse(e.verifier.domain, text)
		}
	}
	first, err := readFile(e.file, e.verifier.domain)
	if err != nil {
		return nil, err
	}
	return parse(e.verifier.domain, first.JWKS)
}

// fetch asks the endpoint for the bundle.
func (e *endpoint) fetch(ctx context.Context) (oidc.KeySet, error) {
	text, err := e.get(ctx)
	if err != nil {
		return oidc.KeySet{}, fmt.Errorf("fetch the bundle: %w", err)
	}
	bundle, err := parse(e.verifier.domain, text)
	if err != nil {
		return oidc.KeySet{}, err
	}
	e.mu.Lock()
	e.latest, e.latestAt = bundle, e.verifier.cfg.Now()
	e.mu.Unlock()
	set := oidc.KeySet{JWKS: text, MaxAge: -1}
	if hint, ok := bundle.RefreshHint(); ok && hint > 0 {
		set.MaxAge = hint
	}
	return set, nil
}

// get reads the endpoint's answer.
func (e *endpoint) get(ctx context.Context) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "daypass")
	response, err := e.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %d; redirects are not followed", e.url, response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBundle+1))
	if err == nil && len(text) > maxBundle {
		err = fmt.Errorf("%s sends more than %d bytes", e.url, maxBundle)
	}
	return text, err
}

// newClient speaks to one endpoint. A connection is not kept longer than the bundle that it was vouched for by may be.
func newClient(config *tls.Config, dialer egress.Dialer) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            dialer.DialContext,
			TLSClientConfig:        config,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // bounds are then bounds of what is sent
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
